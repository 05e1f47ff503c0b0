//! Attacks on the fence, on a real API server: for each known way around, what an attacker sends, and that it fails; and beside it the
//! legitimate act that looks like it, and works. One file a door.
//!
//! Attackers are a tenant with the chart's role `ringfence-tenant`, for whom all of it must fail, and holders of the built-in `edit` and
//! `admin`, for whom all must fail but what the design declares out of scope: that is a fact with a test here.

mod accounts;
mod addresses;
mod api_server;
mod attackers;
mod bindings;
mod bombs;
mod bookkeeping;
mod bound_roles;
mod bulk;
mod ceiling;
mod crowding;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/direct.rs"]
mod direct;
mod down;
mod edited_alike;
mod egress_cilium;
mod egress_cluster_network_policy;
mod egress_domains;
mod egress_resolved;
mod engines_pods;
mod exceptions;
mod exceptions_end;
mod field_managers;
mod filled;
mod forged_owners;
mod forms;
mod gap;
mod granted_roles;
mod grants;
mod held_back;
mod held_names;
mod hidden;
mod impersonation;
mod kept_by_finalizers;
mod kept_running;
mod labels;
mod launch;
mod launch_chain;
mod launcher_names;
mod legitimate;
mod legitimate_others;
mod match_edited;
mod moving;
mod names;
mod network_policies;
mod nodes;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/objects.rs"]
mod objects;
mod operators;
mod orphaned;
mod outlives;
mod owned;
mod owners;
mod peers;
mod races;
mod release_records;
mod reserved;
mod rights;
mod root_certificates;
mod run_again;
mod running_pods;
mod secrets;
mod services;
mod shape;
mod starts;
mod strange_owners;
mod strange_ways;
mod taken_over;
mod taken_up;
mod tokens;
mod too_large;
mod unreadable;
mod unreviewed;
mod volumes;
mod withdrawn;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/world.rs"]
mod world;
