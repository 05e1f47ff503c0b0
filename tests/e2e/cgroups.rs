//! The one thing that namespaces do not take away: cgroups. All of a run are below one name, in each hierarchy.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

const MOUNTED: &str = "/sys/fs/cgroup";
/// Of all nodes of a run.
const OURS: &str = "ringfence-e2e";
/// What was in them is dead already; the kernel takes a moment to forget it.
const EMPTY_WITHIN: Duration = Duration::from_secs(20);

/// Where a node's pods are: what its kubelet calls its root.
pub fn of(node: &str) -> String {
    format!("/{OURS}/{node}")
}

/// Makes a node's cgroup in each hierarchy. A kubelet wants it to be there.
pub fn make(node: &str) {
    for hierarchy in hierarchies() {
        for path in [hierarchy.join(OURS), hierarchy.join(OURS).join(node)] {
            fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            inherit(&path);
        }
    }
}

/// What version 1 leaves empty in a new cpuset, and a process cannot be without; and what version 2 gives children only when told to.
fn inherit(path: &Path) {
    let above = path.parent().expect("a hierarchy");
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if path.join(file).exists() && above.join("cgroup.clone_children").exists() {
            let value = fs::read_to_string(above.join(file)).expect("a cpuset");
            fs::write(path.join(file), value).expect("a cpuset");
        }
    }
    if let Ok(controllers) = fs::read_to_string(above.join("cgroup.controllers")) {
        let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
        fs::write(above.join("cgroup.subtree_control"), all.join(" ")).expect("controllers for children");
    }
}

/// Removes all of them, of whatever run.
pub fn sweep() -> Result<()> {
    let end = Instant::now() + EMPTY_WITHIN;
    for path in hierarchies().into_iter().map(|hierarchy| hierarchy.join(OURS)) {
        while let Err(error) = remove(&path) {
            ensure!(
                Instant::now() < end,
                "{} is still in use ({error}): end what is listed in the cgroup.procs below it",
                path.display()
            );
            sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// One on a machine with version 2, else one a controller.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(MOUNTED);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).unwrap_or_else(|error| panic!("{MOUNTED}: {error}"));
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a hierarchy").path())
        // Some are links to others: cpuacct to cpu,cpuacct.
        .filter(|path| !path.is_symlink() && path.join("cgroup.procs").exists())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no cgroups are mounted at {MOUNTED}");
    found
}
