//! A machine of a story's own, with the network that the node and its pods have there.

use std::future::Future;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use support::namespaces::{Root, command, inside};
use support::{ControlPlane, Options};

/// Where the API server and the kubelet are.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// The Service `kubernetes`. With no proxy to lead there, it is an address of the node.
pub const KUBERNETES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// A story takes two minutes; this is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(600);

/// Runs the test `name`, which is `story`, in namespaces of its own.
pub fn run<F: Future<Output = ()>>(name: &str, story: impl FnOnce() -> F) {
    if inside(name, Root::Mapped, DEADLINE) {
        network();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime").block_on(story());
    }
}

/// One bridge with the node's addresses. Pods come to it.
fn network() {
    // Names of network namespaces live there; the machine's own stay out of sight.
    command("mount", "-t tmpfs tmpfs /run");
    for line in [
        "link set lo up".to_owned(),
        // Its own address: without it a bridge takes the lowest of its ports', and with each pod that comes or goes what was said to the
        // old one is lost, for seconds.
        "link add br0 address 02:00:0a:59:00:01 type bridge".to_owned(),
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

/// A control plane that pods reach.
pub fn control_plane() -> ControlPlane {
    let options = Options {
        address: Some(NODE),
        ..Options::default()
    };
    ControlPlane::start(options).unwrap_or_else(|error| panic!("{error:#}"))
}
