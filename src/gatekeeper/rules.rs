//! Which requests a constraint is asked about: kinds, as resources in the words of a registration.
//!
//! Must never: leave out a resource whose kind is matched. One that is asked about too much is left alone by the policy itself, which
//! looks at the kind again.

use std::collections::{BTreeMap, BTreeSet};

use super::matching::{Match, Scope};
use crate::api::{MatchOperation, MatchRule, MatchScope, builtin_groups, is_dns_subdomain, is_exempt_kind, plural_of};

/// Most groups, and resources, of one rule, and most rules.
const MAX_GROUPS: usize = 16;
const MAX_RESOURCES: usize = 32;
const MAX_RULES: usize = 16;

/// Subresources that Gatekeeper is asked about, by the group of the resource, with the group and the kind of what is sent to them.
const SUBRESOURCES: [(&str, &str, &str, &str); 16] = [
    ("", "pods/attach", "", "PodAttachOptions"),
    ("", "pods/binding", "", "Binding"),
    ("", "pods/ephemeralcontainers", "", "Pod"),
    ("", "pods/eviction", "policy", "Eviction"),
    ("", "pods/exec", "", "PodExecOptions"),
    ("", "pods/log", "", "Pod"),
    ("", "pods/portforward", "", "PodPortForwardOptions"),
    ("", "pods/proxy", "", "PodProxyOptions"),
    ("", "pods/resize", "", "Pod"),
    ("", "nodes/proxy", "", "NodeProxyOptions"),
    ("", "replicationcontrollers/scale", "autoscaling", "Scale"),
    ("", "services/proxy", "", "ServiceProxyOptions"),
    ("", "services/status", "", "Service"),
    ("apps", "deployments/scale", "autoscaling", "Scale"),
    ("apps", "replicasets/scale", "autoscaling", "Scale"),
    ("apps", "statefulsets/scale", "autoscaling", "Scale"),
];

/// Kinds that a cluster defines, with their plurals.
pub(super) type Defined = BTreeMap<(String, String), String>;

/// The rules, and what is to be known of them.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) rules: Vec<MatchRule>,
    pub(super) notes: Vec<String>,
}

/// The rules of a `match`, or what is wrong with it.
pub(super) fn rules(matching: &Match, operations: &[MatchOperation], defined: &Defined) -> Result<Rules, Vec<String>> {
    let mut resources = Resources {
        by_groups: BTreeMap::new(),
        notes: BTreeSet::new(),
        defined,
    };
    if matching.kinds.is_empty() {
        resources.add(&[], &[]);
    }
    let mut problems = Vec::new();
    for kinds in &matching.kinds {
        for group in kinds
            .groups
            .iter()
            .filter(|group| !group.is_empty() && !is_dns_subdomain(group))
        {
            problems.push(format!("spec.match.kinds: {group:?} is no API group"));
        }
        resources.add(&kinds.groups, &kinds.kinds);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let scope = match matching.scope {
        Scope::All => MatchScope::All,
        Scope::Cluster => MatchScope::Cluster,
        Scope::Namespaced => MatchScope::Namespaced,
    };
    let rule = |groups: &[String], resources: &[String]| MatchRule {
        api_groups: groups.to_vec(),
        api_versions: vec!["*".to_owned()],
        resources: resources.to_vec(),
        operations: operations.to_vec(),
        scope,
        resource_names: Vec::new(),
    };
    let mut rules = Vec::new();
    for (groups, resources) in &resources.by_groups {
        let resources: Vec<_> = resources.iter().cloned().collect();
        for groups in groups.chunks(MAX_GROUPS) {
            rules.extend(resources.chunks(MAX_RESOURCES).map(|resources| rule(groups, resources)));
        }
    }
    let mut notes: Vec<_> = resources.notes.iter().cloned().collect();
    if rules.len() > MAX_RULES {
        notes.push("it names so many kinds that it is asked about every kind, and leaves the others alone".to_owned());
        let mut all = Resources {
            by_groups: BTreeMap::new(),
            notes: BTreeSet::new(),
            defined,
        };
        all.add(&[], &[]);
        rules.clear();
        for (groups, resources) in &all.by_groups {
            rules.push(rule(groups, &resources.iter().cloned().collect::<Vec<_>>()));
        }
    }
    Ok(Rules { rules, notes })
}

struct Resources<'a> {
    by_groups: BTreeMap<Vec<String>, BTreeSet<String>>,
    notes: BTreeSet<String>,
    defined: &'a Defined,
}

impl Resources<'_> {
    /// Groups and kinds of which every pair is matched; empty is all.
    fn add(&mut self, groups: &[String], kinds: &[String]) {
        let has_group = |group: &str| groups.is_empty() || groups.iter().any(|of| of == group);
        let has_kind = |kind: &str| kinds.is_empty() || kinds.iter().any(|of| of == kind);
        let whole = if groups.is_empty() {
            vec!["*".to_owned()]
        } else {
            groups.to_vec()
        };
        let mut named = BTreeSet::new();
        if kinds.is_empty() {
            named.insert("*".to_owned());
        }
        for kind in kinds {
            self.kind(groups, kind, &mut named);
        }
        let mut apart: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (of, resource, group, kind) in SUBRESOURCES {
            if has_group(group) && has_kind(kind) {
                apart.entry(of).or_default().insert(resource.to_owned());
            }
        }
        for (of, resources) in apart {
            if has_group(of) {
                named.extend(resources);
            } else {
                self.by_groups.entry(vec![of.to_owned()]).or_default().extend(resources);
            }
        }
        // `*` beside a resource by name is refused in a registration.
        if named.contains("*") {
            named.retain(|resource| resource == "*" || resource.contains('/'));
        }
        if !named.is_empty() {
            let known = self.by_groups.entry(whole).or_default();
            known.extend(named);
            if known.contains("*") {
                known.retain(|resource| resource == "*" || resource.contains('/'));
            }
        }
    }

    fn kind(&mut self, groups: &[String], kind: &str, named: &mut BTreeSet<String>) {
        let in_groups = |group: &str| groups.is_empty() || groups.iter().any(|of| of == group);
        let defined = self
            .defined
            .iter()
            .filter(|((group, of), _)| of == kind && in_groups(group));
        let plurals: BTreeSet<String> = defined.map(|(_, plural)| plural.clone()).collect();
        let is_sent_apart = SUBRESOURCES
            .iter()
            .any(|(_, _, group, of)| *of == kind && in_groups(group) && builtin_groups(kind).next().is_none());
        let is_builtin = builtin_groups(kind).next().is_some();
        if is_builtin {
            let group = builtin_groups(kind).find(|group| in_groups(group)).unwrap_or_default();
            let plural = plural_of(group, kind);
            if is_exempt_kind(group, &plural) && in_groups(group) {
                self.notes
                    .insert(format!("Ringfence never asks a policy about {plural}"));
            }
            named.insert(plural);
        }
        let is_known = is_builtin || is_sent_apart || !plurals.is_empty();
        named.extend(plurals);
        if !is_known {
            self.notes.insert(format!(
                "no CustomResourceDefinition tells the resource of kind {kind}: it is asked about every resource{}, and leaves the \
                 others alone",
                if groups.is_empty() { "" } else { " of its groups" }
            ));
            named.insert("*".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn of(kinds: Value, defined: &Defined) -> (Vec<String>, Vec<String>) {
        let matching = Match::read(Some(&json!({"kinds": kinds}))).expect("a match");
        let rules = rules(&matching, &[MatchOperation::Create], defined).expect("rules");
        let told = rules
            .rules
            .iter()
            .map(|rule| format!("{} {}", rule.api_groups.join(","), rule.resources.join(",")))
            .collect();
        (told, rules.notes)
    }

    #[rstest]
    #[case::pods(json!([{"apiGroups": [""], "kinds": ["Pod"]}]), &[" pods,pods/ephemeralcontainers,pods/log,pods/resize"])]
    #[case::two(json!([{"apiGroups": ["apps"], "kinds": ["Deployment", "StatefulSet"]}]), &["apps deployments,statefulsets"])]
    #[case::apart(
        json!([{"apiGroups": [""], "kinds": ["Namespace"]}, {"apiGroups": ["networking.k8s.io"], "kinds": ["Ingress"]}]),
        &[" namespaces", "networking.k8s.io ingresses"]
    )]
    #[case::old_group(json!([{"apiGroups": ["extensions"], "kinds": ["Ingress"]}]), &["extensions ingresses"])]
    #[case::any_group(json!([{"apiGroups": ["*"], "kinds": ["Namespace"]}]), &["* namespaces"])]
    #[case::scale(
        json!([{"apiGroups": ["autoscaling"], "kinds": ["Scale"]}]),
        &[" replicationcontrollers/scale", "apps deployments/scale,replicasets/scale,statefulsets/scale"]
    )]
    #[case::group(json!([{"apiGroups": ["batch"], "kinds": ["*"]}]), &["batch *"])]
    #[case::core_group(
        json!([{"apiGroups": [""], "kinds": ["*"]}]),
        &[" *,nodes/proxy,pods/attach,pods/binding,pods/ephemeralcontainers,pods/exec,pods/log,pods/portforward,pods/proxy,pods/resize,\
           services/proxy,services/status"]
    )]
    fn kinds_become_resources(#[case] kinds: Value, #[case] expected: &[&str]) {
        let (told, notes) = of(kinds, &Defined::new());
        assert_eq!(told, expected);
        assert_eq!(notes, Vec::<String>::new());
    }

    #[test]
    fn no_kinds_are_all_with_the_subresources_of_gatekeeper() {
        let (told, _) = of(json!([]), &Defined::new());
        let [all] = told.as_slice() else { panic!("{told:?}") };
        assert!(all.starts_with("* *,deployments/scale,"), "{all}");
        assert_eq!(all.matches(',').count(), SUBRESOURCES.len());
    }

    #[test]
    fn a_definition_tells_the_plural_and_without_one_every_resource_is_asked_about() {
        let kinds = json!([{"apiGroups": ["example.com"], "kinds": ["Datum"]}]);
        let (told, notes) = of(kinds.clone(), &Defined::new());
        assert_eq!(told, ["example.com *"]);
        assert!(notes.first().is_some_and(|note| note.contains("kind Datum")));
        let defined = [(("example.com".to_owned(), "Datum".to_owned()), "data".to_owned())];
        assert_eq!(
            of(kinds, &defined.into()),
            (vec!["example.com data".to_owned()], Vec::new())
        );
    }

    #[test]
    fn what_ringfence_is_never_asked_about_is_said() {
        let (_, notes) = of(json!([{"apiGroups": [""], "kinds": ["Node"]}]), &Defined::new());
        assert_eq!(notes, ["Ringfence never asks a policy about nodes"]);
    }

    #[test]
    fn many_groups_are_every_group() {
        let kinds: Vec<_> = (0..40)
            .map(|number| json!({"apiGroups": [format!("g{number}.example.com")], "kinds": ["Pod"]}))
            .collect();
        let (told, notes) = of(Value::from(kinds), &Defined::new());
        assert!(told.len() == 1 && told[0].starts_with("* *,"), "{told:?}");
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn what_is_no_group_is_a_problem() {
        let matching =
            Match::read(Some(&json!({"kinds": [{"apiGroups": ["A b"], "kinds": ["Pod"]}]}))).expect("a match");
        let problems = rules(&matching, &[MatchOperation::Create], &Defined::new()).expect_err("a problem");
        assert!(problems.join("").contains("no API group"));
    }
}
