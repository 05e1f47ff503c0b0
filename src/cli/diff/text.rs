//! Differences as people read them: unified diffs of YAML.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use similar::TextDiff;

use super::{super::terminal::printable, compare::Difference};

/// Unchanged lines around a change.
const CONTEXT: usize = 3;
/// Longest that the search for the shortest diff of one object may take; then a longer one is taken.
const SEARCH: Duration = Duration::from_secs(2);
/// Name of a side that has no object, as `diff -N` and git say it.
const NOTHING: &str = "/dev/null";

/// One unified diff after the other; nothing when nothing differs.
pub(super) fn unified(differences: &[Difference], colour: bool) -> Result<String> {
    let mut text = String::new();
    for difference in differences {
        let place = difference.namespace.iter().map(|namespace| format!("{namespace}/"));
        let name = format!("{}/{}{}", difference.kind, place.collect::<String>(), difference.name);
        let (before, after) = (yaml(difference.before.as_ref())?, yaml(difference.after.as_ref())?);
        let side = |prefix: &str, value: &Option<Value>| match value {
            Some(_) => printable(&format!("{prefix}/{name}")),
            None => NOTHING.to_owned(),
        };
        let diff = TextDiff::configure().timeout(SEARCH).diff_lines(&before, &after);
        let diff = diff
            .unified_diff()
            .context_radius(CONTEXT)
            .header(&side("live", &difference.before), &side("applied", &difference.after))
            .to_string();
        for line in diff.lines() {
            text.push_str(&painted(line, colour));
            text.push('\n');
        }
    }
    Ok(text)
}

fn yaml(object: Option<&Value>) -> Result<String> {
    let Some(object) = object else {
        return Ok(String::new());
    };
    let text = serde_saphyr::to_string(object)?;
    // What is live was written by others.
    Ok(text.lines().map(|line| printable(line) + "\n").collect())
}

fn painted(line: &str, colour: bool) -> String {
    let code = match line.chars().next() {
        _ if !colour => None,
        _ if line.starts_with("+++ ") || line.starts_with("--- ") => Some("1"),
        Some('+') => Some("32"),
        Some('-') => Some("31"),
        Some('@') => Some("36"),
        _ => None,
    };
    match code {
        Some(code) => format!("\u{1b}[{code}m{line}\u{1b}[0m"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn difference(before: Option<Value>, after: Option<Value>) -> Difference {
        Difference {
            kind: "Role",
            namespace: Some("ai".into()),
            name: "x".into(),
            before,
            after,
        }
    }

    #[test]
    fn what_comes_goes_or_changes_is_a_patch() {
        let (one, two) = (json!({"a": 1, "b": [1]}), json!({"a": 2, "b": [1]}));
        let all = [
            difference(None, Some(one.clone())),
            difference(Some(one.clone()), Some(two)),
            difference(Some(one), None),
        ];
        assert_eq!(
            unified(&all, false).unwrap(),
            "--- /dev/null\n+++ applied/Role/ai/x\n@@ -0,0 +1,3 @@\n+a: 1\n+b:\n+- 1\n\
             --- live/Role/ai/x\n+++ applied/Role/ai/x\n@@ -1,3 +1,3 @@\n-a: 1\n+a: 2\n b:\n - 1\n\
             --- live/Role/ai/x\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-a: 1\n-b:\n-- 1\n"
        );
        let of_cluster = Difference {
            namespace: None,
            ..difference(None, Some(json!({"a": 1})))
        };
        let shown = unified(&[of_cluster], false).unwrap();
        assert!(shown.contains("+++ applied/Role/x\n"), "{shown}");
        assert_eq!(unified(&[], false).unwrap(), "");
    }

    #[test]
    fn colours_are_for_terminals_and_of_our_own() {
        let hostile = difference(None, Some(json!({"a": "\u{1b}[2J\u{202e}", "\u{9b}b": 1})));
        let plain = unified(&[hostile], false).unwrap();
        assert!(
            plain.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')),
            "{plain:?}"
        );
        let painted = unified(&[difference(None, Some(json!({"a": 1})))], true).unwrap();
        assert!(painted.contains("\u{1b}[32m+a: 1\u{1b}[0m\n"), "{painted:?}");
        assert!(
            painted.contains("\u{1b}[1m+++ applied/Role/ai/x\u{1b}[0m\n"),
            "{painted:?}"
        );
    }
}
