//! How deep rules use each other. Recursion overflows the stack, which nothing catches.

use std::collections::BTreeMap;

use super::at;
use super::tree::Rule;
use crate::policy::error::LoadError;

/// Longest chain of rules and functions that call each other; three thousand overflow the stack.
const MAX_CALL_DEPTH: usize = 64;

/// The first recursion, or chain that is too long.
pub(super) fn check(file: &str, rules: &BTreeMap<String, Rule>) -> Option<LoadError> {
    let mut depths: BTreeMap<String, usize> = BTreeMap::new();
    for name in rules.keys() {
        let mut trail = Vec::new();
        if let Err(message) = depth(rules, name, &mut trail, &mut depths) {
            let rule = trail.last().and_then(|last| rules.get(last));
            let (file, place) = rule.map_or((file, (0, 0)), |rule| (rule.file.as_str(), rule.place));
            return Some(at(file, place, message));
        }
    }
    None
}

/// Length of the longest chain of uses that starts at `name`; an error when it is endless or too long.
fn depth(
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
