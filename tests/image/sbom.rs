//! The SBOM beside the binary: valid, and of nothing else than what the binary names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use support::repository;

use crate::binary::{Packages, embedded, target};
use crate::built::{image, printed, run, text};

/// Installing what checks it.
const INSTALL: u32 = 600;
/// Twenty seconds of processor time; this is for a busy machine.
const CHECK: u32 = 600;

fn file() -> PathBuf {
    image().root.join("ringfence.cdx.json")
}

fn sbom() -> Value {
    serde_json::from_slice(&fs::read(file()).expect("the SBOM")).expect("JSON")
}

/// Of a field that must be there.
fn told<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("no {field}: {object}"))
}

/// What the lock file says of each crate that was downloaded.
fn checksums() -> BTreeMap<(String, String), String> {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).expect("the lock file");
    let field = |package: &str, name: &str| -> Option<String> {
        let start = format!("{name} = \"");
        let line = package.lines().find_map(|line| line.strip_prefix(start.as_str()));
        Some(line?.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter_map(|package| {
            let of = (field(package, "name")?, field(package, "version")?);
            Some((of, field(package, "checksum")?))
        })
        .collect()
}

/// By the schema of CycloneDX's own library, and each purl by that of purls.
#[test]
fn it_is_valid() {
    let environment = repository().join("target/sbom");
    printed(
        INSTALL,
        "tests/support/build-venv.sh",
        &["image/sbom", text(&environment)],
    );
    let python = environment.join("venv/bin/python");
    let check = |file: &str| run(CHECK, text(&python), &["tests/image/sbom/check.py", file]);
    let said = check(text(&file()));
    assert!(
        said.status.success(),
        "{}: {}",
        said.status,
        String::from_utf8_lossy(&said.stderr)
    );
    // It would say so.
    let broken = image().folder.join("broken.cdx.json");
    let mut sbom = fs::read_to_string(file()).expect("the SBOM");
    let mistakes = [("\"SHA-256\"", "\"SHA256\""), ("?download_url", "&download_url")];
    for (part, by) in mistakes {
        assert!(sbom.contains(part), "{part}");
        sbom = sbom.replace(part, by);
    }
    fs::write(&broken, sbom).expect("written");
    let said = check(text(&broken));
    let error = String::from_utf8_lossy(&said.stderr);
    for (_, by) in mistakes {
        assert!(
            !said.status.success() && error.contains(by.trim_matches('"')),
            "{by}: {error}"
        );
    }
}

#[test]
fn it_says_what_it_is_of_and_no_path_of_the_machine_that_wrote_it() {
    let sbom = sbom();
    assert_eq!(
        (told(&sbom, "bomFormat"), told(&sbom, "specVersion")),
        ("CycloneDX", "1.5")
    );
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let described = &sbom["metadata"]["component"];
    assert_eq!((told(described, "name"), told(described, "version")), (name, version));
    assert_eq!(
        told(described, "purl"),
        format!("pkg:cargo/{name}@{version}?download_url=file://.")
    );
    assert_eq!(told(described, "bom-ref"), format!("path+file:///src#{name}@{version}"));
    assert_eq!(
        described["licenses"],
        json!([{"expression": env!("CARGO_PKG_LICENSE")}])
    );
    let properties = sbom["metadata"]["properties"].as_array().expect("properties");
    let architecture = json!({"name": "cdx:rustc:sbom:target:triple", "value": target()});
    assert!(properties.contains(&architecture), "{properties:?}");
    let text = sbom.to_string();
    assert!(!text.contains(repository().to_str().expect("UTF-8")));
}

#[test]
fn it_lists_what_the_binary_names() {
    let (sbom, checksums) = (sbom(), checksums());
    let mut listed = Packages::new();
    let mut references = BTreeSet::from([told(&sbom["metadata"]["component"], "bom-ref")]);
    for component in sbom["components"].as_array().expect("components") {
        let [name, version, purl, reference] =
            ["name", "version", "purl", "bom-ref"].map(|field| told(component, field));
        assert_eq!(component["type"], "library", "{component}");
        assert_eq!(
            purl,
            format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")),
            "{component}"
        );
        let package = (name.to_owned(), version.to_owned());
        let hash = json!([{"alg": "SHA-256", "content": checksums[&package]}]);
        assert_eq!(component["hashes"], hash, "{component}");
        assert!(listed.insert(package), "twice: {component}");
        assert!(references.insert(reference), "twice: {component}");
    }
    let (mut named, _) = embedded();
    assert!(named.remove(&(env!("CARGO_PKG_NAME").to_owned(), env!("CARGO_PKG_VERSION").to_owned())));
    assert_eq!(listed, named);
    // Who needs whom is told of each.
    let dependencies = sbom["dependencies"].as_array().expect("dependencies");
    let told: BTreeSet<&str> = dependencies.iter().map(|of| told(of, "ref")).collect();
    assert_eq!(told, references);
}
