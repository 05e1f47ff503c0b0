//! The NetworkPolicies that `plan` renders, checked by an implementation of somebody else: the simulator of
//! `tests/simulator`. The same on a real API server, with what the operator made of it, is in `tests/cluster/network.rs`.

mod rendered;
mod resolved;
mod simulator;
