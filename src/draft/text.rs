//! A draft as YAML with comments, ready to be reviewed and applied.
//!
//! Must never: let a name of the cluster end a comment, or begin anything but text.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Draft, Drafted, Section};

/// Longest comment line, in characters.
const WIDTH: usize = 118;
/// Parts of a spec, in the order in which they are written, with the comments that stand before each.
const PARTS: [(&str, Section); 7] = [
    ("engine", Section::Engine),
    ("launchers", Section::Launchers),
    ("identity", Section::Identity),
    ("images", Section::Images),
    ("permissions", Section::Permissions),
    ("secrets", Section::Secrets),
    ("network", Section::Network),
];

/// Writes a draft. `looked_at` and `unread` are lines: what was listed, and what could not be read.
///
/// # Errors
/// When a declaration cannot be written as YAML.
pub fn write(draft: &Draft, looked_at: &[String], unread: &[String]) -> Result<String, serde_saphyr::SerializeError> {
    let mut text = String::new();
    head(&mut text, draft, looked_at, unread);
    for drafted in &draft.workflows {
        declaration(&mut text, draft, drafted)?;
    }
    Ok(text)
}

fn head(text: &mut String, draft: &Draft, looked_at: &[String], unread: &[String]) {
    let namespace = &draft.namespace;
    let mut say = |line: &str| comment(text, 0, "", line);
    say(&format!(
        "Drafted by ringfence draft from what was seen in namespace {namespace}. What runs is not what should: read every line."
    ));
    say(&format!(
        "Looked at: {}.",
        if looked_at.is_empty() {
            "nothing".to_owned()
        } else {
            looked_at.join(", ")
        }
    ));
    for (title, lines) in [
        ("Could not be read, so it is not in here:", unread),
        ("Left out:", &draft.left_out),
    ] {
        if !lines.is_empty() {
            comment(text, 0, "", title);
            lines.iter().for_each(|line| comment(text, 0, "- ", line));
        }
    }
    if draft.workflows.is_empty() {
        return comment(text, 0, "", "There is nothing to declare.");
    }
    let adopted: Vec<_> = draft.workflows.iter().filter(|drafted| drafted.adopts).collect();
    comment(text, 0, "", "Next steps:");
    let mut steps = vec![
        "Review this file: launchers, images, Secrets and peers above all. ringfence render FILE shows what comes of it."
            .to_owned(),
        format!(
            "kubectl label namespace {namespace} ringfence.dev/audit=default    (verb approve on that class; the class must allow what is declared)"
        ),
        "ringfence diff FILE, then kubectl apply -f FILE".to_owned(),
        format!(
            "kubectl label namespace {namespace} ringfence.dev/warn=default    From here accounts, roles and allow policies are made; wait for them before any template names an account: kubectl get aiworkflows --namespace {namespace} shows the reason NotEnforced."
        ),
    ];
    if !adopted.is_empty() {
        steps.push("The accounts are there already. Whoever holds approve lets Ringfence have them:".to_owned());
        steps.extend(adopted.iter().map(|drafted| adoption(namespace, drafted)));
    }
    steps.extend([
        "As a launcher, put the label ringfence.dev/workflow: NAME on every workload and its template, and the account into the template; ringfence render FILE --pod NAME prints the block.".to_owned(),
        "Delete the RoleBindings and NetworkPolicies that this replaces.".to_owned(),
        format!("ringfence check namespace {namespace} says what would be refused. When that is nothing but the namespace's Pod Security level:"),
        format!(
            "kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=restricted ringfence.dev/enforce=default    (the level that the class asks for, not before the pods meet it)"
        ),
    ]);
    let mut number = 0;
    for step in steps {
        if step.starts_with("kubectl annotate") {
            verbatim(text, 0, &step);
        } else {
            number += 1;
            comment(text, 0, &format!("{number}. "), &step);
        }
    }
}

fn adoption(namespace: &str, drafted: &Drafted) -> String {
    format!(
        "kubectl annotate serviceaccount {} --namespace {namespace} ringfence.dev/adopt={}",
        drafted.workflow.service_account_name(),
        drafted.workflow.name_any()
    )
}

fn declaration(text: &mut String, draft: &Draft, drafted: &Drafted) -> Result<(), serde_saphyr::SerializeError> {
    let workflow = &drafted.workflow;
    text.push_str("---\n");
    for note in drafted.notes.of(Section::Whole) {
        comment(text, 0, "", note);
    }
    let head = json!({
        "apiVersion": "ringfence.dev/v1alpha1",
        "kind": "AIWorkflow",
        "metadata": {"name": workflow.name_any(), "namespace": draft.namespace},
    });
    text.push_str(&yaml(&head, 0)?);
    text.push_str("spec:\n");
    let spec = serde_json::to_value(&workflow.spec).unwrap_or_default();
    for (part, section) in PARTS {
        for note in drafted.notes.of(section) {
            comment(text, 2, "", note);
        }
        if section == Section::Identity && drafted.adopts {
            comment(
                text,
                2,
                "",
                "This account is there already, and stays as it is until it may be adopted:",
            );
            verbatim(text, 2, &adoption(&draft.namespace, drafted));
        }
        if let Some(value) = spec.get(part).filter(|value| !value.is_null()) {
            text.push_str(&yaml(&json!({part: value}), 2)?);
        }
    }
    Ok(())
}

fn yaml(value: &Value, indent: usize) -> Result<String, serde_saphyr::SerializeError> {
    let text = serde_saphyr::to_string(value)?;
    Ok(text.lines().map(|line| format!("{:indent$}{line}\n", "")).collect())
}

/// A comment of as many lines as it needs.
fn comment(text: &mut String, indent: usize, mark: &str, words: &str) {
    let margin = format!("{:indent$}# ", "");
    let mut line = format!("{margin}{mark}");
    let mut is_empty = true;
    // Whatever ends a line, for whoever reads it, is a space here.
    for word in words
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !is_empty && line.chars().count() + word.chars().count() >= WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = format!("{margin}{:width$}", "", width = mark.chars().count());
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

/// A command in a comment, in one line, so that it can be copied.
fn verbatim(text: &mut String, indent: usize, command: &str) {
    let command: String = command
        .chars()
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .collect();
    text.push_str(&format!("{:indent$}#     {command}\n", ""));
}
