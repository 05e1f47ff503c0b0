//! Which files are tested together: by names and packages, read as lines of text and no more.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::{Declared, RegoVersion, Source, Suite, means_to_be_a_policy, package_of};
use crate::vetting::Tested;

const TESTS: &str = "_test.rego";

/// Suites of files, in their order: one for each policy with METADATA, or for several that tests look at together; one for all files
/// without METADATA; one for each RegoPolicy.
pub(super) fn of(rego: Vec<Source>, objects: Vec<(String, Declared)>, version: RegoVersion) -> Vec<Tested> {
    let (tests, others): (Vec<_>, Vec<_>) = rego.into_iter().partition(|source| source.file.ends_with(TESTS));
    let (policies, modules): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|source| means_to_be_a_policy(&source.text));
    let (tests, helpers): (Vec<_>, Vec<_>) = tests.into_iter().partition(has_tests);
    let mut by_policies: BTreeMap<BTreeSet<usize>, Vec<Source>> = BTreeMap::new();
    for test in tests {
        let of = |(_, policy): &(usize, &Source)| is_of(&test, policy);
        let numbers = policies
            .iter()
            .enumerate()
            .filter(of)
            .map(|(number, _)| number)
            .collect();
        by_policies.entry(numbers).or_default().push(test);
    }
    for number in 0..policies.len() {
        if !by_policies.keys().any(|numbers| numbers.contains(&number)) {
            by_policies.insert(BTreeSet::from([number]), Vec::new());
        }
    }
    // Those without a policy of their own come last: they have what helps none of the others.
    let plain = by_policies.remove(&BTreeSet::new());
    let mut taken = BTreeSet::new();
    let mut suites = Vec::new();
    for (numbers, mut tests) in by_policies {
        let helping = helpers
            .iter()
            .enumerate()
            .filter(|(_, helper)| tests.iter().any(|test| helps(helper, test)));
        let (places, helping): (Vec<_>, Vec<_>) = helping.map(|(place, helper)| (place, helper.clone())).unzip();
        taken.extend(places);
        tests.extend(helping);
        let looks = |test: &Source| modules.iter().any(|module| mentions_package_of(test, module));
        suites.push(Suite {
            policies: numbers
                .iter()
                .filter_map(|number| policies.get(*number))
                .cloned()
                .collect(),
            modules: if tests.iter().any(looks) {
                modules.clone()
            } else {
                Vec::new()
            },
            tests,
            version,
        });
    }
    let left = helpers
        .into_iter()
        .enumerate()
        .filter(|(place, _)| !taken.contains(place));
    let tests: Vec<_> = plain
        .unwrap_or_default()
        .into_iter()
        .chain(left.map(|(_, helper)| helper))
        .collect();
    if !modules.is_empty() || !tests.is_empty() {
        suites.push(Suite {
            policies: Vec::new(),
            modules,
            tests,
            version,
        });
    }
    suites.sort_by(|a, b| first(a).cmp(first(b)));
    let objects = objects.into_iter().map(|(file, declared)| Tested::Object {
        file,
        declared: Box::new(declared),
    });
    suites.into_iter().map(Tested::Rego).chain(objects).collect()
}

fn first(suite: &Suite) -> &str {
    let all = [&suite.tests, &suite.policies, &suite.modules];
    all.into_iter().flatten().next().map_or("", |source| &source.file)
}

fn has_tests(source: &Source) -> bool {
    source
        .text
        .lines()
        .any(|line| line.starts_with("test_") || line.starts_with("todo_test_"))
}

/// Whether tests are those of a policy: by the name of the file, by the package, or because they look at it.
fn is_of(test: &Source, policy: &Source) -> bool {
    let stem = |file: &str, end: &str| file.strip_suffix(end).map(str::to_owned);
    let beside = stem(&test.file, TESTS) == stem(&policy.file, ".rego");
    beside || same_package(test, policy) || mentions_package_of(test, policy)
}

fn same_package(test: &Source, policy: &Source) -> bool {
    let (Some(of_test), Some(of_policy)) = (package_of(&test.text), package_of(&policy.text)) else {
        return false;
    };
    of_test == of_policy || of_test.strip_suffix("_test") == Some(of_policy)
}

fn mentions_package_of(test: &Source, other: &Source) -> bool {
    let Some(package) = package_of(&other.text) else {
        return false;
    };
    let path = format!("data.{package}");
    let ends = |at: usize| {
        let next = test.text.get(at + path.len()..).and_then(|rest| rest.chars().next());
        next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    };
    test.text.match_indices(&path).any(|(at, _)| ends(at))
}

/// Whether a file without tests is there for one with tests.
fn helps(helper: &Source, test: &Source) -> bool {
    let folder = |source: &Source| source.file.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    folder(helper) == folder(test) || mentions_package_of(test, helper)
}
