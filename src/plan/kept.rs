//! What a workflow that is not accepted keeps: an older value that became invalid, or a class that became narrower, takes away what it
//! is about and nothing else, because pods run behind the fence. What nobody reviewed gives nothing new.
//!
//! Must never: give a right or a path that the declaration alone, or its class alone, would not; nor one that did not stand before.

use std::collections::BTreeMap;

use ipnet::IpNet;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::given::Record;
use super::object::{REVISION_ANNOTATION, comparable};
use super::{Child, Observed, cilium, domains, engine, name_of, network, owned_name, owner_uid, resolved, rules};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, OWNER_UID_ANNOTATION, PolicyRule, is_dns_label, is_dns_subdomain},
    egress,
};

/// Where a NetworkPolicy says who may come in.
const INGRESS: &str = "/spec/ingress";

/// Whose word it is what policies open.
pub(super) struct Word<'a> {
    /// The class's: the rule that it puts into the allow policy, if it does.
    dns: Option<Value>,
    /// The declaration's: what it takes out of its ranges.
    except: BTreeMap<(bool, String), Vec<&'a [String]>>,
}

impl<'a> Word<'a> {
    pub(super) fn new(workflow: &'a AIWorkflow, dns: Option<Value>) -> Self {
        let except = network::declared_except(workflow);
        Self { dns, except }
    }
}

/// Whether everything that is made for a workflow can bear the names that it declares. Where not, nothing is made at all.
pub(super) fn can_be_named(workflow: &AIWorkflow) -> bool {
    let (name, account) = (workflow.name_any(), workflow.service_account_name());
    let is_name = name.len() <= crate::api::MAX_WORKFLOW_NAME && is_dns_label(&name);
    is_name && account != "default" && is_dns_subdomain(account)
}

/// Rules that Ringfence gave, of the workflow's Role and of its launchers', where these stand: by its status, which nobody else may
/// write, and neither by its spec, which somebody wrote unreviewed, nor by the Roles, which the same one could edit. What the class takes
/// away since goes: it needs nobody's review. Which engine was in force the spec says, so each that the class opens counts.
pub(super) fn on_record(
    workflow: &AIWorkflow,
    observed: &Observed,
    class: &AIWorkflowClass,
) -> (Vec<PolicyRule>, Vec<PolicyRule>) {
    let keep = |given: Vec<PolicyRule>, part: &str, allowed: &[PolicyRule]| {
        let stands = role_that_stands(workflow, observed, part).is_some();
        let kept = given
            .into_iter()
            .filter(|rule| stands && rules::is_covered(rule, allowed));
        kept.collect()
    };
    let (mut own, mut launching) = (rules::at_home(class), Vec::new());
    for engine in engine::opened(class) {
        own.extend(engine.worker);
        // One that launches itself holds these as its own.
        own.extend_from_slice(&engine.launcher);
        launching.extend(engine.launcher);
    }
    let status = workflow.status.clone().unwrap_or_default();
    (
        keep(status.effective_rules, "role", &own),
        keep(status.launcher_rules, "launcher", &launching),
    )
}

/// Narrows what is desired by today's declaration to what stands of it and was given, while the declaration is held. Whether it stands at all.
pub(super) fn as_it_stood(
    (child, name): (Child, &str),
    desired: &mut Value,
    (workflow, word): (&AIWorkflow, &Word<'_>),
    observed: &Observed,
) -> bool {
    let uid = workflow.uid().unwrap_or_default();
    let ours = observed
        .children
        .iter()
        .find(|(kind, seen)| *kind == child && name_of(seen) == name && owner_uid(seen) == Some(uid.as_str()));
    let Some((_, seen)) = ours else { return false };
    let record = Record::new(workflow.status.as_ref().and_then(|status| status.given.as_deref()));
    for part in lists(child) {
        // Who edited the one while nobody reviewed may have edited the other: of one of them it must be known that nobody did.
        let was_given = |declared: &Value, stood: &Value| {
            let declared = as_declared((child, part), declared, word);
            record.holds((child, name), part, &declared) || record.holds((child, name), part, &comparable(stood))
        };
        only_of(desired, seen, part, |element| read(child, element, word), was_given);
    }
    if child == Child::CiliumNetworkPolicy {
        let was_given = |asked: &Value| record.holds((child, name), cilium::DNS_NAMES, asked);
        if !cilium::asks_for_what_it_opens(desired, &observed.namespace.name, was_given) {
            return false;
        }
    }
    if child == Child::ResolvedNames && !resolved::names_any(desired) {
        return false;
    }
    let stood = seen.pointer("/metadata/annotations").and_then(Value::as_object);
    if let Some((wanted, stood)) = desired
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
        .zip(stood)
    {
        if let Some(leads_to) = wanted.get_mut(egress::ANNOTATION) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let before = stood.get(egress::ANNOTATION).map(text).unwrap_or_default();
            let was_given = |rule: &Value| record.holds((child, name), egress::ANNOTATION, rule);
            let Some(narrowed) = domains::only_what_stood(&text(&*leads_to), &before, was_given) else {
                return false;
            };
            *leads_to = narrowed.into();
        }
        let is_narrowed = |key: &str| key == OWNER_UID_ANNOTATION || key == egress::ANNOTATION;
        let is_made = |key: &str| key == REVISION_ANNOTATION;
        wanted.retain(|key, value| {
            let stays = stood.get(key) == Some(value) && (is_made(key) || record.holds((child, name), key, value));
            is_narrowed(key) || stays
        });
        // Made from what was declared then.
        if let Some(revision) = stood.get(REVISION_ANNOTATION) {
            wanted.insert(REVISION_ANNOTATION.to_owned(), revision.clone());
        }
    }
    true
}

/// Lists of what is declared, in objects of that kind. The rules of a Role are those on record, as they are.
pub(super) const fn lists(child: Child) -> &'static [&'static str] {
    match child {
        Child::NetworkPolicy => &[INGRESS, "/spec/egress"],
        Child::RoleBinding => &["/subjects"],
        Child::ServiceAccount => &["/imagePullSecrets"],
        Child::ResolvedNames => &["/spec/rules"],
        Child::CiliumNetworkPolicy => &["/spec/egress"],
        Child::Role => &[],
    }
}

/// An element of such a list, to be compared; `None` where no declaration gives it.
pub(super) fn read(child: Child, element: &Value, word: &Word<'_>) -> Option<Value> {
    match child {
        Child::NetworkPolicy if Some(element) == word.dns.as_ref() => None,
        Child::NetworkPolicy => Some(without_excepts(&comparable(element))),
        Child::CiliumNetworkPolicy if !cilium::is_opening(element) => None,
        Child::CiliumNetworkPolicy
        | Child::ResolvedNames
        | Child::RoleBinding
        | Child::ServiceAccount
        | Child::Role => Some(comparable(element)),
    }
}

/// An element as its declaration has it: of a range, with what the declaration takes out of it, and not what the cluster does.
pub(super) fn as_declared((child, part): (Child, &str), element: &Value, word: &Word<'_>) -> Value {
    let read = comparable(element);
    let mut ranges = Vec::new();
    if child == Child::NetworkPolicy {
        ranges_in(&read, &mut ranges);
    }
    if ranges.is_empty() {
        return read;
    }
    let except = ranges
        .into_iter()
        .map(|range| word.except.get(&(part == INGRESS, range.to_owned())));
    json!([without_excepts(&read), except.collect::<Vec<_>>()])
}

fn ranges_in<'a>(rule: &'a Value, ranges: &mut Vec<&'a str>) {
    match rule {
        Value::Array(items) => items.iter().for_each(|item| ranges_in(item, ranges)),
        Value::Object(fields) => {
            ranges.extend(fields.get("cidr").and_then(Value::as_str));
            fields.values().for_each(|value| ranges_in(value, ranges));
        }
        _ => {}
    }
}

/// Keeps of a list what is in the same list of what stands, by that reading of an element, and was given; and what has no reading. What was taken
/// out of a range stays out of it.
fn only_of(
    desired: &mut Value,
    seen: &Value,
    pointer: &str,
    read: impl Fn(&Value) -> Option<Value>,
    was_given: impl Fn(&Value, &Value) -> bool,
) {
    let stood = seen.pointer(pointer).and_then(Value::as_array);
    let stood: Vec<_> = stood
        .into_iter()
        .flatten()
        .filter_map(|element| Some((read(element)?, element)))
        .collect();
    let Some(list) = desired.pointer_mut(pointer).and_then(Value::as_array_mut) else {
        return;
    };
    list.retain_mut(|element| {
        let Some(now) = read(element) else { return true };
        let alike = || stood.iter().filter(|(before, _)| *before == now);
        let same = alike().find(|(_, before)| comparable(before) == comparable(element));
        let Some((_, before)) = same.or_else(|| alike().next()) else {
            return false;
        };
        let stays = was_given(element, before);
        take_out(element, before);
        stays
    });
}

/// Takes out of the ranges of a rule what is taken out of the same ones of another, which is the same rule but for that.
fn take_out(rule: &mut Value, other: &Value) {
    match (rule, other) {
        (Value::Array(items), Value::Array(others)) => {
            items
                .iter_mut()
                .zip(others)
                .for_each(|(item, other)| take_out(item, other));
        }
        (Value::Object(fields), Value::Object(others)) => {
            let taken = others.get("except").and_then(Value::as_array).into_iter().flatten();
            for range in taken {
                let out = fields.entry("except").or_insert_with(|| json!([]));
                if let Some(out) = out.as_array_mut().filter(|out| !out.contains(range)) {
                    out.push(range.clone());
                    // As they are written otherwise: in another order they are a difference.
                    out.sort_by_key(|range| range.as_str().and_then(|text| text.parse::<IpNet>().ok()));
                }
            }
            for (key, value) in fields.iter_mut().filter(|(key, _)| *key != "except") {
                if let Some(other) = others.get(key) {
                    take_out(value, other);
                }
            }
        }
        _ => {}
    }
}

/// A rule of a NetworkPolicy without what is taken out of its ranges: the cluster's own ranges change while a workflow is held, and
/// stay closed.
fn without_excepts(rule: &Value) -> Value {
    match rule {
        Value::Array(items) => Value::Array(items.iter().map(without_excepts).collect()),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| *key != "except");
            Value::Object(kept.map(|(key, value)| (key.clone(), without_excepts(value))).collect())
        }
        other => other.clone(),
    }
}

/// Rules of the Role that stood and may stay: each valid by itself, inside the class, or of the engine that it opens.
pub(super) fn rules(
    workflow: &AIWorkflow,
    observed: &Observed,
    class_name: &str,
    class: &AIWorkflowClass,
) -> Vec<PolicyRule> {
    let stood = rules_that_stand(workflow, observed);
    let at_home = rules::at_home(class);
    let declared = workflow.rules().iter();
    let inside = declared.filter(|rule| rules::is_valid(rule, false) && rules::is_covered(rule, &at_home));
    let of_engine = engine::profile(workflow, class_name, class).map_or_else(|_| Vec::new(), |profile| profile.worker);
    let all = of_engine.iter().chain(inside);
    all.filter(|rule| rules::is_covered(rule, &stood)).cloned().collect()
}

/// Rules of the workflow's Role, as far as they can be read.
fn rules_that_stand(workflow: &AIWorkflow, observed: &Observed) -> Vec<PolicyRule> {
    let rules = role_that_stands(workflow, observed, "role").and_then(|role| role.get("rules")?.as_array());
    let read = |rule: &Value| serde_json::from_value(rule.clone()).ok();
    rules.into_iter().flatten().filter_map(read).collect()
}

/// That Role of the workflow's.
fn role_that_stands<'a>(workflow: &AIWorkflow, observed: &'a Observed, part: &str) -> Option<&'a Value> {
    let name = owned_name(&observed.namespace.name, &workflow.name_any(), part);
    let uid = workflow.uid().unwrap_or_default();
    let is_role = |(child, seen): &&(Child, Value)| {
        *child == Child::Role && name_of(seen) == name && owner_uid(seen) == Some(uid.as_str())
    };
    let role = observed.children.iter().find(is_role);
    role.map(|(_, role)| role)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::{
        api::{ConditionStatus, ConditionType, Reason, find},
        plan::{
            Change, Outcome, Plan, plan, status,
            tests::{kinds, observed, stored, workflow},
        },
    };

    fn rule(resource: &str, verb: &str) -> Value {
        json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]})
    }

    fn peer(app: &str) -> Value {
        json!({"name": app, "to": {"pods": {"selector": {"matchLabels": {"app": app}}}}, "ports": [{"port": 1}]})
    }

    /// A workflow that was accepted with two rights and two paths, and what is planned when `change` goes over its spec.
    fn changed(change: &Value) -> (AIWorkflow, Observed, Plan) {
        let mut spec = json!({
            "permissions": {"rules": [rule("configmaps", "get"), rule("services", "list")]},
            "network": {"egress": [peer("a"), peer("b")]},
        });
        let mut observed = observed();
        observed.children = stored(&plan(&workflow(spec.clone()), &observed).changes);
        spec.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let changed = workflow(spec);
        let plan = plan(&changed, &observed);
        (changed, observed, plan)
    }

    #[rstest]
    #[case::images(json!({"images": ["registry.example.com/x:1"]}))]
    #[case::no_images(json!({"images": []}))]
    #[case::launchers(json!({"launchers": [{"group": "system:authenticated"}]}))]
    #[case::a_right_elsewhere(json!({"permissions": {
        "rules": [rule("configmaps", "get"), rule("services", "list")],
        "crossNamespace": [{"namespace": "x", "rules": [rule("secrets", "get")]}],
    }}))]
    #[case::a_secret_of_no_name(json!({"identity": {"imagePullSecrets": [{"name": "../x"}]}}))]
    #[case::reserved(json!({"identity": {"annotations": {"ringfence.dev/owner-uid": "x"}}}))]
    fn what_has_nothing_to_do_with_an_invalid_value_stays_as_it_was(#[case] change: Value) {
        let (workflow, observed, plan) = changed(&change);
        assert_eq!(plan.acceptance.reason, Reason::Invalid);
        assert_eq!(plan.changes, [], "{:?}", kinds(&plan.changes));
        assert_eq!(plan.effective_rules.len(), 2);
        let now = "2026-11-22T08:00:00Z".parse().unwrap();
        let said = status(&workflow, &observed, &plan, &Outcome::Applied(None), now);
        let programmed = find(&said.conditions, ConditionType::Programmed).unwrap();
        assert_eq!(
            (programmed.status, programmed.reason.as_str()),
            (ConditionStatus::False, "Invalid")
        );
        assert!(programmed.message.contains("what is valid"), "{}", programmed.message);
    }

    #[test]
    fn an_invalid_path_and_an_invalid_right_go_alone() {
        let (_, _, plan) = changed(&json!({
            "permissions": {"rules": [rule("configmaps", "get"), rule("secrets", "get"), rule("pods", "list")]},
            "network": {"egress": [peer("a"), {"name": "b", "to": {"cidrs": ["10.0.0.1/8"]}, "ports": [{"port": 1}]}]},
        }));
        assert_eq!(plan.acceptance.reason, Reason::Invalid);
        assert_eq!(
            kinds(&plan.changes),
            [("replace", "NetworkPolicy"), ("replace", "Role")]
        );
        let [Change::Replace(_, policy), Change::Replace(_, role)] = plan.changes.as_slice() else {
            unreachable!()
        };
        assert_eq!(
            role["rules"],
            json!([rule("configmaps", "get")]),
            "neither what is invalid nor what never stood"
        );
        let egress = policy["spec"]["egress"].as_array().unwrap();
        assert_eq!(egress.len(), 2, "DNS and the other peer: {egress:?}");
    }

    #[test]
    fn what_never_stood_is_not_given() {
        let declared = json!({"images": [], "permissions": {"rules": [rule("configmaps", "get")]}});
        let plan = plan(&workflow(declared), &observed());
        assert_eq!(
            kinds(&plan.changes),
            [("create", "NetworkPolicy"), ("create", "ServiceAccount")]
        );
    }

    #[test]
    fn outside_its_class_it_keeps_the_rules_that_are_inside() {
        let (declared, mut observed, _) = changed(&json!({}));
        let narrower = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        observed.class.as_mut().unwrap().spec.permissions = serde_json::from_value(narrower).unwrap();
        let plan = plan(&declared, &observed);
        assert_eq!(plan.acceptance.reason, Reason::OutsideClass);
        assert_eq!(kinds(&plan.changes), [("replace", "Role")]);
        assert_eq!(plan.effective_rules.len(), 1);
    }

    #[test]
    fn the_account_default_is_never_made_ours() {
        let plan = plan(
            &workflow(json!({"identity": {"serviceAccountName": "default"}})),
            &observed(),
        );
        assert_eq!((plan.acceptance.reason, plan.changes.len()), (Reason::Invalid, 0));
    }

    #[test]
    fn older_pods_do_not_come_under_an_invalid_one_either() {
        let mut observed = observed();
        observed.predecessors.cut_off();
        let plan = plan(&workflow(json!({"images": []})), &observed);
        assert_eq!((plan.held, plan.changes.len()), (true, 0));
        assert_eq!(plan.acceptance.reason, Reason::Invalid, "what must be corrected first");
    }

    /// A class that became narrower takes away what it is about, whether anybody reviewed the declaration or not.
    #[test]
    fn what_nobody_reviewed_does_not_outlive_a_narrower_class() {
        let before = workflow(json!({
            "engine": "airflow", "launchers": [{"serviceAccount": {"namespace": "airflow", "name": "scheduler"}}],
            "permissions": {"rules": [rule("configmaps", "get"), rule("services", "list")]},
        }));
        let mut observed = observed();
        let made = plan(&before, &observed);
        observed.children = stored(&made.changes);
        let now = "2026-11-22T08:00:00Z".parse().unwrap();
        let said = status(&before, &observed, &made, &Outcome::Applied(None), now);
        let mut edited = before;
        edited.metadata.generation = Some(4);
        edited.status = Some(said);
        observed.registration.as_mut().unwrap().uid = "another".to_owned();
        let class = observed.class.clone().unwrap();
        let roles = |observed: &Observed| {
            let held = plan(&edited, observed);
            assert_eq!(held.acceptance.reason, Reason::NotReviewed);
            (held.effective_rules.len(), held.launcher_rules.len())
        };
        let (own, launching) = roles(&observed);
        assert!(own >= 2 && launching > 0, "{own} {launching}");
        let services = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]);
        observed.class.as_mut().unwrap().spec.permissions = serde_json::from_value(services).unwrap();
        assert_eq!(roles(&observed), (own - 1, launching));
        observed.class = Some(class);
        observed.class.as_mut().unwrap().spec.engines.clear();
        assert_eq!(roles(&observed), (2, 0));
        observed.class.as_mut().unwrap().spec.permissions.clear();
        let held = plan(&edited, &observed);
        let changes = kinds(&held.changes);
        assert!(
            changes.contains(&("delete", "Role")) && changes.contains(&("delete", "RoleBinding")),
            "{changes:?}"
        );
        assert!(changes.iter().all(|(what, _)| *what != "create"), "{changes:?}");
    }

    /// While the guards were away, somebody edits the declaration, so that it is held, and then what was made of it.
    #[rstest]
    #[case::nothing(&[])]
    #[case::role(&[("replace", "Role")])]
    #[case::subject(&[("replace", "RoleBinding")])]
    #[case::policy(&[("replace", "NetworkPolicy")])]
    #[case::another_policy(&[("delete", "NetworkPolicy")])]
    #[case::cloud_role(&[("replace", "ServiceAccount")])]
    fn what_nobody_reviewed_keeps_what_was_given_and_not_what_was_put_there_since(#[case] expected: &[(&str, &str)]) {
        let given = json!({
            "permissions": {"rules": [rule("configmaps", "get"), rule("services", "list")]},
            "network": {"egress": [peer("a"), peer("b")]},
        });
        let mut observed = observed();
        let before = workflow(given);
        let made = plan(&before, &observed);
        observed.children = stored(&made.changes);
        let now = "2026-11-22T08:00:00Z".parse().unwrap();
        let said = status(&before, &observed, &made, &Outcome::Applied(None), now);
        observed.registration.as_mut().unwrap().uid = "another".to_owned();
        let mut edited = workflow(json!({
            "launchers": [{"user": "mallory"}],
            "permissions": {"rules": [rule("pods", "list")]},
            "network": {"egress": [peer("a"), peer("b"), peer("c")]},
        }));
        edited.metadata.generation = Some(4);
        edited.status = Some(said);
        let stood = observed.children.clone();
        match expected {
            [("replace", "Role")] => {
                child(&mut observed, Child::Role)["rules"] = json!([
                    rule("configmaps", "get"),
                    rule("services", "list"),
                    rule("secrets", "list")
                ]);
            }
            [("replace", "RoleBinding")] => {
                let more = json!({"kind": "ServiceAccount", "name": "mallory", "namespace": "ai"});
                child(&mut observed, Child::RoleBinding)["subjects"]
                    .as_array_mut()
                    .unwrap()
                    .push(more);
            }
            [("replace", "NetworkPolicy")] => {
                let open = child(&mut observed, Child::NetworkPolicy)["spec"]["egress"]
                    .as_array_mut()
                    .unwrap();
                open.push(json!({}));
            }
            [("delete", _)] => {
                let mut open = child(&mut observed, Child::NetworkPolicy).clone();
                open["metadata"]["name"] = json!("open");
                observed.children.push((Child::NetworkPolicy, open));
            }
            [("replace", _)] => {
                let account = child(&mut observed, Child::ServiceAccount);
                account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] = json!("x");
            }
            _ => {}
        }
        let held = plan(&edited, &observed);
        assert_eq!((held.acceptance.reason, held.held), (Reason::NotReviewed, true));
        assert_eq!(kinds(&held.changes), expected);
        for change in &held.changes {
            if let Change::Replace(child, object) = change {
                let (_, before) = stood.iter().find(|(kind, _)| kind == child).unwrap();
                assert!(crate::plan::same(object, before), "{object} is not {before}");
            }
        }
    }

    /// Then what stands and what is declared say the same, and the record does not.
    #[test]
    fn what_was_edited_as_the_declaration_was_is_not_given_either() {
        let spec = |apps: &[&str]| {
            let egress: Vec<_> = apps.iter().map(|app| peer(app)).collect();
            json!({"permissions": {"rules": [rule("configmaps", "get")]}, "network": {"egress": egress}})
        };
        let mut observed = observed();
        let before = workflow(spec(&["a", "b"]));
        let made = plan(&before, &observed);
        let now = "2026-11-22T08:00:00Z".parse().unwrap();
        let said = status(&before, &observed, &made, &Outcome::Applied(None), now);
        let mut edited = workflow(spec(&["a", "c"]));
        observed.children = stored(&plan(&edited, &observed).changes);
        observed.registration.as_mut().unwrap().uid = "another".to_owned();
        edited.metadata.generation = Some(4);
        edited.status = Some(said);
        let held = plan(&edited, &observed);
        assert_eq!(held.acceptance.reason, Reason::NotReviewed);
        let [Change::Replace(Child::NetworkPolicy, policy)] = held.changes.as_slice() else {
            panic!("{:?}", kinds(&held.changes))
        };
        let egress = policy["spec"]["egress"].to_string();
        assert!(egress.contains("\"a\"") && !egress.contains("\"c\""), "{egress}");
        // Where no record was kept yet, what stands is all that is known.
        edited.status.as_mut().unwrap().given = None;
        assert_eq!(plan(&edited, &observed).changes, []);
    }

    /// A range with that much taken out of it, one way or the other.
    fn range(comes_in: bool, except: &[&str]) -> Value {
        let (way, word) = if comes_in {
            ("ingress", "from")
        } else {
            ("egress", "to")
        };
        let peer = json!({"cidrs": ["203.0.113.0/24"], "except": except});
        json!({"network": {way: [{"name": "bank", word: peer, "ports": [{"port": 443}]}]}})
    }

    /// What a declaration takes out of a range stays out of it, whether the policy was edited as well or not; and what the cluster's own ranges
    /// take out goes by the class.
    #[rstest]
    #[case::comes_in(true)]
    #[case::goes_out(false)]
    fn what_was_taken_out_of_a_range_stays_out(#[case] comes_in: bool) {
        let (first, second) = ("203.0.113.7/32", "203.0.113.128/25");
        let mut observed = observed();
        let before = workflow(range(comes_in, &[first, second]));
        let made = plan(&before, &observed);
        observed.children = stored(&made.changes);
        let now = "2026-11-22T08:00:00Z".parse().unwrap();
        let said = status(&before, &observed, &made, &Outcome::Applied(None), now);
        let held = |except: &[&str], observed: &Observed| {
            let mut edited = workflow(range(comes_in, except));
            edited.metadata.generation = Some(4);
            edited.status = Some(said.clone());
            let mut observed = observed.clone();
            observed.registration.as_mut().unwrap().uid = "another".to_owned();
            let held = plan(&edited, &observed);
            assert_eq!(held.acceptance.reason, Reason::NotReviewed);
            held.changes
        };
        assert_eq!(held(&[first, second], &observed), []);
        assert_eq!(held(&[second], &observed), []);
        // What is taken out in addition is taken out.
        let more = held(&[second, "203.0.113.8/32"], &observed);
        let [Change::Replace(Child::NetworkPolicy, policy)] = more.as_slice() else {
            panic!("{more:?}")
        };
        let text = policy["spec"].to_string();
        for except in [first, second, "203.0.113.8/32"] {
            assert!(text.contains(except), "{text}");
        }
        // By who edits the policy too, the range is not known any more to have been given so.
        let mut alike = observed.clone();
        alike.children = stored(&plan(&workflow(range(comes_in, &[second])), &crate::plan::tests::observed()).changes);
        let closed = held(&[second], &alike);
        let [Change::Replace(Child::NetworkPolicy, policy)] = closed.as_slice() else {
            panic!("{closed:?}")
        };
        assert!(!policy["spec"].to_string().contains("203.0.113.0/24"), "{policy}");
        // By who edits the policy alone, it is put back.
        let back = held(&[first, second], &alike);
        let [Change::Replace(Child::NetworkPolicy, policy)] = back.as_slice() else {
            panic!("{back:?}")
        };
        assert!(policy["spec"].to_string().contains(first), "{policy}");
        // The cluster grows by a part of the range, which stays open otherwise.
        let mut grown = observed.clone();
        let cluster = grown.class.as_mut().unwrap().spec.cluster.get_or_insert_default();
        cluster
            .cluster_cidrs
            .get_or_insert_default()
            .push("203.0.113.16/28".to_owned());
        let narrower = held(&[first, second], &grown);
        let [Change::Replace(Child::NetworkPolicy, policy)] = narrower.as_slice() else {
            panic!("{narrower:?}")
        };
        let text = policy["spec"].to_string();
        assert!(text.contains("203.0.113.16/28") && text.contains(first), "{text}");
    }

    fn child(observed: &mut Observed, wanted: Child) -> &mut Value {
        let mut children = observed.children.iter_mut();
        &mut children.find(|(child, _)| *child == wanted).unwrap().1
    }
}
