//! The images that nodes run, built by buildah into archives, because there is no registry to pull from.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::repository;

use crate::sandbox::{kept, say};

/// Where the README's install takes Ringfence's image from.
pub const RINGFENCE: &str = "registry.example.com/ringfence:0.1.0";
/// The same image, for the chart of the version before.
pub const PREVIOUS: &str = "registry.example.com/ringfence:0.0.9";
/// What a pod's sandbox runs.
pub const PAUSE: &str = "registry.example.com/pause:1";
/// What the workflow of examples/invoice-triage.yaml runs.
const TRIAGE: &str = "registry.example.com/finance/triage:1.4";

/// Where the archives are.
pub fn archives() -> [PathBuf; 3] {
    ["ringfence", "pause", "triage"].map(|name| folder().join(format!("{name}.tar")))
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
    image("pause", PAUSE, &guest, "pause");
    image("triage", TRIAGE, &guest, "triage");
}

/// As `make image` builds it, under the name that the README's install gives it.
fn ringfence() {
    say("building Ringfence's image (minutes when nothing is cached)");
    let built = Command::new(repository().join("image/build.sh"))
        .arg(folder())
        .arg(RINGFENCE)
        .status();
    assert!(built.expect("image/build.sh").success(), "there is no image: see above");
}

/// An empty image with one program.
fn image(name: &str, reference: &str, program: &Path, argument: &str) {
    let folder = folder();
    let (archive, context) = (folder.join(format!("{name}.tar")), folder.join(name));
    say(&format!("building the image {reference}"));
    std::fs::create_dir_all(&context).expect("a folder");
    std::fs::copy(program, context.join("program")).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let containerfile = format!(
        "FROM scratch\nCOPY program /program\nUSER 65532:65532\nENTRYPOINT [\"/program\"]\nCMD [\"{argument}\"]\n"
    );
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
