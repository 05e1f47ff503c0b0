//! The chart as people install it: Helm puts it on a real API server, real controllers make its pods, and each pod's process is started
//! with what its rendered spec says and nothing else. There it is upgraded, rolled back and uninstalled by the README's own commands, and
//! killed, rolled and renewed under load; by cert-manager, too. Its egress proxy leads a pod to what its workflow declares. A network without a plugin for NetworkPolicies, and one with, are told apart by the canary.
//!
//! Each story runs in network, process and mount namespaces of its own, which the kernel removes with its last process. No traffic leaves
//! them. No root is needed: only `curl`, `ip`, `nft`, `nsenter` and `unshare`, and user namespaces.

mod canary;
mod certificates;
mod container;
mod egress;
mod lifecycle;
mod load;
mod node;
mod pod;
mod release;
mod sandbox;
mod under_load;

#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/direct.rs"]
mod direct;
#[allow(dead_code, reason = "shared with tests/egress, which needs all of it")]
#[path = "../egress/dns.rs"]
mod dns;
#[allow(dead_code, reason = "shared with tests/egress, which needs all of it")]
#[path = "../egress/hosts.rs"]
mod hosts;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/objects.rs"]
mod objects;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/world.rs"]
mod world;

#[test]
fn the_readme_installs_upgrades_rolls_back_and_uninstalls() {
    sandbox::run(
        "the_readme_installs_upgrades_rolls_back_and_uninstalls",
        lifecycle::story,
    );
}

#[test]
fn no_review_is_lost_or_wrongly_decided_under_load() {
    sandbox::run("no_review_is_lost_or_wrongly_decided_under_load", under_load::story);
}

#[test]
fn a_canary_tells_whether_network_policies_bite() {
    sandbox::run("a_canary_tells_whether_network_policies_bite", canary::story);
}

#[test]
fn the_egress_proxy_leads_to_what_is_declared() {
    sandbox::run("the_egress_proxy_leads_to_what_is_declared", egress::story);
}

#[test]
fn cert_manager_issues_renews_and_changes_the_ca() {
    if !support::namespaces::are_entered() {
        // There is no network inside to build it with.
        support::cert_manager::prepare().expect("cert-manager");
    }
    sandbox::run("cert_manager_issues_renews_and_changes_the_ca", certificates::story);
}
