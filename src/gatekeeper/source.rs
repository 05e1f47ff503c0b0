//! What a template's Rego says of itself, read without the engine: its package, its words, and what it looks at in `data.inventory`.
//!
//! Must never: decide what the Rego means. Whoever loads the policy reads it with the engine; here a word too many is asked about
//! rather than one too few.

use std::collections::BTreeSet;

use crate::policy::Tokens;

/// Where a template looks in `data.inventory`. What is no constant is `None`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Look {
    pub(super) group_version: Option<String>,
    pub(super) kind: Option<String>,
}

/// What one module says.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Components of its package.
    pub(super) package: Vec<String>,
    /// Names and texts in it.
    pub(super) words: BTreeSet<String>,
    pub(super) looks: BTreeSet<Look>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

impl Scan {
    pub(super) fn of(source: &str) -> Self {
        let tokens = tokens(source);
        let mut scan = Self::default();
        for (at, token) in tokens.iter().enumerate() {
            let Token::Word(word) = token else {
                if let Token::Text(text) = token {
                    scan.words.insert(text.clone());
                }
                continue;
            };
            let is_field = at > 0 && tokens.get(at - 1) == Some(&Token::Sign('.'));
            // The root of all rules is no field.
            if is_field || word != "data" {
                scan.words.insert(word.clone());
            }
            let rest = tokens.get(at + 1..).unwrap_or_default();
            match word.as_str() {
                "package" if scan.package.is_empty() && !is_field => scan.package = package(rest),
                "data" if !is_field => scan.looks.extend(look(&steps(rest))),
                _ => {}
            }
        }
        scan
    }

    /// Whether a name or a text is in it.
    pub(super) fn says(&self, word: &str) -> bool {
        self.words.contains(word)
    }

    /// Both of two modules; the package is the first one's.
    pub(super) fn join(mut self, other: Self) -> Self {
        self.words.extend(other.words);
        self.looks.extend(other.looks);
        self
    }
}

fn package(rest: &[Token]) -> Vec<String> {
    let Some((Token::Word(first), rest)) = rest.split_first() else {
        return Vec::new();
    };
    let mut path = vec![first.clone()];
    for step in steps(rest) {
        let Some(name) = step else { break };
        path.push(name);
    }
    path
}

/// The steps of a reference, from behind its root: a name, or `None` for what is no constant.
fn steps(tokens: &[Token]) -> Vec<Option<String>> {
    let mut steps = Vec::new();
    let mut at = 0;
    loop {
        match (tokens.get(at), tokens.get(at + 1), tokens.get(at + 2)) {
            (Some(Token::Sign('.')), Some(Token::Word(name)), _) => {
                steps.push(Some(name.clone()));
                at += 2;
            }
            (Some(Token::Sign('[')), Some(Token::Text(name)), Some(Token::Sign(']'))) => {
                steps.push(Some(name.clone()));
                at += 3;
            }
            (Some(Token::Sign('[')), _, _) => {
                let mut depth = 0_usize;
                let close = tokens.iter().skip(at).position(|token| {
                    match token {
                        Token::Sign('[') => depth += 1,
                        Token::Sign(']') => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    depth == 0
                });
                let Some(close) = close else { return steps };
                steps.push(None);
                at += close + 1;
            }
            _ => return steps,
        }
    }
}

/// `data.inventory.cluster[groupVersion][kind][name]` and `data.inventory.namespace[namespace][groupVersion][kind][name]`.
fn look(steps: &[Option<String>]) -> Option<Look> {
    let (first, rest) = steps.split_first()?;
    if first.as_deref() != Some("inventory") {
        return None;
    }
    let skipped = match rest.first().map(Option::as_deref) {
        Some(Some("cluster")) => 1,
        Some(Some("namespace")) => 2,
        _ => usize::MAX,
    };
    let step = |number: usize| rest.get(skipped.checked_add(number)?).cloned().flatten();
    Some(Look {
        group_version: step(0),
        kind: step(1),
    })
}

fn tokens(source: &str) -> Vec<Token> {
    let tokens = Tokens::read(source);
    let texts = (0..tokens.len()).filter_map(|number| tokens.text(number));
    texts.filter_map(token).collect()
}

/// What is no text after all says nothing.
fn token(text: &str) -> Option<Token> {
    let first = text.chars().next()?;
    Some(match first {
        '"' => Token::Text(serde_json::from_str(text).ok()?),
        '`' => Token::Text(text.trim_matches('`').to_owned()),
        c if c.is_alphanumeric() || c == '_' => Token::Word(text.to_owned()),
        c => Token::Sign(c),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("package a", &["a"])]
    #[case("# package no\npackage a.b\nimport data.lib.x", &["a", "b"])]
    #[case("package a[\"b-c\"].d\n\nviolation[x] { x := 1 }", &["a", "b-c", "d"])]
    #[case("", &[])]
    #[case("x := \"package a\"", &[])]
    fn the_package_is_read(#[case] source: &str, #[case] package: &[&str]) {
        assert_eq!(Scan::of(source).package, package);
    }

    #[rstest]
    #[case("data.inventory.cluster[\"v1\"].Namespace[n]", &[(Some("v1"), Some("Namespace"))])]
    #[case("data.inventory.cluster.v1[\"Namespace\"]", &[(Some("v1"), Some("Namespace"))])]
    #[case("data.inventory.namespace[x[0].y][_][`Service`][name]", &[(None, Some("Service"))])]
    #[case("data.inventory.namespace[ns][\"apps/v1\"][k]", &[(Some("apps/v1"), None)])]
    #[case("data [\"inventory\"].namespace[ns]", &[(None, None)])]
    #[case("x := data.inventory", &[(None, None)])]
    #[case("data.inventory[kind][\"v1\"].Pod", &[(None, None)])]
    #[case("input.data.inventory.cluster[\"v1\"].Pod", &[])]
    #[case("data.lib.inventory", &[])]
    #[case("# data.inventory\n\"data.inventory\"", &[])]
    #[case("data.inventory.cluster[", &[(None, None)])]
    fn looks_are_found(#[case] source: &str, #[case] looks: &[(Option<&str>, Option<&str>)]) {
        let found = Scan::of(source).looks;
        let found: Vec<_> = found
            .iter()
            .map(|look| (look.group_version.as_deref(), look.kind.as_deref()))
            .collect();
        assert_eq!(found, looks);
    }

    #[test]
    fn words_are_names_and_texts_but_no_comments() {
        let scan = Scan::of("x := input.review.operation == \"DELETE\" # UPDATE");
        assert!(scan.says("DELETE") && scan.says("operation") && !scan.says("UPDATE"));
    }
}
