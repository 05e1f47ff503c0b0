//! A machine of a test's own: its binary runs itself again in new namespaces. Whatever was started there ends with it, however it ends,
//! and what it mounted and configured is gone then.

use std::env::{current_exe, var_os};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::control_plane::binaries;

const INSIDE: &str = "RINGFENCE_TEST_SANDBOX";
const PARTS: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Whose root the test is inside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Root {
    /// Of a user namespace: anybody may start it.
    Mapped,
    /// The machine's, who alone can run containers with cgroups: only root may start it.
    Real,
}

/// Whether this process is in such namespaces.
#[must_use]
pub fn are_entered() -> bool {
    var_os(INSIDE).is_some()
}

/// True in the namespaces; elsewhere it runs the test `name` there, and says false once that has passed.
///
/// # Panics
/// When the test fails there, does not end within `deadline`, or no namespaces can be made.
#[must_use]
pub fn inside(name: &str, root: Root, deadline: Duration) -> bool {
    if are_entered() {
        return true;
    }
    // Each has a control plane of its own.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mapped = ["--user", "--map-root-user"];
    let namespaces = [if root == Root::Mapped { &mapped[..] } else { &[] }, &PARTS].concat();
    can_be_made(&namespaces);
    // There is no network inside to build it with.
    let bin = binaries().unwrap_or_else(|error| panic!("{error:#}"));
    let mut child = Command::new(bin.join("controlplane"))
        .args(["guard", "--", "unshare"])
        .args(namespaces)
        .arg(current_exe().expect("this binary"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        // Closed, it ends the guard and all that is inside: also when this process is killed.
        .stdin(Stdio::piped())
        .spawn()
        .expect("starting it in namespaces");
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait().expect("waiting for it") {
            assert!(
                status.success(),
                "{name} failed inside its namespaces ({status}): see above"
            );
            return false;
        }
        if Instant::now() > end {
            drop(child.stdin.take());
            let ended = child.wait();
            panic!("{name} did not end within {deadline:?}: see above ({ended:?})");
        }
        sleep(Duration::from_millis(100));
    }
}

/// Says what is missing, rather than fail somewhere inside.
fn can_be_made(namespaces: &[&str]) {
    for (program, package) in [
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
        ("nft", "nftables"),
    ] {
        let found = Command::new(program)
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            found.is_ok(),
            "{program} is missing: on Debian and Ubuntu, apt install {package}"
        );
    }
    let tried = Command::new("unshare")
        .args(namespaces)
        .arg("true")
        .output()
        .expect("unshare");
    assert!(
        tried.status.success(),
        "this user may not make namespaces ({}): run it as root, or allow it with sysctl user.max_user_namespaces, and on Ubuntu \
         kernel.apparmor_restrict_unprivileged_userns=0",
        String::from_utf8_lossy(&tried.stderr).trim()
    );
}

/// Runs a command that must succeed, its arguments parted by spaces.
///
/// # Panics
/// When it does not.
pub fn command(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
