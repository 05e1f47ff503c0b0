//! How deep rules use each other. Recursion overflows the stack, which nothing catches.

use std::collections::BTreeMap;

use super::tree::Rule;

/// Longest chain of rules and functions that call each other; three thousand overflow the stack.
const MAX_CALL_DEPTH: usize = 64;

/// Length of the longest chain of uses that starts at `name`; an error when it is endless or too long.
pub(super) fn depth(
    rules: &BTreeMap<String, Rule>,
    name: &str,
    trail: &mut Vec<String>,
    depths: &mut BTreeMap<String, usize>,
) -> Result<usize, String> {
    if let Some(known) = depths.get(name) {
        return Ok(*known);
    }
    let start = trail.iter().position(|passed| passed == name);
    trail.push(name.to_owned());
    if let Some(start) = start {
        let cycle = trail.get(start..).unwrap_or_default().join(" -> ");
        return Err(format!(
            "recursion ({cycle}): Rego forbids it, and it would end the process"
        ));
    }
    let too_long = || format!("rules use each other more than {MAX_CALL_DEPTH} deep, from `{name}` on");
    if trail.len() > MAX_CALL_DEPTH {
        return Err(too_long());
    }
    let mut deepest = 0;
    for used in rules.get(name).into_iter().flat_map(|rule| &rule.uses) {
        deepest = deepest.max(depth(rules, used, trail, depths)?);
    }
    trail.pop();
    let own = deepest + 1;
    if own > MAX_CALL_DEPTH {
        return Err(too_long());
    }
    depths.insert(name.to_owned(), own);
    Ok(own)
}
