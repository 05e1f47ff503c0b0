//! Policies that eat memory at request time, in a process of their own: the limit is the process's, and so is the peak.

mod eaters;
mod threads;

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{env, fs};

use ringfence::policy::{ALLOCATOR, limit_memory};

/// What the process may hold in these tests.
const LIMIT: u64 = 200 << 20;

/// One test at a time: they share the limit, and each other's memory. The allocator reads its settings when a process begins, so
/// where it was begun without them, it begins again.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if ALLOCATOR.iter().any(|(name, _)| env::var_os(name).is_none()) {
        let program = env::current_exe().expect("a file");
        let error = Command::new(program)
            .args(env::args_os().skip(1))
            .envs(ALLOCATOR)
            .exec();
        panic!("{error}");
    }
    limit_memory(LIMIT);
    one
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}
