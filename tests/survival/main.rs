//! What breaks around the operator, and under it, on a real API server: when it is over, everything is as declared, once each, and nothing was
//! admitted in between that should not have been. How reviews fare meanwhile is `tests/install`'s.

mod fleet;
mod memory;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/objects.rs"]
mod objects;
mod operator;
mod proxy;
mod soak;
mod storage;
mod way;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/world.rs"]
mod world;
