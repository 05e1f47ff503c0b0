//! The rooms that decide import no client, no runtime, no clock, no environment and no files.

use std::{fs, path::Path};

const PURE_ROOMS: [&str; 12] = [
    "access",
    "api",
    "decisions",
    "draft",
    "egress",
    "fence",
    "findings",
    "gatekeeper",
    "images",
    "plan",
    "policy",
    "review",
];

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

/// The same among imports, however they are grouped: `use std::{fs, env}` says it too.
const FORBIDDEN_IMPORTS: [&str; 9] = [
    "std::env",
    "std::fs",
    "std::process",
    "std::time::SystemTime",
    "kube::Api",
    "kube::Client",
    "kube::runtime",
    "kube::client",
    "tokio",
];

/// Every imported path in full, groups written out one level deep.
fn joined_imports(code: &str) -> String {
    let mut found = String::new();
    for statement in code.split("use ").skip(1) {
        let statement: String = statement.split(';').next().unwrap().split_whitespace().collect();
        let (prefix, group) = statement.split_once('{').unwrap_or((&statement, ""));
        found.push_str(prefix);
        found.push('\n');
        for item in group.split([',', '{', '}']).filter(|item| !item.is_empty()) {
            found.push_str(&format!("{prefix}{item}\n"));
        }
    }
    found
}

#[test]
fn imports_are_seen_however_they_are_grouped() {
    let grouped =
        joined_imports("use std::{\n    collections::BTreeMap,\n    fs,\n};\nuse kube::{Client, ResourceExt};\n");
    assert!(
        grouped.contains("std::fs") && grouped.contains("kube::Client"),
        "{grouped}"
    );
}

/// A limit on time cannot be kept without a monotonic clock. No verdict depends on it but "the time was over".
const KEEPS_TIME: ([&str; 3], &str) = (
    [
        "src/policy/deadline.rs",
        "src/policy/set.rs",
        "src/policy/registered/mod.rs",
    ],
    "Instant::now",
);

#[test]
fn pure_rooms_import_no_client_runtime_clock_or_environment() {
    let mut seen = 0;
    for room in PURE_ROOMS {
        for (path, source) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room)) {
            seen += 1;
            // Tests may do what they like; they stand at the end of a file, or in one of their own.
            if path.ends_with("tests.rs") || path.ends_with("testing.rs") {
                continue;
            }
            let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
            let imports = joined_imports(code);
            for word in FORBIDDEN_IMPORTS {
                assert!(
                    !imports.contains(word),
                    "{path} imports {word}, which a pure room does not"
                );
            }
            for (number, line) in code
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                let allowed = |word: &str| KEEPS_TIME.0.iter().any(|file| path.ends_with(file)) && word == KEEPS_TIME.1;
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
