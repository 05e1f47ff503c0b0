//! What the rules of a Role give of the capabilities, as the API server's RBAC authorizer reads them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::capability::{CAPABILITIES, Capability};

/// Most names that are kept of a right that is narrowed by name, and their longest: as long as those of most kinds may be.
const MAX_NAMES: usize = 64;
const MAX_NAME: usize = 253;

/// One verb on one resource, and what it is a part of.
#[derive(Debug)]
pub(super) struct Atom {
    pub(super) capability: &'static Capability,
    pub(super) verb: &'static str,
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    names: &'static [&'static str],
}

/// Every verb on every resource of every capability.
pub(super) static ATOMS: LazyLock<Vec<Atom>> = LazyLock::new(|| {
    let mut atoms = Vec::new();
    for capability in &CAPABILITIES {
        for right in capability.rights {
            for resource in right.resources {
                atoms.extend(right.verbs.iter().map(|verb| Atom {
                    capability,
                    verb,
                    group: right.group,
                    resource,
                    names: right.names,
                }));
            }
        }
    }
    atoms
});

/// Names that a right is narrowed to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Names {
    /// None: it counts for every object.
    All,
    /// These, and perhaps others that are not kept.
    Some {
        /// The first of them.
        names: BTreeSet<String>,
        /// How many others there are.
        more: usize,
    },
}

impl Names {
    /// Whether that name is certainly among them.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some { names, .. } => names.contains(name),
        }
    }

    fn join(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (
                Self::Some { names, more },
                Self::Some {
                    names: others,
                    more: further,
                },
            ) => {
                *more += further;
                for name in others {
                    if names.len() < MAX_NAMES || names.contains(&name) {
                        names.insert(name);
                    } else {
                        *more += 1;
                    }
                }
            }
        }
    }
}

/// What a Role gives: places in [`ATOMS`], each with the names that it is narrowed to.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights(Vec<(usize, Names)>);

impl Rights {
    /// Of a Role or ClusterRole, aggregation included as it stands in `rules`.
    pub(super) fn of(role: &Value) -> Self {
        let rules = role
            .get("rules")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let rules: Vec<_> = rules.iter().map(Rule::of).collect();
        let mut rights = Vec::new();
        for (index, atom) in ATOMS.iter().enumerate() {
            let mut given: Option<Names> = None;
            for names in rules.iter().filter_map(|rule| rule.gives(atom)) {
                match &mut given {
                    Some(given) => given.join(names),
                    None => given = Some(names),
                }
            }
            rights.extend(given.map(|names| (index, names)));
        }
        Self(rights)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static Atom, &Names)> {
        self.0
            .iter()
            .filter_map(|(index, names)| Some((ATOMS.get(*index)?, names)))
    }

    /// Bytes that it takes, about.
    pub(super) fn weight(&self) -> usize {
        let of_names = |names: &Names| match names {
            Names::All => 0,
            Names::Some { names, .. } => names.iter().map(|name| name.len() + 64).sum(),
        };
        self.0.iter().map(|(_, names)| 40 + of_names(names)).sum()
    }
}

struct Rule<'a> {
    verbs: BTreeSet<&'a str>,
    groups: BTreeSet<&'a str>,
    resources: BTreeSet<&'a str>,
    names: BTreeSet<&'a str>,
}

impl<'a> Rule<'a> {
    fn of(rule: &'a Value) -> Self {
        let list = |key: &str| {
            let list = rule.get(key).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
        }
    }

    /// The names for which it gives that; `None` where it does not.
    fn gives(&self, atom: &Atom) -> Option<Names> {
        let has = |of: &BTreeSet<&str>, one: &str| of.contains("*") || of.contains(one);
        if !has(&self.verbs, atom.verb) || !has(&self.groups, atom.group) || !self.reaches(atom.resource) {
            return None;
        }
        if self.names.is_empty() {
            return Some(Names::All);
        }
        // Such requests carry no name, so that nothing is allowed by one.
        let is_nameless = match atom.verb {
            "create" => !atom.resource.contains('/'),
            verb => verb == "deletecollection",
        };
        if is_nameless {
            return None;
        }
        let counts = |name: &&&str| atom.names.is_empty() || atom.names.contains(*name);
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut more = 0;
        for name in self.names.iter().filter(counts) {
            if names.len() < MAX_NAMES && name.len() <= MAX_NAME {
                names.insert((*name).to_owned());
            } else {
                more += 1;
            }
        }
        (!names.is_empty() || more > 0).then_some(Names::Some { names, more })
    }

    fn reaches(&self, resource: &str) -> bool {
        if self.resources.contains("*") || self.resources.contains(resource) {
            return true;
        }
        let Some((parent, subresource)) = resource.split_once('/') else {
            return false;
        };
        let of_any = |named: &&str| {
            let Some((of, sub)) = named.split_once('/') else {
                return false;
            };
            (of == "*" || of == parent) && (subresource == "*" || sub == subresource && of == "*")
        };
        self.resources.iter().any(of_any)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// `verb resource` of what a role gives of one capability.
    fn given(capability: &str, rules: Value) -> Vec<String> {
        let rights = Rights::of(&json!({"rules": rules}));
        let of_it = rights.iter().filter(|(atom, _)| atom.capability.name == capability);
        of_it
            .map(|(atom, names)| match names {
                Names::All => format!("{} {}", atom.verb, atom.resource),
                Names::Some { names, more } => format!("{} {} {names:?} {more}", atom.verb, atom.resource),
            })
            .collect()
    }

    const CORE: &str = "";

    #[rstest]
    #[case::plain(json!([{"apiGroups": [CORE], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]), &["impersonate serviceaccounts"])]
    #[case::any_verb(json!([{"apiGroups": [CORE], "resources": ["serviceaccounts"], "verbs": ["*"]}]), &["impersonate serviceaccounts"])]
    #[case::any_group(json!([{"apiGroups": ["*"], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]), &["impersonate serviceaccounts"])]
    #[case::all(json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]), &["impersonate serviceaccounts", "impersonate:serviceaccount serviceaccounts"])]
    #[case::another_group(json!([{"apiGroups": ["apps"], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]), &[])]
    #[case::another_verb(json!([{"apiGroups": [CORE], "resources": ["serviceaccounts"], "verbs": ["get"]}]), &[])]
    #[case::a_subresource_only(json!([{"apiGroups": [CORE], "resources": ["serviceaccounts/token"], "verbs": ["impersonate"]}]), &[])]
    #[case::every_subresource_only(json!([{"apiGroups": [CORE], "resources": ["*/token"], "verbs": ["*"]}]), &[])]
    #[case::by_name(json!([{"apiGroups": [CORE], "resources": ["serviceaccounts"], "resourceNames": ["x", "y"], "verbs": ["impersonate"]}]), &["impersonate serviceaccounts {\"x\", \"y\"} 0"])]
    #[case::by_name_in_two_rules(json!([
        {"apiGroups": [CORE], "resources": ["serviceaccounts"], "resourceNames": ["x"], "verbs": ["impersonate"]},
        {"apiGroups": [CORE], "resources": ["serviceaccounts"], "resourceNames": ["y"], "verbs": ["impersonate"]},
    ]), &["impersonate serviceaccounts {\"x\", \"y\"} 0"])]
    #[case::by_name_and_without(json!([
        {"apiGroups": [CORE], "resources": ["serviceaccounts"], "resourceNames": ["x"], "verbs": ["impersonate"]},
        {"apiGroups": [CORE], "resources": ["serviceaccounts"], "verbs": ["impersonate"]},
    ]), &["impersonate serviceaccounts"])]
    #[case::no_resources(json!([{"nonResourceURLs": ["*"], "verbs": ["*"]}]), &[])]
    #[case::no_rules(Value::Null, &[])]
    #[case::nonsense(json!([7, "x", {"verbs": "*"}]), &[])]
    fn accounts_are_impersonated_by_these_rules(#[case] rules: Value, #[case] expected: &[&str]) {
        assert_eq!(given("impersonate-accounts", rules), expected);
    }

    /// A request to create, or to delete many, carries no name; one for a subresource does.
    #[test]
    fn a_name_gives_nothing_where_requests_have_none() {
        let rule = |resource: &str| json!([{"apiGroups": [CORE], "resources": [resource], "resourceNames": ["x"], "verbs": ["*"]}]);
        let secrets = given("read-secrets", rule("secrets"));
        let verbs: Vec<_> = secrets.iter().filter_map(|given| given.split(' ').next()).collect();
        assert_eq!(verbs, ["get", "list", "watch", "patch", "delete"]);
        assert_eq!(
            given("request-tokens", rule("serviceaccounts/token")),
            ["create serviceaccounts/token {\"x\"} 0"]
        );
        // One that runs has a name, and may be given another image.
        assert_eq!(
            given("be-the-launcher", rule("pods")),
            ["update pods {\"x\"} 0", "patch pods {\"x\"} 0"]
        );
        assert_eq!(given("be-the-platform", rule("configmaps")), [""; 0]);
    }

    #[rstest]
    #[case::one("nodes/proxy", &["get nodes/proxy"])]
    #[case::of_any("*/proxy", &["get nodes/proxy"])]
    #[case::all("*", &["get nodes/proxy", "get nodes/log", "get nodes/pods"])]
    #[case::no_wildcard_of_rbac("nodes/*", &[])]
    #[case::the_parent("nodes", &[])]
    #[case::harmless("nodes/metrics", &[])]
    fn subresources_are_matched_as_the_api_server_does(#[case] resource: &str, #[case] expected: &[&str]) {
        let rules = json!([{"apiGroups": [CORE], "resources": [resource], "verbs": ["get"]}]);
        assert_eq!(given("reach-kubelets", rules), expected);
    }

    #[rstest]
    #[case::one("userextras/scopes", true)]
    #[case::of_any("*/scopes", true)]
    #[case::without("userextras", false)]
    #[case::another("tokenreviews/scopes", false)]
    fn extras_have_any_key(#[case] resource: &str, #[case] expected: bool) {
        let rules =
            json!([{"apiGroups": ["authentication.k8s.io"], "resources": [resource], "verbs": ["impersonate"]}]);
        assert_eq!(!given("impersonate-people", rules).is_empty(), expected);
    }

    #[rstest]
    #[case::all(json!([]), true)]
    #[case::of_users(json!(["kubernetes.io/kube-apiserver-client"]), true)]
    #[case::of_the_domain(json!(["kubernetes.io/*"]), true)]
    #[case::of_somebody_else(json!(["example.com/mesh", "kubernetes.io/kubelet-serving"]), false)]
    fn only_signers_of_users_count(#[case] names: Value, #[case] expected: bool) {
        let rules = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": names, "verbs": ["approve"]}]);
        assert_eq!(!given("certify-names", rules).is_empty(), expected);
    }

    #[test]
    fn names_are_kept_to_a_bound() {
        let names: Vec<_> = (0..1000).map(|index| format!("name-{index:04}")).collect();
        let rule = json!({"apiGroups": [CORE], "resources": ["serviceaccounts"], "resourceNames": names, "verbs": ["impersonate"]});
        let rights = Rights::of(&json!({"rules": [rule]}));
        let (_, kept) = rights.iter().next().unwrap();
        assert!(matches!(kept, Names::Some { names, more } if names.len() == MAX_NAMES && *more == 1000 - MAX_NAMES));
        assert!(kept.has("name-0000") && !kept.has("name-0999"));
    }
}
