//! Builds and unpacks the image, once, and holds it to the Dockerfile's promises.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::{env, fs};

use serde_json::{Value, json};
use support::{repository, without_cargos_words};

/// Of a build that begins with nothing, on a busy machine.
const BUILD: u32 = 3600;
/// Of what takes seconds.
const STEP: u32 = 300;
/// Uncompressed, in bytes.
const LARGEST: u64 = 25_000_000;

/// The image as an archive that every engine takes, and what it holds.
pub struct Image {
    /// Everything of this test lies below.
    pub folder: PathBuf,
    /// What a container finds at its root.
    pub root: PathBuf,
    /// `manifest.json` of the archive.
    manifest: Value,
    /// The image's configuration.
    pub config: Value,
    /// A line of `tar` for each thing in each layer.
    entries: Vec<String>,
    /// Sum of the layers' sizes.
    size: u64,
}

/// Runs a program to its end, which comes within `seconds`.
pub fn run(seconds: u32, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg(seconds.to_string()).arg(program).args(arguments);
    without_cargos_words(&mut command)
        .current_dir(repository())
        .output()
        .expect("timeout of coreutils")
}

/// The same, and it must succeed. What it printed.
pub fn printed(seconds: u32, program: &str, arguments: &[&str]) -> String {
    let output = run(seconds, program, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}: {error}",
        output.status
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// buildah, with images and containers of its own below `storage`: what else the machine has of these stays as it is.
pub fn buildah(storage: &Path, arguments: &[&str]) -> String {
    let (root, state) = (storage.join("root"), storage.join("run"));
    let own = [
        "--root",
        text(&root),
        "--runroot",
        text(&state),
        "--storage-driver",
        "vfs",
    ];
    printed(STEP, "buildah", &[&own[..], arguments].concat())
}

/// As text, for the arguments of a program.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub fn image() -> &'static Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(build);
    &IMAGE
}

fn build() -> Image {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    let (archive, root) = (folder.join("archive"), folder.join("root"));
    for unpacked in [&archive, &root] {
        // Of the run before.
        let _ = fs::remove_dir_all(unpacked);
        fs::create_dir_all(unpacked).expect("a folder");
    }
    printed(BUILD, "image/build.sh", &[text(&folder)]);
    let file = folder.join("ringfence.tar");
    printed(STEP, "tar", &["-x", "-f", text(&file), "-C", text(&archive)]);
    let read = |name: &str| -> Value {
        let bytes = fs::read(archive.join(name)).expect("a file of the archive");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let manifest = read("manifest.json")[0].clone();
    let config = read(manifest["Config"].as_str().expect("a file"));
    let (mut entries, mut size) = (Vec::new(), 0);
    for layer in manifest["Layers"].as_array().expect("layers") {
        let layer = archive.join(layer.as_str().expect("a file"));
        size += fs::metadata(&layer).expect("the layer").len();
        let listed = printed(STEP, "tar", &["-t", "-v", "--numeric-owner", "-f", text(&layer)]);
        entries.extend(listed.lines().map(str::to_owned));
        printed(STEP, "tar", &["-x", "-f", text(&layer), "-C", text(&root)]);
    }
    Image {
        folder,
        root,
        manifest,
        config,
        entries,
        size,
    }
}

#[test]
fn it_is_small_and_holds_a_binary_and_its_sbom_that_nobody_may_change() {
    let entries = image().entries.iter().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, .., name] = words.as_slice() else {
            panic!("{line}")
        };
        (*mode, *owner, *name)
    });
    let expected = BTreeSet::from([
        ("-rwxr-xr-x", "0/0", "ringfence"),
        ("-rw-r--r--", "0/0", "ringfence.cdx.json"),
    ]);
    assert_eq!(entries.collect::<BTreeSet<_>>(), expected);
    assert!(image().size < LARGEST, "{} bytes", image().size);
}

#[test]
fn it_says_what_it_is_and_runs_as_nobody() {
    let git = |arguments: &[&str]| {
        let output = run(STEP, "git", arguments);
        let said = String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned();
        output.status.success().then_some(said)
    };
    let revision = git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]);
    let config = &image().config;
    assert_eq!(
        config["config"],
        json!({
            "User": "65532:65532",
            "Env": config["config"]["Env"],
            "Entrypoint": ["/ringfence"],
            "Cmd": ["run"],
            "ExposedPorts": {"8080/tcp": {}, "9443/tcp": {}},
            "Labels": {
                "org.opencontainers.image.title": "ringfence",
                "org.opencontainers.image.description": env!("CARGO_PKG_DESCRIPTION"),
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.revision": revision.as_deref().unwrap_or("unknown"),
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            },
        })
    );
    // An engine's own PATH is all that it may hold.
    for variable in config["config"]["Env"].as_array().into_iter().flatten() {
        assert!(
            variable.as_str().is_some_and(|text| text.starts_with("PATH=")),
            "{variable}"
        );
    }
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    assert_eq!(
        (&config["os"], &config["architecture"]),
        (&json!("linux"), &json!(architecture))
    );
    // The name under which a node looks for what the chart asks for.
    let name = format!("docker.io/library/ringfence:{}", env!("CARGO_PKG_VERSION"));
    let names = image().manifest["RepoTags"].as_array().expect("names");
    assert!(names.contains(&json!(name)), "{names:?}");
}
