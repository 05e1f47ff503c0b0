//! What anybody may send, made up by the thousand: bytes of reviews, of TLS handshakes, of questions for names and of what a request to the
//! proxy names, objects with templates, objects for the rules, and requests for the matchConditions of every registration and guard. Each with an oracle that is not the code under test.
//!
//! A run is short, and always the same. `RINGFENCE_SEED` gives another one, `RINGFENCE_CASES` a longer one (cases of each target). Inputs
//! that are special, or once broke something, are in `corpus/`, and are tried first.

mod conditions;
mod handshakes;
mod json;
mod questions;
mod requests;
mod reviews;
mod rules;
mod skipped;
mod templates;

use std::path::Path;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Cases of a target; its own number without `RINGFENCE_CASES`.
fn runner(cases: u32) -> TestRunner {
    let setting = |name: &str| {
        let given = std::env::var(name).ok()?;
        Some(
            given
                .parse::<u32>()
                .unwrap_or_else(|error| panic!("{name}={given}: {error}")),
        )
    };
    let config = Config {
        cases: setting("RINGFENCE_CASES").unwrap_or(cases),
        failure_persistence: None,
        ..Config::default()
    };
    let mut seed = [7; 32];
    if let Some(other) = setting("RINGFENCE_SEED") {
        seed[..4].copy_from_slice(&other.to_le_bytes());
    }
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// The files of a folder of the corpus: name and bytes.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.display().to_string(), bytes)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} holds nothing", folder.display());
    found
}
