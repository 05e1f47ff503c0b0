//! Ringfence on real nodes: a scheduler, and two kubelets with containerd, runc, kube-proxy and a network plugin, each in a network of its
//! own. There the image runs, the README's commands install the chart as it is, and the pods of workflows, of a pipeline's Jobs and of
//! Prefect's flows are admitted, scheduled, run and refused. Nodes are drained and the chart is upgraded under admission traffic.
//!
//! `make e2e` runs it: it takes root, because containers with cgroups do. Everything is in namespaces that the kernel takes away with their
//! last process, and in cgroups below one of ours, which this run removes, or the next one does. No traffic leaves the namespaces.

mod cgroups;
mod images;
mod node;
mod sandbox;
mod story;

#[allow(dead_code, unused_imports, reason = "shared with tests/engines")]
#[path = "../engines/client.rs"]
mod client;
#[allow(dead_code, unused_imports, reason = "shared with tests/engines")]
#[path = "../engines/flows.rs"]
mod flows;
#[allow(dead_code, unused_imports, reason = "shared with tests/install")]
#[path = "../install/load.rs"]
mod load;
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
    reason = "shared with tests/install, which needs all of it"
)]
#[path = "../install/release.rs"]
mod release;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/world.rs"]
mod world;

#[test]
fn the_chart_lives_on_real_nodes() {
    sandbox::run("the_chart_lives_on_real_nodes", story::story);
}
