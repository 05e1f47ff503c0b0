//! A machine of a story's own: this test binary runs itself again in new user, network, process and mount namespaces. Whatever was started
//! there ends with it, however it ends, and what it configured is gone then.

use std::env::{current_exe, var_os};
use std::future::Future;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use support::{ControlPlane, Options, binaries};

/// Where the API server and the kubelet are.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// The Service `kubernetes`. With no proxy to lead there, it is an address of the node.
pub const KUBERNETES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const INSIDE: &str = "RINGFENCE_TEST_SANDBOX";
const NEW_NAMESPACES: [&str; 8] = [
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];
/// A story takes two minutes; this is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(600);

/// Runs the test `name`, which is `story`, in namespaces of its own.
pub fn run<F: Future<Output = ()>>(name: &str, story: impl FnOnce() -> F) {
    if var_os(INSIDE).is_some() {
        network();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime").block_on(story());
        return;
    }
    // Each has a control plane of its own.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    can_make_namespaces();
    // There is no network inside to build it with.
    let bin = binaries().unwrap_or_else(|error| panic!("{error:#}"));
    let mut inside = Command::new(bin.join("controlplane"))
        .args(["guard", "--", "unshare"])
        .args(NEW_NAMESPACES)
        .arg(current_exe().expect("this binary"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        // Closed, it ends the guard and all that is inside: also when this process is killed.
        .stdin(Stdio::piped())
        .spawn()
        .expect("starting it in namespaces");
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = inside.try_wait().expect("waiting for it") {
            assert!(
                status.success(),
                "{name} failed inside its namespaces ({status}): see above"
            );
            return;
        }
        if Instant::now() > end {
            drop(inside.stdin.take());
            let ended = inside.wait();
            panic!("{name} did not end within {DEADLINE:?}: see above ({ended:?})");
        }
        sleep(Duration::from_millis(100));
    }
}

/// Says what is missing, rather than fail somewhere inside.
fn can_make_namespaces() {
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
        .args(NEW_NAMESPACES)
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

/// One bridge with the node's addresses. Pods come to it.
fn network() {
    // Names of network namespaces live there; the machine's own stay out of sight.
    command("mount", "-t tmpfs tmpfs /run");
    for line in [
        "link set lo up".to_owned(),
        "link add br0 type bridge".to_owned(),
        format!("addr add {NODE}/24 dev br0"),
        format!("addr add {KUBERNETES}/32 dev br0"),
        "link set br0 up".to_owned(),
        // Nothing answers there. Without it no program finds an address of this machine to tell others.
        "route add default dev br0".to_owned(),
    ] {
        command("ip", &line);
    }
}

/// The network namespace of a pod, by its name, at the bridge.
pub fn attach(name: &str, address: Ipv4Addr) {
    let [.., host] = address.octets();
    let inside = format!("--net=/run/netns/{name}");
    command("ip", &format!("netns add {name}"));
    command(
        "ip",
        &format!("link add veth{host} type veth peer name eth0 netns {name}"),
    );
    command("ip", &format!("link set veth{host} master br0 up"));
    for line in [
        "link set lo up".to_owned(),
        format!("addr add {address}/24 dev eth0"),
        "link set eth0 up".to_owned(),
        format!("route add default via {NODE}"),
    ] {
        // Not `ip netns exec`, which mounts /sys anew.
        command("nsenter", &format!("{inside} ip {line}"));
    }
}

/// Takes it away, once its processes have ended.
pub fn detach(name: &str) {
    command("ip", &format!("netns del {name}"));
}

/// Has a pod's own namespace drop what it gets from, or sends to, another address, or lets it through again. Fails where the pod is gone.
pub fn drops(name: &str, direction: Drops) -> Result<()> {
    let (hook, rule) = match direction {
        Drops::From(peer) => ("input", format!("ip saddr {peer} tcp dport 8080 drop")),
        Drops::To(peer) => ("output", format!("ip daddr {peer} tcp dport 8080 drop")),
        Drops::Nothing => ("input", "accept".to_owned()),
    };
    // By the listener's port: answers go back, as network plugins let them.
    let rules = format!(
        "add table inet canary; delete table inet canary; add table inet canary; \
         add chain inet canary c {{ type filter hook {hook} priority 0; }}; add rule inet canary c {rule}"
    );
    let output = Command::new("nsenter")
        .args([&format!("--net=/run/netns/{name}"), "nft", &rules])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What a pod's own namespace drops.
pub enum Drops {
    From(Ipv4Addr),
    To(Ipv4Addr),
    Nothing,
}

fn command(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A control plane that pods reach.
pub fn control_plane() -> ControlPlane {
    let options = Options {
        address: Some(NODE),
        ..Options::default()
    };
    ControlPlane::start(options).unwrap_or_else(|error| panic!("{error:#}"))
}
