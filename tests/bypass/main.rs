//! Attacks on a real API server, each beside the act that is like it and must go on: one file for each door.
//!
//! The attacker is a tenant with the shipped role `ringfence-tenant` where nothing else is said. The world is that of `tests/cluster`.

#[path = "../cluster/objects.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod objects;
#[path = "../cluster/world.rs"]
#[allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]
mod world;

mod secrets;
