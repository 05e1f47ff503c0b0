//! `docker build`, where base images can be pulled: its first stage cannot run here, but what the compiler read here must be in its context,
//! and its compiler new enough.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use support::repository;
use tempfile::TempDir;

use crate::built::{buildah, image, printed, text};

/// The build context as `.dockerignore` leaves it.
fn context() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("Dockerfile");
    fs::write(&file, "FROM scratch\nCOPY . /\n").expect("written");
    let (context, storage) = (folder.path().join("context"), folder.path().join("storage"));
    let output = [
        "build",
        "--quiet",
        "--file",
        text(&file),
        "--output",
        text(&context),
        ".",
    ];
    buildah(&storage, &output);
    folder
}

/// What rustc read, in the words of make: `binary: file file`.
fn read_by_rustc() -> Vec<String> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target's folder");
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let file = built.join(target).join("release/ringfence.d");
    let rule = fs::read_to_string(file).expect("it was compiled");
    let (_, files) = rule.trim_end().split_once(": ").expect("a rule");
    // A space of a name is escaped.
    let files = files.replace("\\ ", "\0");
    files.split(' ').map(|file| file.replace('\0', " ")).collect()
}

#[test]
fn all_that_is_compiled_comes_to_it() {
    assert!(!image().root.as_os_str().is_empty());
    let folder = context();
    let context = folder.path().join("context");
    let files = read_by_rustc();
    assert!(files.len() > 100, "{files:?}");
    for file in files {
        let file = Path::new(&file)
            .strip_prefix(repository())
            .expect("a file of the repository");
        assert!(
            context.join(file).exists(),
            "{} is not in .dockerignore",
            file.display()
        );
    }
    let script = fs::metadata(context.join("image/compile.sh")).expect("the script");
    assert_eq!(script.permissions().mode() & 0o111, 0o111);
    // Each member of the workspace, and each target that its manifest names.
    let manifest = format!("--manifest-path={}", context.join("Cargo.toml").display());
    printed(
        60,
        env!("CARGO"),
        &["metadata", "--no-deps", "--offline", "--format-version=1", &manifest],
    );
    assert!(
        !context.join(".git").exists() && !context.join("target").exists(),
        "no more than that"
    );
}

#[test]
fn its_compiler_is_new_enough() {
    let dockerfile = fs::read_to_string(repository().join("Dockerfile")).expect("the Dockerfile");
    let from = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("FROM rust:"))
        .expect("a stage of Rust");
    let minor = |version: &str| -> u32 {
        version
            .split(['.', '-'])
            .nth(1)
            .expect("a minor")
            .parse()
            .expect("a number")
    };
    assert!(minor(from) >= minor(env!("CARGO_PKG_RUST_VERSION")), "{from}");
}
