//! The images that nodes run, built by buildah into archives, because there is no registry to pull from.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{repository, without_cargos_words};

use crate::flows;
use crate::sandbox::{kept, say};

/// Where the README's install takes Ringfence's image from.
pub const RINGFENCE: &str = "registry.example.com/ringfence:0.1.0";
/// The same image, for the chart of the version before.
pub const PREVIOUS: &str = "registry.example.com/ringfence:0.0.9";
/// What a pod's sandbox runs.
pub const PAUSE: &str = "registry.example.com/pause:1";
/// What the workflow of examples/invoice-triage.yaml runs.
const TRIAGE: &str = "registry.example.com/finance/triage:1.4";

/// What the Jobs of examples/jobs run.
const SCORE: &str = "registry.example.com/finance/score:3.2";

/// Where the archives are.
pub fn archives() -> [PathBuf; 5] {
    ["ringfence", "pause", "triage", "score", "flows"].map(|name| folder().join(format!("{name}.tar")))
}

fn folder() -> PathBuf {
    kept().join("images")
}

/// Builds all of them.
pub fn build() {
    // What buildah keeps of each build would add up.
    match std::fs::remove_dir_all(folder()) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", folder().display()),
        _ => {}
    }
    ringfence();
    let guest = kept().join("bin/guest");
    for (name, reference) in [("pause", PAUSE), ("triage", TRIAGE), ("score", SCORE)] {
        program(name, reference, &guest);
    }
    prefect();
}

/// As `make image` builds it, under the name that the README's install gives it.
fn ringfence() {
    say("building Ringfence's image (minutes when nothing is cached)");
    let mut build = Command::new(repository().join("image/build.sh"));
    let built = without_cargos_words(&mut build).arg(folder()).arg(RINGFENCE).status();
    assert!(built.expect("image/build.sh").success(), "there is no image: see above");
}

/// An empty image with one program, which is called with the image's name.
fn program(name: &str, reference: &str, program: &Path) {
    let context = context(name);
    std::fs::copy(program, context.join("program")).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let containerfile =
        format!("FROM scratch\nCOPY program /program\nUSER 65532:65532\nENTRYPOINT [\"/program\"]\nCMD [\"{name}\"]\n");
    image(name, reference, &containerfile);
}

/// Prefect as tests/engines installs it, with the flow: the image of the flow's team, and of the server and the worker too. As in Prefect's own
/// image nothing is said of users and their homes.
fn prefect() {
    say("copying Python and Prefect for an image");
    let environment = repository().join("target/engines/prefect");
    runs(
        Command::new(repository().join("tests/support/build-venv.sh"))
            .arg("engines/prefect")
            .arg(&environment),
    );
    let tree = context("flows").join("tree");
    runs(
        Command::new(environment.join("venv/bin/python"))
            .arg(repository().join("tests/e2e/python_tree.py"))
            .args([&tree, &repository().join(flows::FLOW)]),
    );
    image(
        "flows",
        flows::IMAGE,
        "FROM scratch\nCOPY tree /\nENV PATH=/usr/bin PYTHONPATH=/packages\nWORKDIR /flows\n",
    );
}

fn runs(command: &mut Command) {
    let what = format!("{command:?}");
    let status = command.status().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(status.success(), "{what}: see above");
}

/// A folder for what goes into an image.
fn context(name: &str) -> PathBuf {
    let context = folder().join(name);
    std::fs::create_dir_all(&context).expect("a folder");
    context
}

/// Of what is in the image's folder.
fn image(name: &str, reference: &str, containerfile: &str) {
    say(&format!("building the image {reference}"));
    let (archive, context) = (folder().join(format!("{name}.tar")), context(name));
    std::fs::write(context.join("Containerfile"), containerfile).expect("a Containerfile");
    let at = |path: &Path| path.display().to_string();
    buildah(&[
        "build",
        "--quiet",
        "--file",
        &at(&context.join("Containerfile")),
        "--tag",
        reference,
        &at(&context),
    ]);
    // It refuses to write over one.
    let _ = std::fs::remove_file(&archive);
    let to = format!("docker-archive:{}:{reference}", archive.display());
    buildah(&["push", "--quiet", reference, &to]);
}

fn buildah(arguments: &[&str]) {
    let output = Command::new("buildah")
        .arg("--root")
        .arg(folder().join("storage"))
        .arg("--runroot")
        .arg(folder().join("runroot"))
        .args(["--storage-driver", "vfs"])
        .args(arguments)
        .output()
        .expect("buildah");
    assert!(
        output.status.success(),
        "buildah {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
