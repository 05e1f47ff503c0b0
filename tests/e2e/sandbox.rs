//! A machine of the story's own, and what a run needs of the real one before and after.

use std::fs::{File, TryLockError};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use support::namespaces::{Root, are_entered, command, inside};
use support::repository;

use crate::{cgroups, images};

/// A story takes eight minutes; this is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(1500);
/// What a kubelet would set for the whole machine, and what it wants there. It finds these instead.
const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Everything that a run builds and keeps: binaries, images, logs.
pub fn kept() -> PathBuf {
    repository().join("target/node")
}

/// Says what happens, and when: a run takes minutes.
pub fn say(what: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let seconds = START.get_or_init(Instant::now).elapsed().as_secs_f32();
    println!("e2e: {seconds:6.1} s  {what}");
}

/// Runs the test `name`, which is `story`, on a machine of its own.
pub fn run<F: Future<Output = ()>>(name: &str, story: impl FnOnce() -> F) {
    let outside = (!are_entered()).then(Outside::prepare);
    if inside(name, Root::Real, DEADLINE) {
        own_files();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime").block_on(story());
    }
    drop(outside);
}

/// While it lives, no other run begins. Afterwards nothing of this one is left.
struct Outside(#[expect(dead_code, reason = "held")] File);

impl Outside {
    fn prepare() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "real nodes take root: run make e2e as root"
        );
        for (program, package) in [("nft", "nftables"), ("buildah", "buildah"), ("sysctl", "procps")] {
            let found = Command::new(program).arg("--version").output();
            assert!(
                found.is_ok(),
                "{program} is missing: on Debian and Ubuntu, apt install {package}"
            );
        }
        let built = Command::new(repository().join("tests/node/build.sh")).status();
        assert!(
            built.expect("tests/node/build.sh").success(),
            "building the nodes' parts failed: see above"
        );
        let lock = File::create(kept().join("run.lock")).expect("a lock");
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => panic!("another run of make e2e is under way"),
            Err(TryLockError::Error(error)) => panic!("locking: {error}"),
        }
        // Of a run that was killed.
        cgroups::sweep().unwrap_or_else(|error| panic!("{error:#}"));
        images::build();
        Self(lock)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        match cgroups::sweep() {
            Ok(()) => {}
            // A second panic would hide why the story failed.
            Err(error) if std::thread::panicking() => eprintln!("{error:#}"),
            Err(error) => panic!("{error:#}"),
        }
    }
}

/// What containerd, kubelets and network plugins keep at fixed places, or for the whole machine, is gone with the namespaces.
fn own_files() {
    for path in ["/run", "/var/lib", "/var/log"] {
        command("mount", &format!("-t tmpfs tmpfs {path}"));
    }
    let masks = Path::new("/run/sysctl");
    for (name, value) in TUNABLES {
        let mask = masks.join(name);
        std::fs::create_dir_all(mask.parent().expect("a folder")).expect("a folder");
        std::fs::write(&mask, format!("{value}\n")).expect("a mask");
        command("mount", &format!("--bind {} /proc/sys/{name}", mask.display()));
    }
}
