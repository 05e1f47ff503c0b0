//! `--policies DIR`: what is said of a folder whose policies cannot be trusted, by each subcommand that takes one.

use std::fs;

use rstest::rstest;

use crate::run::{Said, run};

const GOOD: &str = "# METADATA\n# title: Title\n# description: Description\n# custom:\n#   name: mine\n#   severity: low\n\
                    #   remediation: Do it\n#   scope: pod\npackage p\ndeny contains \"x\" if input.request.bad\n";

/// Rules that each rest on the next.
fn chain() -> String {
    let rules: String = (0..10_000)
        .map(|number| format!("r{number} if r{}\n", number + 1))
        .collect();
    format!("{rules}r10000 if input.request.bad\n")
}

fn with(policy: &[u8], subcommand: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.rego"), policy).unwrap();
    let folder = folder.path().display().to_string();
    run(&[subcommand, &["--policies", &folder]].concat(), b"")
}

#[rstest]
#[case::recursion(format!("{GOOD}f(x) := f(x - 1)\n").into_bytes(), "mine.rego:11:1: recursion (f -> f)")]
#[case::memory(format!("{GOOD}{}deny contains \"y\" if r0\n", chain()).into_bytes(), "mine.rego: the policy took more than 160 MiB of memory")]
#[case::no_utf8([GOOD.as_bytes(), b"# a\nx := \"\xff\"\n"].concat(), "mine.rego:12:7: this is no UTF-8")]
#[case::huge([GOOD.as_bytes(), "# padding\n".repeat(105_000).as_bytes()].concat(), "mine.rego: at most 1024 files of 262144 bytes each")]
#[case::after_a_mark(format!("\u{feff}{GOOD}x := [\n").into_bytes(), "mine.rego:12:")]
#[case::empty(Vec::new(), "mine.rego: there is no `package`")]
fn a_policy_that_cannot_be_trusted_is_refused_by_its_file(
    #[case] policy: Vec<u8>,
    #[case] words: &str,
    #[values(&["scan"], &["check", "namespace", "ai"], &["run", "--namespace", "ringfence"])] subcommand: &[&str],
) {
    let said = with(&policy, subcommand);
    assert_ne!(said.code, 0);
    assert!(said.err.contains(words) || said.out.contains(words), "{said:?}");
}

/// The next thing that goes wrong is that there is no cluster.
#[rstest]
#[case::plain(GOOD.to_owned())]
#[case::with_a_mark(format!("\u{feff}{GOOD}"))]
#[case::of_windows(GOOD.replace('\n', "\r\n"))]
fn a_good_policy_is_taken_however_an_editor_saved_it(#[case] policy: String) {
    let said = with(policy.as_bytes(), &["scan"]);
    assert!(said.err.contains("cannot tell which cluster to talk to"), "{said:?}");
}

#[test]
fn the_subcommand_that_vets_is_not_for_people() {
    let said = run(&["--help"], b"");
    assert!(!said.out.contains("vet-policies"), "{}", said.out);
    // Nor does it take nothing for a good set.
    assert_ne!(run(&["vet-policies"], b"").code, 0);
}
