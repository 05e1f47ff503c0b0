//! What a process takes, as Linux tells of it, and how measured values are told.

use anyhow::{Context, Result, ensure};

/// `USER_HZ`, which Linux fixes for all architectures that we build for.
const TICKS_A_SECOND: f64 = 100.0;

/// Resident memory of a process in KiB.
pub fn resident(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most resident memory that a process ever had, in KiB.
pub fn peak(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    let number = number.with_context(|| format!("no {name} in /proc/{pid}/status"))?;
    number.parse().with_context(|| name.to_owned())
}

/// Processor time that a process took so far, in seconds.
pub fn processor_time(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in brackets, which may hold spaces.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/<pid>/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    ensure!(fields.len() > 12, "too few fields in /proc/<pid>/stat");
    let (user, system): (f64, f64) = (fields[11].parse()?, fields[12].parse()?);
    Ok((user + system) / TICKS_A_SECOND)
}

/// The value below which that share of sorted values lies.
pub fn percentile(sorted: &[u64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    // Truncation is the point: the index of a value that was measured.
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).map_or(0.0, |&value| value as f64)
}
