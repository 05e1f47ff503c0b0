//! What a kubelet makes of the words of a container, and tells of them.
//!
//! Variables may name others, each twice: a few of them are more than a node has memory. And where a container cannot be made, its kubelet tells
//! why by the words themselves, quoted and whole: a status that is larger than can be stored says nothing of the pod any more. Must never: count
//! less than a kubelet does, or show a word, which may be secret.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::object::{at, is_full, violation};
use super::room::RULE;
use super::template::{CONTAINERS, Template};
use crate::review::Violation;

/// What variables may add to all words of a container, in bytes.
const MAX_ADDED: usize = 256 << 20;
/// The longest text that is told whole; and path: Linux knows none that is longer.
const MAX_TEXT: usize = 4096;
/// The longest that a value may be which the pod does not say itself: all that a ConfigMap holds. And the longest annotation.
const ELSEWHERE: usize = 1 << 20;
const ANNOTATION: usize = 256 << 10;
/// The longest of what a kubelet knows of a pod, and of the key of a file.
const KNOWN: usize = 253;
/// How many openings without an end a text may have: a kubelet looks for the end of each, through all that follows.
const MAX_UNCLOSED: usize = 1000;
/// Fields of a container whose commands are run again and again.
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
/// Fields of a container whose words are given to programs alone: a kubelet repeats nothing of them.
const GIVEN: [&str; 6] = [
    "args",
    "command",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
];

/// Checks a pod, or what makes pods.
pub(super) fn check(template: &Template<'_>, violations: &mut Vec<Violation>) {
    let spec = template.pod.get("spec").unwrap_or(&Value::Null);
    let mut refuse = |path: String, message: String, fix: &str| {
        if !is_full(violations) {
            violations.push(violation(RULE, at(template.path, &path), None, message, fix));
        }
    };
    if let Some(long) = spec.get("securityContext").map(longest).filter(|long| *long > MAX_TEXT) {
        refuse("spec.securityContext".to_owned(), told(long), "shorten it");
    }
    for list in CONTAINERS {
        let containers = spec.get(list).and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let path = format!("spec.{list}[{index}]");
            let long = longest_of(container);
            if long > MAX_TEXT {
                refuse(path.clone(), told(long), "shorten it");
            }
            let key = |variable: &Value| Some(variable.pointer("/valueFrom/fileKeyRef/key")?.as_str()?.len());
            if items(container, "env").filter_map(key).any(|length| length > KNOWN) {
                let message = format!(
                    "has a fileKeyRef.key of more than {KNOWN} characters, and a kubelet tells one that is not there whole"
                );
                refuse(format!("{path}.env"), message, "choose a shorter key");
            }
            let words = Words::of(container);
            if words.added > MAX_ADDED {
                let message = format!(
                    "has variables that name others so often that its words grow by more than {MAX_ADDED} bytes, in the memory of its kubelet"
                );
                refuse(
                    format!("{path}.env"),
                    message,
                    "name long variables less often in values, command and args",
                );
            }
            if words.path > MAX_TEXT {
                let message = format!(
                    "has a subPathExpr that may come to more than {MAX_TEXT} bytes, and a kubelet tells a path that it cannot mount whole"
                );
                let fix = "name fewer variables in it, and take them from a value, or from a valueFrom.fieldRef other than an annotation";
                refuse(format!("{path}.volumeMounts"), message, fix);
            }
        }
    }
}

fn told(long: usize) -> String {
    format!(
        "has a text of {long} bytes, which a kubelet tells whole where it cannot be used, and {MAX_TEXT} are the most"
    )
}

/// What a container's words come to.
struct Words {
    /// Bytes by which variables make all of them longer.
    added: usize,
    /// The longest path.
    path: usize,
}

impl Words {
    fn of(container: &Value) -> Self {
        // The longest that each comes to: a source that is not there leaves what the name had before.
        let mut lengths: HashMap<&str, usize> = HashMap::new();
        let mut written: HashMap<&str, usize> = HashMap::new();
        let mut added = 0_usize;
        let prefixes = prefixes(container);
        let unknown = |name: &str| from_elsewhere(&prefixes, name);
        for variable in items(container, "env") {
            let name = variable.get("name").and_then(Value::as_str).unwrap_or_default();
            let said = variable.get("value").and_then(Value::as_str).unwrap_or_default();
            let by_names = references(said, |name| lengths.get(name).copied().unwrap_or_else(|| unknown(name)));
            added = added.saturating_add(by_names);
            let length = said.len().saturating_add(by_names).max(source(variable));
            let longest = lengths.entry(name).or_default();
            *longest = length.max(*longest);
            let longest = written.entry(name).or_default();
            *longest = said.len().max(*longest);
        }
        let known = |name: &str| lengths.get(name).copied().unwrap_or_else(|| unknown(name));
        for word in items(container, "command").chain(items(container, "args")) {
            let by_names = references(word.as_str().unwrap_or_default(), known);
            added = added.saturating_add(by_names);
        }
        // A probe's words are made anew each time, of values as they are written.
        for probe in PROBES {
            let command = container.pointer(&format!("/{probe}/exec/command"));
            for word in command.and_then(Value::as_array).into_iter().flatten() {
                let by_names = references(word.as_str().unwrap_or_default(), |name| {
                    written.get(name).copied().unwrap_or_default()
                });
                added = added.saturating_add(by_names);
            }
        }
        let paths = items(container, "volumeMounts").filter_map(|mount| mount.get("subPathExpr")?.as_str());
        let paths = paths.map(|path| path.len().saturating_add(references(path, known)));
        Self {
            added,
            path: paths.max().unwrap_or_default(),
        }
    }
}

/// What stands before the names of all that is taken of ConfigMaps and Secrets, each once.
fn prefixes(container: &Value) -> BTreeSet<&str> {
    let each = items(container, "envFrom");
    each.map(|from| from.get("prefix").and_then(Value::as_str).unwrap_or_default())
        .collect()
}

/// The longest that a variable may be that a container does not name: of what all of a ConfigMap or Secret is taken from, or of a Service. What
/// none of these can be called, such as a command of a shell, is none.
fn from_elsewhere(prefixes: &BTreeSet<&str>, name: &str) -> usize {
    let of_no_key = |byte: u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'.' | b'_');
    // A prefix may be of any letters, and ends before the key does.
    let key = name.bytes().rposition(of_no_key).map_or(0, |at| at + 1)..name.len();
    if key.is_empty() {
        return 0;
    }
    let is_before = |prefix: &&str| key.contains(&prefix.len()) && name.starts_with(*prefix);
    if prefixes.iter().any(is_before) {
        ELSEWHERE
    } else if key.start == 0 {
        KNOWN
    } else {
        0
    }
}

/// The longest that a value may be which the pod does not say itself.
fn source(variable: &Value) -> usize {
    let Some(from) = variable.get("valueFrom").filter(|from| !from.is_null()) else {
        return 0;
    };
    let field = from.pointer("/fieldRef/fieldPath").and_then(Value::as_str);
    match field {
        Some(path) if path.starts_with("metadata.annotations") => ANNOTATION,
        Some(_) => KNOWN,
        None if from.get("resourceFieldRef").is_some() => KNOWN,
        None => ELSEWHERE,
    }
}

/// Bytes of the variables that a text names, as a kubelet reads it: `$(NAME)` to the first `)`, and `$$` is a dollar.
fn references(text: &str, length: impl Fn(&str) -> usize) -> usize {
    let (mut added, mut rest) = (0_usize, text);
    while let Some((_, after)) = rest.split_once('$') {
        rest = match after.as_bytes().first() {
            Some(b'$') => after.get(1..).unwrap_or_default(),
            Some(b'(') => match after.get(1..).and_then(|named| named.split_once(')')) {
                Some((name, behind)) => {
                    added = added.saturating_add(length(name));
                    behind
                }
                // Nor has any behind it.
                None if after.matches("$(").count() > MAX_UNCLOSED => return usize::MAX,
                None => break,
            },
            _ => after,
        };
    }
    added
}

/// Bytes of the longest text of a container, but for what it is given to run. Of that a kubelet tells the program.
fn longest_of(container: &Value) -> usize {
    let fields = container.as_object().into_iter().flatten();
    let told = fields
        .filter(|(field, _)| !GIVEN.contains(&field.as_str()))
        .map(|(field, value)| {
            let variables = value.as_array().filter(|_| field == "env").into_iter().flatten();
            let variables = variables.filter_map(Value::as_object).flatten();
            let of_variables = variables
                .filter(|(part, _)| *part != "value")
                .map(|(_, part)| longest(part));
            let of_others = if field == "env" { 0 } else { longest(value) };
            of_variables.max().unwrap_or_default().max(of_others)
        });
    let program = container.pointer("/command/0").map_or(0, longest);
    told.max().unwrap_or_default().max(program)
}

fn longest(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(longest).max().unwrap_or_default(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| name.len().max(longest(field)))
            .max()
            .unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn items<'a>(container: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    container.get(list).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn refused(pod: &Value) -> Vec<String> {
        let mut violations = Vec::new();
        check(&Template { path: "", pod }, &mut violations);
        violations.into_iter().map(|violation| violation.path).collect()
    }

    fn of(container: Value) -> Value {
        json!({"spec": {"containers": [{}], "initContainers": [container]}})
    }

    const PATHS: &str = "spec.initContainers[0].volumeMounts";
    const ENV: &str = "spec.initContainers[0].env";

    #[rstest]
    #[case::of_the_pod("$(A)", json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]), true)]
    #[case::a_value("x/$(A)/$(B)", json!([{"name": "A", "value": "a"}, {"name": "B"}]), true)]
    #[case::of_two("$(C)", json!([{"name": "A", "value": "a"}, {"name": "C", "value": "$(A)-$(A)"}]), true)]
    #[case::no_variable("x", json!([{"name": "A", "value": "x".repeat(9999)}]), true)]
    #[case::escaped(&"$$(A)".repeat(100), json!([{"name": "A", "value": "x".repeat(999)}]), true)]
    #[case::of_a_service("$(DB_SERVICE_HOST)", json!([]), true)]
    #[case::in_an_annotation("$(A)", json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a']"}}}]), false)]
    #[case::long("$(A)", json!([{"name": "A", "value": "x".repeat(4096)}]), false)]
    #[case::often(&"$(A)".repeat(600), json!([{"name": "A", "value": "x".repeat(253)}]), false)]
    #[case::a_name_with_a_bracket("$(A$(B)", json!([{"name": "A", "value": "a"}, {"name": "B", "value": "b"}, {"name": "A$(B", "value": "x".repeat(5000)}]), false)]
    #[case::of_a_config_map("$(A)", json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]), false)]
    #[case::said_twice("$(A)", json!([{"name": "A", "value": "a"}, {"name": "A", "value": "x".repeat(5000)}]), false)]
    fn a_path_is_no_longer_than_any_that_can_be_mounted(#[case] path: &str, #[case] env: Value, #[case] is_fine: bool) {
        let pod = of(json!({"env": env, "volumeMounts": [{"subPathExpr": path}]}));
        let expected: &[&str] = if is_fine { &[] } else { &[PATHS] };
        assert_eq!(refused(&pod), expected);
    }

    #[rstest]
    #[case::by_itself("", json!([]), "$(A)", false)]
    #[case::in_a_value("", json!([{"name": "B", "value": "/$(A)$(A)"}]), "$(B)", false)]
    #[case::by_its_prefix("P_", json!([]), "$(P_A)", false)]
    #[case::by_another("P_", json!([]), "$(A)", true)]
    fn what_comes_from_elsewhere_may_be_long(
        #[case] prefix: &str,
        #[case] env: Value,
        #[case] path: &str,
        #[case] is_fine: bool,
    ) {
        let from = json!([{"prefix": prefix, "configMapRef": {"name": "m"}}]);
        let pod = of(json!({"envFrom": from, "env": env, "volumeMounts": [{"subPathExpr": path}]}));
        let expected: &[&str] = if is_fine { &[] } else { &[PATHS] };
        assert_eq!(refused(&pod), expected);
    }

    /// A name that can be nobody's is looked for in none.
    #[test]
    fn many_names_are_looked_for_in_much_that_is_taken() {
        let long = "p".repeat(60);
        let named = |name: &str, times: usize| {
            let prefix = |at: usize| json!({"prefix": format!("{long}{at}"), "configMapRef": {"name": "m"}});
            let from: Vec<_> = (0..10_000).map(prefix).collect();
            of(json!({"envFrom": from, "args": [name.repeat(times)]}))
        };
        assert_eq!(refused(&named("$()", 300_000)), [""; 0]);
        assert_eq!(refused(&named("$(a b )", 300_000)), [""; 0]);
        assert_eq!(refused(&named(&format!("$({long}63x)"), 256)), [""; 0]);
        assert_eq!(refused(&named(&format!("$({long}63x)"), 257)), [ENV]);
    }

    #[rstest]
    #[case::a_key("a", &[""], ELSEWHERE)]
    #[case::behind_its_prefix("p_a", &["p_"], ELSEWHERE)]
    #[case::behind_one_of_other_letters("p a", &["p "], ELSEWHERE)]
    #[case::behind_half_of_it("p a", &["p"], 0)]
    #[case::no_more_than_its_prefix("p_", &["p_"], KNOWN)]
    #[case::nothing_behind_it("p ", &["p "], 0)]
    #[case::behind_more_than_ascii("\u{e9}a", &["\u{e9}"], ELSEWHERE)]
    #[case::behind_another_letter("\u{e9}a", &["\u{e8}"], 0)]
    #[case::of_a_service("DB_PORT", &["p_"], KNOWN)]
    #[case::empty("", &[""], 0)]
    fn a_name_is_found_behind_its_prefix(#[case] name: &str, #[case] prefixes: &[&str], #[case] expected: usize) {
        assert_eq!(from_elsewhere(&prefixes.iter().copied().collect(), name), expected);
    }

    /// What charts of databases and of workflow engines write.
    #[test]
    fn what_is_usual_is_not_refused() {
        let secret = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "db", "key": name}}});
        let mut env: Vec<_> = ["USER", "PASSWORD", "HOST", "PORT", "NAME"].map(secret).into();
        env.push(json!({"name": "DSN", "value": "postgresql://$(USER):$(PASSWORD)@$(HOST):$(PORT)/$(NAME)"}));
        for at in 0..20 {
            env.push(json!({"name": format!("DSN_{at}"), "value": "$(DSN)?ssl=1"}));
        }
        let script = "echo $(date) $(cat x | sort); ".repeat(100);
        let pod = of(json!({
            "envFrom": [{"secretRef": {"name": "all"}}], "env": env, "command": ["bash", "-c", script],
            "readinessProbe": {"exec": {"command": ["pg_isready", "-d", "$(DSN)"]}},
        }));
        assert_eq!(refused(&pod), [""; 0]);
    }

    #[test]
    fn a_probe_adds_what_is_written_each_time() {
        let probed = |times: usize| {
            of(json!({
                "env": [{"name": "A", "value": "x".repeat(240_000)}],
                "livenessProbe": {"exec": {"command": ["$(A)".repeat(times)]}},
            }))
        };
        assert_eq!(refused(&probed(1000)), [""; 0]);
        assert_eq!(refused(&probed(60_000)), [ENV]);
    }

    /// Whatever is behind the last end is looked through once, here; a kubelet looks through it for each.
    #[test]
    fn an_end_that_is_missing_is_looked_for_once() {
        let open = |times: usize| of(json!({"args": ["$(".repeat(times)]}));
        assert_eq!(refused(&open(1000)), [""; 0]);
        assert_eq!(refused(&open(3_000_000)), [ENV]);
    }

    /// It may be missing, and then the one before it counts.
    #[test]
    fn a_source_that_is_not_there_hides_no_length() {
        let missing = |at: usize| json!({"name": format!("V{at}"), "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": true}}});
        let said = |at: usize| json!({"name": format!("V{at}"), "value": format!("$(V{0})$(V{0})", at - 1)});
        let env: Vec<_> = [missing(0)]
            .into_iter()
            .chain((1..=15).flat_map(|at| [said(at), missing(at)]))
            .collect();
        assert_eq!(refused(&of(json!({"env": env}))), [ENV]);
    }

    /// Thirty variables, each of which names the one before twice, are a hundred gigabytes.
    #[test]
    fn variables_add_no_more_than_a_node_bears() {
        let doubled = |times: usize| {
            let first = json!({"name": "V0", "value": "x".repeat(100)});
            let next = |at: usize| json!({"name": format!("V{at}"), "value": format!("$(V{0})$(V{0})", at - 1)});
            let env: Vec<_> = [first].into_iter().chain((1..=times).map(next)).collect();
            of(json!({"env": env}))
        };
        assert_eq!(refused(&doubled(15)), [""; 0]);
        assert_eq!(refused(&doubled(30)), [ENV]);
        assert_eq!(refused(&doubled(200)), [ENV], "more than can be counted");
        let told = |times: usize| {
            let from = json!({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}});
            of(json!({"env": [from], "args": ["$(A)".repeat(times)]}))
        };
        assert_eq!(refused(&told(256)), [""; 0]);
        assert_eq!(refused(&told(257)), [ENV]);
    }

    #[rstest]
    #[case::level(json!({"securityContext": {"seLinuxOptions": {"level": "\u{7f}".repeat(4097)}}}), false)]
    #[case::profile(json!({"securityContext": {"seccompProfile": {"localhostProfile": "x".repeat(4097)}}}), false)]
    #[case::sub_path(json!({"volumeMounts": [{"subPath": "x".repeat(4097)}]}), false)]
    #[case::newer_than_us(json!({"newer": {"field": ["x".repeat(4097)]}}), false)]
    #[case::the_program(json!({"command": ["x".repeat(4097)]}), false)]
    #[case::a_key_of_a_file(json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "x".repeat(254)}}}]}), false)]
    #[case::the_name_of_a_variable(json!({"env": [{"name": "x".repeat(4097)}]}), false)]
    #[case::a_script(json!({"command": ["sh", "-c", "x".repeat(9999)], "args": ["x".repeat(9999)]}), true)]
    #[case::a_value(json!({"env": [{"name": "A", "value": "x".repeat(9999)}]}), true)]
    #[case::a_probe(json!({"readinessProbe": {"exec": {"command": ["x".repeat(9999)]}}}), true)]
    fn what_a_kubelet_tells_whole_is_short(#[case] container: Value, #[case] is_fine: bool) {
        assert_eq!(refused(&of(container.clone())).is_empty(), is_fine);
        let of_pod = json!({"spec": {"securityContext": container.get("securityContext")}});
        assert_eq!(
            refused(&of_pod).is_empty(),
            is_fine || container.get("securityContext").is_none()
        );
    }
}
