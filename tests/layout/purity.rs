//! The rooms that decide import no client, no runtime, no clock, no environment and no files.

use std::{fs, path::Path};

const PURE_ROOMS: [&str; 6] = ["api", "fence", "images", "plan", "policy", "review"];

/// What would make a decision depend on more than its arguments.
const FORBIDDEN: [&str; 13] = [
    "kube::Api",
    "kube::Client",
    "kube::runtime",
    "kube::{Api",
    "kube::{Client",
    "runtime::",
    "tokio",
    "std::env",
    "std::fs",
    "std::process",
    "SystemTime",
    "Timestamp::now",
    "Instant::now",
];

/// A limit on time cannot be kept without a monotonic clock. No verdict depends on it but "the time was over".
const KEEPS_TIME: (&str, &str) = ("src/policy/set.rs", "Instant::now");

#[test]
fn pure_rooms_import_no_client_runtime_clock_or_environment() {
    let mut seen = 0;
    for room in PURE_ROOMS {
        for (path, source) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room)) {
            seen += 1;
            let code = source.split("#[cfg(test)]").next().unwrap();
            for (number, line) in code
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                let allowed = |word: &str| path.ends_with(KEEPS_TIME.0) && word == KEEPS_TIME.1;
                let found = FORBIDDEN.iter().find(|word| line.contains(*word) && !allowed(word));
                assert_eq!(found, None, "{path}:{} reaches outside a pure room: {line}", number + 1);
            }
        }
    }
    assert!(seen >= 20, "only {seen} files were looked at: a room was renamed");
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, source) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        if !path.ends_with("tests.rs") {
            assert!(source.starts_with("//!"), "{path} must begin with what it is for");
        }
    }
}

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}
