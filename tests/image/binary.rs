//! The binary: it needs nothing of the system that it runs on, and names its dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use auditable_info::json_from_file;
use serde_json::Value;
use support::repository;

use crate::built::{image, printed};

/// Of an ELF file of 64 bits: a shared object or an executable that may lie anywhere.
const ANYWHERE: u64 = 3;
/// Segments, as ELF numbers them.
const DYNAMIC: u64 = 2;
const INTERPRETER: u64 = 3;
const STACK: u64 = 0x6474_e551;
const READ_ONLY_AFTER_RELOCATION: u64 = 0x6474_e552;
/// An entry of the dynamic segment that names a library.
const NEEDED: u64 = 1;
const EXECUTABLE: u64 = 1;

pub type Packages = BTreeSet<(String, String)>;

fn file() -> PathBuf {
    image().root.join("ringfence")
}

/// A little-endian number in an ELF file.
fn number(bytes: &[u8], at: u64, size: usize) -> u64 {
    let at = usize::try_from(at).expect("a place in the file");
    bytes[at..at + size]
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn it_is_static_and_hardened() {
    let bytes = fs::read(file()).unwrap();
    assert_eq!(&bytes[..6], b"\x7fELF\x02\x01", "64 bits, little-endian");
    assert_eq!(number(&bytes, 16, 2), ANYWHERE, "its addresses are random");
    let (table, size, count) = (number(&bytes, 32, 8), number(&bytes, 54, 2), number(&bytes, 56, 2));
    let segments: BTreeMap<u64, u64> = (0..count)
        .map(|index| table + index * size)
        .map(|at| (number(&bytes, at, 4), at))
        .collect();
    assert!(!segments.contains_key(&INTERPRETER), "it needs a dynamic loader");
    let (start, length) = (
        number(&bytes, segments[&DYNAMIC] + 8, 8),
        number(&bytes, segments[&DYNAMIC] + 32, 8),
    );
    assert!(length > 0);
    for entry in (start..start + length).step_by(16) {
        assert_ne!(number(&bytes, entry, 8), NEEDED, "it needs a library");
    }
    assert_eq!(
        number(&bytes, segments[&STACK] + 4, 4) & EXECUTABLE,
        0,
        "an executable stack"
    );
    assert!(segments.contains_key(&READ_ONLY_AFTER_RELOCATION));
}

#[test]
fn it_names_no_path_of_the_machine_that_compiled_it() {
    let bytes = fs::read(file()).unwrap();
    let said = String::from_utf8_lossy(&bytes);
    let holds = |text: &str| said.contains(text);
    assert!(
        holds("/cargo/registry/src/"),
        "paths are looked for where there are none"
    );
    assert!(!holds(repository().to_str().unwrap()));
    for name in ["HOME", "CARGO_HOME", "CARGO_TARGET_DIR"] {
        if let Ok(folder) = env::var(name) {
            assert!(!holds(&format!("{}/", folder.trim_end_matches('/'))), "{name}");
        }
    }
}

pub fn target() -> String {
    format!("{}-unknown-linux-musl", env::consts::ARCH)
}

/// What is linked into the binary, as Cargo resolves its features.
fn linked() -> Packages {
    let only = ["--package=ringfence", "--edges=normal,no-proc-macro", "--target"];
    let told = ["--prefix=none", "--format={p}"];
    let tree = printed(
        60,
        env!("CARGO"),
        &[&["tree", "--locked"], &only[..], &[&target()], &told].concat(),
    );
    tree.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let (name, version) = (words.next().expect("a name"), words.next().expect("a version"));
            (
                name.to_owned(),
                version.strip_prefix('v').expect("a version").to_owned(),
            )
        })
        .collect()
}

/// What the lock file has for the binary and for compiling it, and not for tests alone. Some more than that: a feature that only a test asks
/// for counts here.
fn not_for_tests() -> Packages {
    let only = format!("--filter-platform={}", target());
    let printed = printed(
        60,
        env!("CARGO"),
        &["metadata", "--locked", "--format-version=1", &only],
    );
    let metadata: Value = serde_json::from_str(&printed).expect("JSON");
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        let list = list.as_array().expect("a list").iter();
        list.map(|item| (item["id"].as_str().expect("an ID").to_owned(), item.clone()))
            .collect()
    };
    let (packages, nodes) = (by_id(&metadata["packages"]), by_id(&metadata["resolve"]["nodes"]));
    let root = packages
        .iter()
        .find(|(_, package)| package["name"] == env!("CARGO_PKG_NAME"));
    let mut waiting = vec![root.expect("this package").0.clone()];
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !reached.insert(id.clone()) {
            continue;
        }
        for needed in nodes[&id]["deps"].as_array().expect("dependencies") {
            let kinds = needed["dep_kinds"].as_array().expect("kinds");
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                waiting.push(needed["pkg"].as_str().expect("an ID").to_owned());
            }
        }
    }
    let text = |id: &String, field: &str| packages[id][field].as_str().expect("text").to_owned();
    reached
        .iter()
        .map(|id| (text(id, "name"), text(id, "version")))
        .collect()
}

/// What cargo-auditable wrote into the binary: each package, and apart which of them it is.
pub fn embedded() -> (Packages, Vec<Value>) {
    let json = json_from_file(&file(), auditable_info::Limits::default()).expect("what cargo-auditable wrote");
    let told: Value = serde_json::from_str(&json).expect("JSON");
    let packages = told["packages"].as_array().expect("packages").clone();
    let text = |package: &Value, field: &str| package[field].as_str().expect("text").to_owned();
    let named: Packages = packages
        .iter()
        .map(|package| (text(package, "name"), text(package, "version")))
        .collect();
    assert_eq!(named.len(), packages.len(), "one is there twice");
    (named, packages)
}

#[test]
fn it_names_the_dependencies_that_it_was_compiled_from() {
    let (named, packages) = embedded();
    let (linked, known) = (linked(), not_for_tests());
    assert!(linked.len() > 100, "{linked:?}");
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let more: Vec<_> = named.difference(&known).collect();
    assert!(more.is_empty(), "{more:?}");
    for package in packages {
        let is_itself = (package["name"].as_str(), package["version"].as_str())
            == (Some(env!("CARGO_PKG_NAME")), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(package["root"] == true, is_itself, "{package}");
        assert_eq!(
            package["source"],
            if is_itself { "local" } else { "crates.io" },
            "{package}"
        );
    }
}
