//! How much memory the process may take, and what of it is for everything that the engine's allocator counts.
//!
//! Must never: refuse for ever because the count is wrong, go on with a limit that requests in flight alone would use up, or take a limit that cannot be read for a large one.

use std::{env, fs, os::unix::process::CommandExt as _, path::Path, process::Command, str::FromStr, time::Duration};

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use tracing::{info, warn};

use crate::{
    policy::{ALLOCATOR, counted_memory, limit_memory},
    webhook::Limits,
};

/// What is not counted, of the container's memory: the binary, stacks of threads (64 evaluate; a usual policy touches less than
/// 200 KiB of its stack, the deepest that passes the checks 2 MiB), what the allocator holds ready or in pieces, the kernel's buffers
/// of connections, and what one step takes between two looks at the count.
const UNCOUNTED: u64 = 128 << 20;

/// What the one child takes at the most that vets a RegoPolicy while requests go on: what it may use, and what its allocator may hold
/// beyond that.
const VETTED: u64 = 192 << 20;

/// What the process holds by itself: compiled policies (some 0.5 MB for each), caches of the reconciler, inventories, and what a few
/// usual policies take at a time.
const OWN: u64 = 96 << 20;

/// How often the count is corrected.
const CORRECTED: Duration = Duration::from_secs(10);

/// Where Linux keeps the limits of control groups.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The limit on memory.
#[derive(ClapArgs, Debug)]
pub(super) struct MemoryLimit {
    /// Memory that this process may take, in bytes or like 512Mi; the container's own limit counts too. The chart sets it.
    #[arg(long, env = "RINGFENCE_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<Size>,
}

/// A size as Kubernetes writes it, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let unit: u64 = match unit {
            "" => 1,
            "k" => 1000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err("write it in bytes, or like 512Mi".to_owned()),
        };
        let size = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
        size.filter(|size| *size > 0)
            .map(Self)
            .ok_or_else(|| "write it in bytes, or like 512Mi".to_owned())
    }
}

/// Sees that the allocator has its settings, which it reads before anything of ours runs: where they are not in the environment, this
/// process begins again with them. Call it before anything else.
pub(super) fn settle_allocator() {
    if ALLOCATOR.iter().all(|(name, _)| env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    for (name, value) in ALLOCATOR {
        if env::var_os(name).is_none() {
            again.env(name, value);
        }
    }
    let error = again.args(arguments).exec();
    warn!(%error, "the allocator cannot be set up, so this process may take more memory than is counted");
}

/// The limit that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept(Option<u64>);

impl Kept {
    /// Corrects the count, again and again. What ended threads freed last is missing in it, so that it only grows; but nothing is held
    /// that is not in the process' pages.
    pub(super) async fn correct(self) {
        let Some(counted) = self.0 else {
            return std::future::pending().await;
        };
        let mut every = tokio::time::interval(CORRECTED);
        loop {
            every.tick().await;
            if let Some(resident) = resident() {
                limit_memory(corrected(counted, counted_memory(), resident));
            }
        }
    }
}

/// The limit on what is counted by which no more may be held than by `limit`.
fn corrected(limit: u64, counted: u64, resident: u64) -> u64 {
    limit.saturating_add(counted.saturating_sub(resident))
}

/// What the process has in pages, in bytes.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

impl MemoryLimit {
    /// Has evaluations end where the process would not have memory left for everything else.
    pub(super) fn keep(&self, limits: &Limits) -> Result<Kept> {
        let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let container = of_control_group(Path::new(CONTROL_GROUPS), &group);
        let said = self.memory_limit.map(|Size(bytes)| bytes);
        let Some(memory) = said.into_iter().chain(container).min() else {
            warn!(
                "no limit on memory is known, so a policy may take all that there is: set --memory-limit, or resources.limits.memory of \
                 the chart"
            );
            return Ok(Kept(None));
        };
        let counted = counted(memory, limits)?;
        limit_memory(counted);
        info!(
            container_mebibytes = memory >> 20,
            counted_mebibytes = counted >> 20,
            "evaluations end with an error when the process holds more memory than that"
        );
        Ok(Kept(Some(counted)))
    }
}

/// What may be counted, of so much memory.
fn counted(memory: u64, limits: &Limits) -> Result<u64> {
    let least = UNCOUNTED + VETTED + OWN + u64::try_from(limits.in_flight()).unwrap_or(u64::MAX);
    if memory < least {
        bail!(
            "Ringfence may take {} MiB of memory, and requests in flight alone can make it need {} MiB: raise resources.limits.memory \
             of the chart (or --memory-limit) to that or more",
            memory >> 20,
            least >> 20
        );
    }
    Ok(memory - UNCOUNTED - VETTED)
}

/// The least limit of this process' control group and of those above it, of either version; `None` where there is none, or none that
/// can be read. Inside a container its own group is often the root of what is there, whatever its path is called.
fn of_control_group(root: &Path, group: &str) -> Option<u64> {
    let paths = group.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.is_empty() {
            return Some((root.to_owned(), "memory.max", path));
        }
        let is_memory = controllers.split(',').any(|controller| controller == "memory");
        is_memory.then(|| (root.join("memory"), "memory.limit_in_bytes", path))
    });
    let limits = paths.flat_map(|(root, file, path)| {
        // A path out of what this process sees is none that can be followed.
        let path = path.trim_matches('/');
        let path = if path.split('/').any(|part| part == "..") {
            ""
        } else {
            path
        };
        let folder = root.join(path);
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(&root));
        let texts: Vec<_> = folders.map(|folder| fs::read_to_string(folder.join(file))).collect();
        texts.into_iter().flatten().filter_map(|text| text.trim().parse().ok())
    });
    // The first version says a number near the largest where there is no limit.
    limits.filter(|limit| *limit < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    #[rstest]
    #[case::bytes("536870912", Some(512 << 20))]
    #[case::binary("512Mi", Some(512 << 20))]
    #[case::decimal("1G", Some(1_000_000_000))]
    #[case::none("0", None)]
    #[case::negative("-1", None)]
    #[case::fraction("0.5Gi", None)]
    #[case::huge("99999999999Gi", None)]
    #[case::unit("512MB", None)]
    #[case::empty("", None)]
    fn a_size_is_read_as_kubernetes_writes_it(#[case] text: &str, #[case] bytes: Option<u64>) {
        assert_eq!(text.parse::<Size>().ok(), bytes.map(Size));
    }

    /// 960 MiB = 128 that are not counted + 192 of a child + 96 of bodies + 128 of reviews, parsed and converted + 192 of the heaviest one +
    /// 64 of what connections sent and nobody read yet + 40 of large answers of the API server + 96 of the process itself + 24 to spare.
    #[test]
    fn the_charts_limit_holds_all_that_may_be_in_flight() {
        let values: Value = serde_saphyr::from_str(include_str!("../../charts/ringfence/values.yaml")).expect("YAML");
        let Size(memory) = values["resources"]["limits"]["memory"]
            .as_str()
            .expect("a limit")
            .parse()
            .expect("a size");
        let limits = Limits::default();
        assert_eq!(limits.in_flight(), (96 + 128 + 192 + 64 + 40) << 20);
        assert_eq!(counted(memory, &limits).expect("it fits"), 640 << 20);
        let error = counted(256 << 20, &limits).expect_err("too small").to_string();
        assert!(
            error.contains("256 MiB") && error.contains("936 MiB") && error.contains("resources.limits.memory"),
            "{error}"
        );
    }

    #[rstest]
    #[case::right(300, 200, 220, 300)]
    #[case::wrong_by_more_than_all_that_is_there(300, 500, 100, 700)]
    #[case::absurd(u64::MAX, u64::MAX, 0, u64::MAX)]
    fn what_is_counted_and_held_no_more_does_not_count(
        #[case] limit: u64,
        #[case] counted: u64,
        #[case] resident: u64,
        #[case] expected: u64,
    ) {
        assert_eq!(corrected(limit, counted, resident), expected);
    }

    #[test]
    fn the_process_knows_what_it_holds() {
        assert!(resident().is_some_and(|bytes| (1 << 20..1 << 36).contains(&bytes)));
    }

    #[rstest]
    #[case::container("0::/", &[("memory.max", "536870912\n")], Some(512 << 20))]
    #[case::unlimited("0::/", &[("memory.max", "max\n")], None)]
    #[case::nothing_there("0::/", &[], None)]
    #[case::above("0::/a/b", &[("a/memory.max", "1000"), ("a/b/memory.max", "max")], Some(1000))]
    #[case::the_least("0::/a/b", &[("a/memory.max", "1000"), ("a/b/memory.max", "2000")], Some(1000))]
    #[case::path_of_the_host("0::/kubepods/x", &[("memory.max", "1000")], Some(1000))]
    #[case::outside("0::/../x", &[("memory.max", "1000")], Some(1000))]
    #[case::first("12:cpu:/\n5:hugetlb,memory:/d", &[("memory/d/memory.limit_in_bytes", "1000")], Some(1000))]
    #[case::first_without("5:memory:/", &[("memory/memory.limit_in_bytes", "9223372036854771712")], None)]
    #[case::nonsense("0::/", &[("memory.max", "lots")], None)]
    #[case::no_groups("", &[("memory.max", "1000")], None)]
    fn the_container_tells_its_limit(#[case] group: &str, #[case] files: &[(&str, &str)], #[case] limit: Option<u64>) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        assert_eq!(of_control_group(root.path(), group), limit);
    }
}
