//! When the API server is to ask about a RoleBinding or ClusterRoleBinding: the webhook of the registration `ringfence-bindings`.
//!
//! Its condition names the fenced namespaces, so that while no replica is there bindings of everybody else go on. Must never: leave a
//! fenced namespace out; err on any binding, because an error refuses; cost more than the API server allows a condition.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::policy_registration::{at, client, unreadable};
use super::registration::NOT_RINGFENCE;
use crate::api::{GROUPS_OF_ALL_ACCOUNTS, WITHOUT_CREDENTIAL, exempt_namespaces, is_dns_label};

/// Most namespaces that the condition names: with the longest names it has 70,000 characters, of the 100,000 that CEL takes.
const MAX_NAMED: usize = 1000;
/// Most subjects that the condition looks at: each is compared with every name, and the API server bounds what that may cost. More are
/// asked about, whoever they are.
const MAX_SUBJECTS: usize = 200;
/// Longer than the name of any service account as a user: 22 characters, a namespace, a colon and a name.
const MAX_USER: usize = 400;
const PATH: &str = "/admit/bindings";

/// Names somebody whom the binding did not name before, whoever that is.
const NEW_SUBJECTS: &str = "object != null && has(object.subjects) \
&& (oldObject == null || !has(oldObject.subjects) || object.subjects != oldObject.subjects)";

/// Whose service accounts the API server asks about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bound {
    /// Those of these namespaces.
    Named(BTreeSet<String>),
    /// Those of every namespace that is not exempt: more are fenced than can be named.
    Everywhere,
}

impl Default for Bound {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Bound {
    /// What to ask about where these namespaces are fenced.
    pub fn of(fenced: BTreeSet<String>) -> Self {
        if fenced.len() > MAX_NAMED {
            Self::Everywhere
        } else {
            Self::Named(fenced)
        }
    }

    /// Whether a binding to an account of that namespace, which is not exempt, is asked about.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(namespace),
            Self::Everywhere => true,
        }
    }

    /// Whether that namespace is named, and would be asked about for nothing once it is not fenced.
    pub fn names(&self, namespace: &str) -> bool {
        matches!(self, Self::Named(names) if names.contains(namespace))
    }

    /// The namespaces that it names.
    pub fn named(&self) -> impl Iterator<Item = &String> {
        let names = match self {
            Self::Named(names) => Some(names),
            Self::Everywhere => None,
        };
        names.into_iter().flatten()
    }

    fn condition(&self, release_namespace: &str) -> String {
        let listed = |names: &mut dyn Iterator<Item = &str>| {
            let quoted: Vec<_> = names.map(|name| format!("'{name}'")).collect();
            quoted.join(", ")
        };
        let concerns = match self {
            Self::Named(names) => {
                // No namespace has another name, and no text becomes part of an expression.
                let mut names = names.iter().map(String::as_str).filter(|name| is_dns_label(name));
                format!("{} in [{}]", of_subject(), listed(&mut names))
            }
            Self::Everywhere => {
                let mut exempt = exempt_namespaces(release_namespace).into_iter();
                format!("!({} in ['', {}])", of_subject(), listed(&mut exempt))
            }
        };
        format!(
            "object != null && has(object.subjects) \
             && (size(object.subjects) > {MAX_SUBJECTS} || object.subjects.exists(s, {concerns}))"
        )
    }
}

/// The namespace whose accounts a subject `s` names; empty where it names none. A namespace that is left out is the binding's own, and so
/// is that of a group which holds every account, and of whoever shows no credential: what a RoleBinding gives them is given in that namespace.
fn of_subject() -> String {
    let groups = GROUPS_OF_ALL_ACCOUNTS.map(|group| format!("'{group}'")).join(", ");
    let anybody = WITHOUT_CREDENTIAL.map(|(kind, name)| format!("s.kind == '{kind}' && s.name == '{name}'"));
    let anybody = anybody.join(" || ");
    format!(
        "(!has(s.kind) || !has(s.name) ? '' \
: s.kind == 'ServiceAccount' \
? (has(s.namespace) && s.namespace != '' ? s.namespace : has(request.namespace) ? request.namespace : '') \
: s.kind == 'Group' && s.name in [{groups}] || {anybody} ? (has(request.namespace) ? request.namespace : '') \
: size(s.name) > {MAX_USER} ? '' \
: s.kind == 'User' && s.name.startsWith('system:serviceaccount:') ? s.name.split(':', 4)[2] \
: s.kind == 'Group' && s.name.startsWith('system:serviceaccounts:') ? s.name.split(':', 3)[2] \
: '')"
    )
}

/// The webhook that asks about bindings to accounts of these namespaces, as the API server would store it; none where nothing is
/// fenced. It is reached where `registration`, the chart's, is reached, and trusts whom it trusts.
///
/// # Errors
/// Why the registration does not say where that is.
pub fn binding_webhooks(bound: &Bound, registration: &Value, release_namespace: &str) -> Result<Vec<Value>, String> {
    if *bound == Bound::default() {
        return Ok(Vec::new());
    }
    let client = client(registration)?;
    let (start, end) = NOT_RINGFENCE;
    Ok(vec![json!({
        "name": "bindings.ringfence.dev",
        "clientConfig": at(&client, PATH).ok_or_else(unreadable)?,
        "rules": [{
            "apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["v1"],
            "resources": ["rolebindings", "clusterrolebindings"], "operations": ["CREATE", "UPDATE"], "scope": "*",
        }],
        "namespaceSelector": {},
        "objectSelector": {},
        "matchConditions": [
            {"name": "not-ringfence", "expression": format!("{start}{release_namespace}{end}")},
            {"name": "names-somebody-new", "expression": NEW_SUBJECTS},
            {"name": "names-an-account-of-a-fenced-namespace", "expression": bound.condition(release_namespace)},
        ],
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "admissionReviewVersions": ["v1"],
    })])
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::KINDS_WEBHOOK;

    const OURS: &str = "ringfence-system";

    fn chart(bundle: &str) -> Value {
        let client = json!({"url": "https://127.0.0.1:9443/admit/kinds", "caBundle": bundle});
        json!({"webhooks": [{"name": KINDS_WEBHOOK, "clientConfig": client}]})
    }

    fn names(count: usize) -> BTreeSet<String> {
        (0..count).map(|at| format!("{at:063}")).collect()
    }

    fn condition(bound: &Bound) -> String {
        let webhooks = binding_webhooks(bound, &chart("Q0E="), OURS).unwrap();
        webhooks[0]["matchConditions"][2]["expression"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[rstest]
    #[case::none(0, "ai", false)]
    #[case::the_most(1000, "ai", false)]
    #[case::more(1001, "ai", true)]
    fn more_namespaces_than_can_be_named_are_all(#[case] count: usize, #[case] other: &str, #[case] covered: bool) {
        let bound = Bound::of(names(count));
        assert_eq!(bound.covers(other), covered);
        assert!(names(count).iter().all(|name| bound.covers(name)));
    }

    #[test]
    fn a_condition_fits_into_what_cel_takes() {
        assert!(condition(&Bound::of(names(MAX_NAMED))).len() < 80_000);
    }

    #[test]
    fn what_is_named_is_in_the_condition_and_nothing_that_is_no_name() {
        let fenced = ["ai", "b-2", "x'] || true || '' in ['"].map(str::to_owned);
        let found = condition(&Bound::of(fenced.into()));
        assert!(found.contains(" in ['ai', 'b-2']"), "{found}");
        assert!(!found.contains("|| true"), "{found}");
    }

    #[test]
    fn everywhere_leaves_the_exempt_namespaces_alone() {
        let found = condition(&Bound::Everywhere);
        let exempt = "['', 'kube-system', 'kube-node-lease', 'kube-public', 'ringfence-system']";
        assert!(found.contains(exempt), "{found}");
    }

    #[test]
    fn it_asks_where_the_chart_is_reached_and_fails_closed() {
        let webhooks = binding_webhooks(&Bound::of(names(1)), &chart("Q0E="), OURS).unwrap();
        let client = json!({"url": "https://127.0.0.1:9443/admit/bindings", "caBundle": "Q0E="});
        assert_eq!((webhooks.len(), &webhooks[0]["clientConfig"]), (1, &client));
        assert_eq!(webhooks[0]["failurePolicy"], "Fail");
        let own = format!("request.userInfo.username != 'system:serviceaccount:{OURS}:ringfence'");
        assert_eq!(webhooks[0]["matchConditions"][0]["expression"], own);
    }

    #[test]
    fn nothing_fenced_needs_no_webhook_and_no_address() {
        assert_eq!(binding_webhooks(&Bound::default(), &json!({}), OURS), Ok(Vec::new()));
    }

    #[rstest]
    #[case::no_authority(chart(""), "no caBundle yet")]
    #[case::no_webhook(json!({"webhooks": []}), "apply the chart again")]
    fn without_an_address_nothing_is_written(#[case] registration: Value, #[case] why: &str) {
        let error = binding_webhooks(&Bound::Everywhere, &registration, OURS).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn the_longest_name_of_an_account_is_looked_at() {
        let longest = "system:serviceaccount:".len() + 63 + 1 + 253;
        assert!(longest <= MAX_USER);
    }
}
