//! Patterns of repositories.
//!
//! Must never: let a part of a segment match. `registry.example.com*` would take in `registry.example.com.evil.example`.

use super::reference::{is_domain, is_path_component};

/// Whether a pattern is one: whole segments, `*` and `**` alone in theirs. Any other pattern matches nothing.
pub fn is_pattern(pattern: &str) -> bool {
    let mut segments = pattern.split('/');
    let first = segments
        .next()
        .is_some_and(|first| is_wildcard(first) || is_registry(first));
    first && segments.all(|segment| is_wildcard(segment) || is_path_component(segment))
}

/// A first segment without dot or port is a path on Docker Hub: in normal form it is never a registry.
fn is_registry(segment: &str) -> bool {
    is_domain(segment) && (segment == "localhost" || segment.contains(['.', ':']))
}

fn is_wildcard(segment: &str) -> bool {
    segment == "*" || segment == "**"
}

/// Whether a pattern allows a repository: `*` is one segment, `**` any number of them, none included.
pub fn matches(pattern: &str, repository: &str) -> bool {
    if !is_pattern(pattern) {
        return false;
    }
    let pattern: Vec<&str> = pattern.split('/').collect();
    let segments: Vec<&str> = repository.split('/').collect();
    // Greedy with one way back: linear in practice, at worst the product of both lengths, which are bounded.
    let (mut p, mut s, mut back) = (0, 0, None);
    while let Some(segment) = segments.get(s) {
        match pattern.get(p) {
            Some(&"**") => {
                back = Some((p, s));
                p += 1;
            }
            Some(wanted) if *wanted == "*" || wanted == segment => {
                p += 1;
                s += 1;
            }
            _ => {
                let Some((star, taken)) = back else { return false };
                back = Some((star, taken + 1));
                p = star + 1;
                s = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|segment| *segment == "**")
}

/// Whether two patterns have a repository in common. One that is no pattern has none with any.
pub fn may_overlap(one: &str, other: &str) -> bool {
    if !is_pattern(one) || !is_pattern(other) {
        return false;
    }
    let one: Vec<&str> = one.split('/').collect();
    let other: Vec<&str> = other.split('/').collect();
    // Cell `o` of a row: whether what is left of `one` and `other[o..]` have something in common. Rows come from the end, so that the
    // work is the product of both lengths, which are bounded, whatever wildcards there are.
    let mut row = vec![false; other.len() + 1];
    for rest in (0..=one.len()).rev() {
        let below = std::mem::replace(&mut row, vec![false; other.len() + 1]);
        let mine = one.get(rest).copied();
        for at in (0..=other.len()).rev() {
            let theirs = other.get(at).copied();
            let ahead = |row: &[bool], by: usize| row.get(at + by).copied().unwrap_or_default();
            let mine_takes = mine == Some("**") && (ahead(&below, 0) || theirs.is_some() && ahead(&row, 1));
            let theirs_takes = theirs == Some("**") && (ahead(&row, 1) || mine.is_some() && ahead(&below, 0));
            let both_take = match (mine, theirs) {
                (None, None) => true,
                (Some(mine), Some(theirs)) => (mine == theirs || mine == "*" || theirs == "*") && ahead(&below, 1),
                (None, Some(_)) | (Some(_), None) => false,
            };
            if let Some(cell) = row.get_mut(at) {
                *cell = mine_takes || theirs_takes || both_take;
            }
        }
    }
    row.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::repository;
    use super::*;

    #[rstest]
    #[case::exact("registry.example.com/finance/triage", true)]
    #[case::one("registry.example.com/finance/*", true)]
    #[case::many("registry.example.com/**", true)]
    #[case::all("**", true)]
    #[case::middle("registry.example.com/**/triage", true)]
    #[case::none_in_between("registry.example.com/finance/**/triage", true)]
    #[case::any_host("*/finance/triage", true)]
    #[case::one_is_not_two("registry.example.com/*", false)]
    #[case::one_is_not_none("registry.example.com/finance/triage/*", false)]
    #[case::a_prefix_is_not_enough("registry.example.com/fin", false)]
    #[case::partial_star("registry.example.com/fin*/triage", false)]
    #[case::star_in_host("*.example.com/finance/triage", false)]
    #[case::star_in_last("registry.example.com/finance/tri**", false)]
    #[case::three_stars("***", false)]
    #[case::question_mark("registry.example.com/finance/triag?", false)]
    #[case::regex("registry.example.com/.*", false)]
    #[case::other_port("registry.example.com:5000/finance/triage", false)]
    #[case::host_alone("registry.example.com", false)]
    #[case::empty("", false)]
    fn patterns_match_whole_segments(#[case] pattern: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, "registry.example.com/finance/triage"), expected);
    }

    #[test]
    fn a_registry_that_only_begins_alike_does_not_match() {
        let evil = repository("registry.example.com.evil.example/finance/triage").unwrap();
        assert!(!matches("registry.example.com/**", &evil));
        assert!(!matches(
            "docker.io/**",
            &repository("docker.io.evil.example/library/a").unwrap()
        ));
    }

    #[rstest]
    #[case::other_registry("docker.io/**", "registry.example.com/**", false)]
    #[case::same("docker.io/library/python", "docker.io/library/python", true)]
    #[case::inside("registry.example.com/team/**", "registry.example.com/**", true)]
    #[case::wider("**", "registry.example.com/team/*", true)]
    #[case::any_host("*/team/a", "registry.example.com/**", true)]
    #[case::too_short("registry.example.com/a", "registry.example.com/*/*", false)]
    #[case::both_ends("registry.example.com/**/a", "registry.example.com/**/b", false)]
    #[case::in_the_middle("registry.example.com/x/**", "**/y", true)]
    #[case::no_pattern("registry.example.com/**", "registry.example.com/a:1", false)]
    #[case::long(
        "**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/b",
        "**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/c",
        false
    )]
    fn patterns_overlap_where_one_repository_matches_both(
        #[case] one: &str,
        #[case] other: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(may_overlap(one, other), expected);
        assert_eq!(may_overlap(other, one), expected, "both ways");
    }

    /// Every path of at most `most` segments, each `a`, `b` or one that no pattern names.
    fn paths(most: usize) -> Vec<Vec<&'static str>> {
        let mut all = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..most {
            let longer = |path: &Vec<&'static str>| ["a", "b", "c"].map(|next| [&path[..], &[next]].concat());
            last = last.iter().flat_map(longer).collect();
            all.extend_from_slice(&last);
        }
        all
    }

    /// The plain definition, exponential and obvious.
    fn by_definition(pattern: &[&str], segments: &[&str]) -> bool {
        match (pattern.split_first(), segments.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), segment) => {
                by_definition(rest, segments) || segment.is_some_and(|(_, others)| by_definition(pattern, others))
            }
            (Some((&"*", rest)), Some((_, others))) => by_definition(rest, others),
            (Some((wanted, rest)), Some((segment, others))) => wanted == segment && by_definition(rest, others),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(
            pattern in prop::collection::vec(prop::sample::select(vec!["*", "**", "a", "b"]), 1..7),
            segments in prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..8),
        ) {
            // Behind a registry, which a first segment must be to stand for itself.
            let (pattern, segments) = ([&["r.example"], &pattern[..]].concat(), [&["r.example"], &segments[..]].concat());
            prop_assert_eq!(matches(&pattern.join("/"), &segments.join("/")), by_definition(&pattern, &segments));
        }

        #[test]
        fn overlapping_is_what_enumeration_says(
            one in prop::collection::vec(prop::sample::select(vec!["*", "**", "a", "b"]), 1..4),
            other in prop::collection::vec(prop::sample::select(vec!["*", "**", "a", "b"]), 1..4),
        ) {
            // The shortest path that two patterns share is no longer than both together.
            let shared = paths(6).into_iter().any(|path| by_definition(&one, &path) && by_definition(&other, &path));
            let behind = |pattern: &[&str]| format!("r.example/{}", pattern.join("/"));
            prop_assert_eq!(may_overlap(&behind(&one), &behind(&other)), shared);
        }
    }
}
