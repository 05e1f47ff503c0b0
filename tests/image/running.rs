//! The image runs as nobody, on a root that it cannot write, with no network and nothing around it.

use std::path::Path;
use std::process::Output;
use std::sync::{Mutex, PoisonError};

use support::repository;
use tempfile::TempDir;

use crate::built::{buildah, image, run, text};

/// What `ringfence` says where there is no cluster.
pub const NO_CLUSTER: &str = "cannot tell which cluster to talk to: ";

/// What a container's runtime makes of an image, in user, network, process and mount namespaces of its own: the manifests are at /work, and
/// the rest is read-only. The user comes last: it may not mount.
const CONTAINER: &str = r#"
root=$1 work=$2 user=$3 group=$4
shift 4
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --bind /dev/null "$root/dev/null"
mount --bind "$work" "$root/work"
mount -o remount,bind,ro "$root/work"
mount -o remount,bind,ro "$root"
unshare=$(command -v unshare)
exec env -i PATH=/ "$unshare" --user --map-user="$user" --map-group="$group" --root="$root" --wd=/work "$@"
"#;

/// What it said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// Runs the image with its own entrypoint and user. `work` is what is mounted.
pub fn container(work: &Path, arguments: &[&str]) -> Said {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let config = &image().config["config"];
    let (user, group) = config["User"]
        .as_str()
        .and_then(|user| user.split_once(':'))
        .expect("a user and a group");
    let root = &image().root;
    // A runtime makes what it mounts on.
    for folder in ["proc", "dev", "work"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    std::fs::write(root.join("dev/null"), "").expect("a file");
    let mut all = vec![
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-euc",
        CONTAINER,
        "sh",
        text(root),
        text(work),
        user,
        group,
    ];
    all.extend(
        config["Entrypoint"]
            .as_array()
            .expect("words")
            .iter()
            .map(|word| word.as_str().expect("a word")),
    );
    all.extend(arguments);
    run(120, "unshare", &all).into()
}

/// The folder of the story, with one file that may be reviewed and one that is refused.
fn refused() -> std::path::PathBuf {
    repository().join("demo/refused")
}

#[test]
fn it_tells_its_version_and_its_arguments() {
    let version = container(&refused(), &["--version"]);
    assert_eq!(
        (version.code, version.out),
        (Some(0), format!("ringfence {}\n", env!("CARGO_PKG_VERSION")))
    );
    let help = container(&refused(), &["run", "--help"]);
    assert_eq!(help.code, Some(0), "{help:?}");
    assert!(help.out.contains("--metrics-listen"), "{help:?}");
}

#[test]
fn it_reviews_what_is_mounted() {
    let said = container(&refused(), &["review", "4-literal-key.yaml"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("refused[no-literal-secrets]"), "{said:?}");
    let examples = repository().join("examples/ci");
    let said = container(&examples, &["review", "--context", "platform/", "deploy/"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("0 of 2 objects would be refused"), "{said:?}");
}

/// The image's own command: what an engine runs that is told nothing else.
#[test]
fn without_a_cluster_it_says_that_there_is_none() {
    let command = image().config["config"]["Cmd"].as_array().expect("words");
    let mut arguments: Vec<&str> = command.iter().map(|word| word.as_str().expect("a word")).collect();
    arguments.push("--namespace=ringfence-system");
    let said = container(&refused(), &arguments);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("policies are compiled") && said.err.contains(NO_CLUSTER),
        "{said:?}"
    );
    assert!(!said.err.contains("panicked"), "{said:?}");
}

/// As the user that the image names, who is in no file of it.
#[test]
fn buildah_runs_it() {
    let folder = TempDir::new().expect("a folder");
    let storage = folder.path().join("storage");
    let archive = format!("docker-archive:{}", image().folder.join("ringfence.tar").display());
    buildah(&storage, &["from", "--quiet", "--name", "it", &archive]);
    let entrypoint = image().config["config"]["Entrypoint"][0].as_str().expect("a word");
    let mounted = format!("{}:/work:ro", repository().join("examples/ci").display());
    let run = [
        "run",
        "--isolation",
        "chroot",
        "--volume",
        &mounted,
        "it",
        "--",
        entrypoint,
    ];
    let review = ["review", "--context", "/work/platform", "/work/deploy"];
    let said = buildah(&storage, &[&run[..], &review].concat());
    assert!(said.contains("0 of 2 objects would be refused"), "{said}");
}
