//! Promises 3 and 4: what an account holds, and who moved the fence.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::checker::{Checker, DOMAINS, LABEL, OWNER_UID, text};
use crate::fit::{Right, keys, list, rights};
use crate::past::Write;

/// Where a cloud reads which role an account has.
const CLOUD: [&str; 2] = ["eks.amazonaws.com/", "iam.gke.io/"];
/// What Ringfence writes on an object of its own: for whom it is, by UID and by name, of which form, and where the way to domains leads.
const OWN: [&str; 4] = [OWNER_UID, "ringfence.dev/owner", "ringfence.dev/revision", DOMAINS];
/// Kinds on which a reserved key means something.
const MEANT: [&str; 6] = [
    "AIWorkflow",
    "Namespace",
    "NetworkPolicy",
    "Role",
    "RoleBinding",
    "ServiceAccount",
];

/// What is granted beyond the declarations.
pub(crate) fn nothing_undeclared_is_granted(checker: &Checker<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for role in checker.objects("Role").filter(|role| is_marked(role)) {
        let Some(workflow) = owner(checker, role) else {
            continue;
        };
        let held: BTreeSet<Right> = rights(&role["rules"]).into_iter().collect();
        let declared: BTreeSet<Right> = rights(&workflow["spec"]["permissions"]["rules"]).into_iter().collect();
        for (group, resource, name, verb) in held.difference(&declared) {
            found.push(format!(
                "{} may {verb} {group}/{resource} {name}, undeclared",
                name_of(workflow)
            ));
        }
        let class = rights(&checker.seen.class["spec"]["permissions"]);
        for right in &held {
            if !class
                .iter()
                .any(|(group, resource, _, verb)| (group, resource, verb) == (&right.0, &right.1, &right.3))
            {
                found.push(format!(
                    "{} may {} {}/{}, above its class",
                    name_of(workflow),
                    right.3,
                    right.0,
                    right.1
                ));
            }
        }
    }
    for workflow in checker.workflows().filter(|workflow| is_ready(workflow)) {
        found.extend(lacks(checker, workflow));
    }
    let here = checker.objects("RoleBinding").chain(&checker.seen.bindings);
    for binding in here {
        let Some(subject) = list(&binding["subjects"])
            .iter()
            .find(|subject| names_us(checker, subject))
        else {
            continue;
        };
        let is_ours = is_marked(binding) && owner(checker, binding).is_some();
        if is_ours {
            continue;
        }
        let what = format!(
            "{} {} gives {} more",
            text(&binding["kind"]),
            name_of(binding),
            subject["name"]
        );
        if !checker.is_older(binding) {
            found.push(format!("{what}, and is younger than the fence"));
        } else if is_of_a_workflow(checker, subject) && !checker.is_told(binding) {
            found.push(format!("{what}, is from before, and nothing tells"));
        }
    }
    let tokens = checker
        .objects("Secret")
        .filter(|secret| secret["type"] == "kubernetes.io/service-account-token");
    for secret in tokens.filter(|secret| !checker.is_older(secret)) {
        found.push(format!("Secret {} holds a token of an account", name_of(secret)));
    }
    for write in fenced(checker, "TokenRequest") {
        found.push(format!("{} was given a token", write.by.user));
    }
    for account in checker.objects("ServiceAccount") {
        found.extend(clouds(checker, account));
    }
    found
}

/// What a workflow that is ready should hold, and does not.
fn lacks(checker: &Checker<'_>, workflow: &Value) -> Vec<String> {
    let uid = &workflow["metadata"]["uid"];
    let of_it = |object: &&Value| object["metadata"]["annotations"][OWNER_UID] == *uid;
    let held: Vec<Right> = checker
        .objects("Role")
        .filter(of_it)
        .flat_map(|role| rights(&role["rules"]))
        .collect();
    let declared = rights(&workflow["spec"]["permissions"]["rules"]);
    let missing = declared.iter().filter(|right| !held.contains(right));
    let mut found: Vec<String> = missing
        .map(|right| format!("{} is ready, and may not {right:?}", name_of(workflow)))
        .collect();
    let account = account_of(workflow);
    if !checker
        .objects("ServiceAccount")
        .filter(of_it)
        .any(|object| name_of(object) == account)
    {
        found.push(format!(
            "{} is ready, and {account} is not its account",
            name_of(workflow)
        ));
    }
    found
}

fn clouds(checker: &Checker<'_>, account: &Value) -> Vec<String> {
    let cloud =
        keys(&account["metadata"]["annotations"]).filter(|key| CLOUD.iter().any(|prefix| key.starts_with(prefix)));
    let cloud: Vec<&str> = cloud.collect();
    let is_declared = |key: &str| {
        let mut of_it = checker
            .workflows()
            .filter(|workflow| account_of(workflow) == name_of(account));
        of_it.any(|workflow| workflow["spec"]["identity"]["annotations"].get(key).is_some())
    };
    let uid = text(&account["metadata"]["uid"]);
    let written = fenced(checker, "ServiceAccount").any(|write| write.uid == uid);
    let undeclared = cloud
        .into_iter()
        .filter(|key| !is_declared(key) && (written || !checker.is_older(account)));
    undeclared
        .map(|key| format!("account {} has {key}, undeclared", name_of(account)))
        .collect()
}

/// What was moved by somebody who may not.
pub(crate) fn nobody_moves_the_fence(checker: &Checker<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let namespace = &checker.seen.namespace;
    let modes = ["ringfence.dev/enforce", "ringfence.dev/warn", "ringfence.dev/audit"];
    let left = Value::from(checker.seen.left.1.as_str());
    for (mode, wanted) in modes.iter().zip([&left, &Value::Null, &Value::Null]) {
        let is = &namespace["metadata"]["labels"][*mode];
        if is != wanted {
            found.push(format!("{mode} is {is}, and the platform left it {wanted}"));
        }
    }
    if checker.seen.class["spec"] != checker.seen.left.0 {
        found.push("the class is not as the platform left it".to_owned());
    }
    for object in checker.seen.objects.iter().chain([namespace]) {
        let what = format!("{} {}", text(&object["kind"]), name_of(object));
        let is_owned = is_marked(object);
        if is_owned && owner(checker, object).is_none() {
            found.push(format!("{what} is owned by nothing that is there"));
        }
        if !MEANT.contains(&text(&object["kind"])) {
            continue;
        }
        for map in ["labels", "annotations"] {
            let reserved = keys(&object["metadata"][map]).filter(|key| key.starts_with("ringfence.dev/"));
            let free = |key: &str| {
                key == LABEL
                    || (OWN.contains(&key) && is_owned)
                    || (object["kind"] == "Namespace" && modes.contains(&key))
            };
            found.extend(
                reserved
                    .filter(|key| !free(key))
                    .map(|key| format!("{what} carries {key}")),
            );
        }
    }
    found
}

/// Writes of a kind, while the fence stood.
fn fenced<'a>(checker: &Checker<'a>, kind: &'static str) -> impl Iterator<Item = &'a Write> {
    let past = checker.past;
    past.writes
        .iter()
        .filter(move |write| write.kind == kind && !past.was_open(write.at - 1, write.at + 1))
}

fn is_marked(object: &Value) -> bool {
    object["metadata"]["annotations"].get(OWNER_UID).is_some()
}

/// The owner that an object is marked with, where it is there, and its references say so as well.
fn owner<'a>(checker: &Checker<'a>, object: &Value) -> Option<&'a Value> {
    let uid = &object["metadata"]["annotations"][OWNER_UID];
    let namespace = &checker.seen.namespace;
    if *uid == namespace["metadata"]["uid"] && object["kind"] == "NetworkPolicy" {
        return Some(namespace);
    }
    let referred = list(&object["metadata"]["ownerReferences"])
        .iter()
        .any(|owner| owner["uid"] == *uid);
    checker
        .workflows()
        .find(|workflow| referred && workflow["metadata"]["uid"] == *uid)
}

/// Whether a subject is an account of the namespace, under whichever of its names.
fn names_us(checker: &Checker<'_>, subject: &Value) -> bool {
    let namespace = name_of(&checker.seen.namespace);
    let name = text(&subject["name"]);
    match text(&subject["kind"]) {
        "ServiceAccount" => subject["namespace"] == namespace,
        "User" => name.starts_with(&format!("system:serviceaccount:{namespace}:")),
        "Group" => name == format!("system:serviceaccounts:{namespace}"),
        _ => false,
    }
}

fn is_of_a_workflow(checker: &Checker<'_>, subject: &Value) -> bool {
    let name = text(&subject["name"]);
    let name = name.rsplit(':').next().unwrap_or(name);
    let mut accounts = checker.workflows().map(account_of);
    accounts.any(|account| subject["kind"] == "Group" || account == name)
}

fn is_ready(workflow: &Value) -> bool {
    let mut conditions = list(&workflow["status"]["conditions"]).iter();
    conditions.any(|condition| {
        condition["type"] == "Ready"
            && condition["status"] == "True"
            && condition["observedGeneration"] == workflow["metadata"]["generation"]
    })
}

fn account_of(workflow: &Value) -> &str {
    workflow["spec"]["identity"]["serviceAccountName"]
        .as_str()
        .unwrap_or(name_of(workflow))
}

fn name_of(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}
