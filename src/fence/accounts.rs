//! Door: who else may be a workflow's account. Its tokens are given to kubelets, for the pods that run as it; the account, and what
//! a cloud knows it by, come from its AIWorkflow.
//!
//! Whatever a token may be good for (audience, life) follows from the pod that it is for, which `tokens` has judged. Must never: put a
//! token, or the value of an annotation, into a message; or take an account of an enforced namespace for harmless because no workflow
//! has it yet.

use serde_json::Value;

use super::facts::Named;
use super::object::{is_full, shown, violation};
use crate::api::{ADOPT_ANNOTATION, AIWorkflowClass, is_dns_subdomain};
use crate::review::{Review, Violation};

const TOKEN_REQUEST: &str = "token-request";
const TOKEN_SECRET: &str = "token-secret";
const WORKFLOW_ACCOUNT: &str = "workflow-account";
const CLOUD_IDENTITY: &str = "cloud-identity";

/// Type of Secrets that the API server's token controller fills.
const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
/// Which account such a Secret is for.
const TOKEN_OF: &str = "kubernetes.io/service-account.name";
/// Which of the accounts of that name: one that is made anew has another UID.
const TOKEN_OF_UID: &str = "kubernetes.io/service-account.uid";
/// What clouds and Vault read from an account. A class may name more.
const CLOUD_KEYS: [&str; 4] = [
    "azure.workload.identity/",
    "eks.amazonaws.com/",
    "iam.gke.io/",
    "vault.hashicorp.com/",
];

/// Whether a kubelet asks. By both, as the API server's own node authorizer and NodeRestriction know one.
pub(super) fn is_kubelet(review: &Review) -> bool {
    let user = &review.user;
    user.username.starts_with("system:node:") && user.groups.iter().any(|group| group == "system:nodes")
}

/// Judges a TokenRequest: a kubelet's goes, and nobody else's.
pub(super) fn check_token_request(review: &Review) -> Vec<Violation> {
    if is_kubelet(review) {
        return Vec::new();
    }
    let account = review.name();
    let message = format!(
        "{} is no kubelet, and accounts of an enforced namespace get tokens through their pods alone: whoever holds one is the workflow",
        shown(&review.user.username)
    );
    let fix = "run what needs it as a pod of the workflow, which may mount a token (ringfence render --pod shows how)";
    vec![violation(
        TOKEN_REQUEST,
        "serviceaccounts/token",
        Some(account),
        message,
        fix,
    )]
}

/// Judges a Secret: none becomes a token of an account.
pub(super) fn check_secret(object: &Value, old: Option<&Value>) -> Vec<Violation> {
    if !is_token(object) || old.is_some_and(|old| is_token(old) && !is_filled_anew(old, object)) {
        return Vec::new();
    }
    let account = token_of(object).unwrap_or_default();
    let message = format!(
        "would hold a token of service account {} that never ends and is bound to no pod: whoever may read this Secret is the workflow",
        shown(account)
    );
    let fix = "mount a projected token (serviceAccountToken) into a pod of the workflow";
    vec![violation(TOKEN_SECRET, "type", Some(TOKEN_TYPE), message, fix)]
}

fn is_token(secret: &Value) -> bool {
    secret.get("type").and_then(Value::as_str) == Some(TOKEN_TYPE)
}

fn token_of(secret: &Value) -> Option<&str> {
    annotations(secret)?.get(TOKEN_OF)?.as_str()
}

/// Whether the API server's token controller puts a token of another account into what was a token, or of an account that was made again:
/// it fills what has none.
fn is_filled_anew(old: &Value, new: &Value) -> bool {
    let uid = |secret: &Value| annotations(secret)?.get(TOKEN_OF_UID)?.as_str().map(str::to_owned);
    let has_one = |secret: &Value| {
        let token = secret.pointer("/data/token");
        token.is_some_and(|token| !token.is_null() && token != "")
    };
    token_of(old) != token_of(new) || uid(old).is_some() && uid(old) != uid(new) || has_one(old) && !has_one(new)
}

fn annotations(object: &Value) -> Option<&serde_json::Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}

/// The account that is written: a workflow may have been given that name.
pub(super) fn claimed(review: &Review) -> Option<Named> {
    let namespace = review.namespace.as_deref()?;
    let name = review.name();
    is_dns_subdomain(name).then(|| Named {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// Judges a ServiceAccount. `owner` is the AIWorkflow that it is, or would be, the account of.
pub(super) fn check_account(
    object: &Value,
    old: Option<&Value>,
    owner: Option<&Value>,
    class: Option<&AIWorkflowClass>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    // By that annotation the platform has it join: the guard of reserved keys lets only holders of `approve` set it.
    let asks_for = annotations(object).and_then(|all| all.get(ADOPT_ANNOTATION)?.as_str());
    let workflow = owner.map(crate::plan::name_of);
    if let Some(workflow) = workflow.filter(|workflow| old.is_none() && asks_for != Some(workflow)) {
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let message = format!(
            "is the account of AIWorkflow {}: rights and cloud roles go by that name, and only Ringfence makes it",
            shown(workflow)
        );
        let fix = "leave it to Ringfence, which makes it again by itself; or give this account another name";
        violations.push(violation(WORKFLOW_ACCOUNT, "metadata.name", name, message, fix));
    }
    let allowed = class.and_then(|class| class.spec.identity.as_ref());
    let allowed = allowed.map_or(&[][..], |identity| &identity.annotations);
    let is_allowed = |key: &str| allowed.iter().any(|own| own == key);
    let is_known = |key: &str| CLOUD_KEYS.iter().any(|known| key.starts_with(known)) || is_allowed(key);
    let before = old.and_then(annotations);
    let declared = owner.and_then(|owner| owner.pointer("/spec/identity/annotations")?.as_object());
    for (key, value) in annotations(object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| is_known(key))
    {
        if is_full(&violations) {
            break;
        }
        let stood = before.and_then(|before| before.get(key)) == Some(value);
        // What its own AIWorkflow declares, and the class allows: so an account is made to fit before it joins.
        let is_declared = is_allowed(key) && declared.and_then(|declared| declared.get(key)) == Some(value);
        if stood || is_declared {
            continue;
        }
        let message = "is by what a cloud or Vault knows an account, and in an enforced namespace it comes from an AIWorkflow alone";
        let fix = "declare it in spec.identity.annotations of the AIWorkflow, and leave it out here";
        violations.push(violation(
            CLOUD_IDENTITY,
            format!("metadata.annotations[{}]", shown(key)),
            None,
            message,
            fix,
        ));
    }
    violations
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::review;
    use super::*;
    use crate::api::AIWorkflowClassSpec;

    fn asked(username: &str, groups: &[&str]) -> Review {
        let request = json!({"spec": {"audiences": ["vault"], "expirationSeconds": 600}});
        let mut review = review("CREATE", "authentication.k8s.io", "TokenRequest", Some(&request), None);
        review.user.username = username.to_owned();
        review.user.groups = groups.iter().map(|&group| group.to_owned()).collect();
        review.request["name"] = json!("triage");
        review
    }

    #[rstest]
    #[case::kubelet("system:node:n1", &["system:nodes", "system:authenticated"], false)]
    #[case::tenant("mia", &["system:authenticated"], true)]
    #[case::administrator("admin", &["system:masters"], true)]
    #[case::itself("system:serviceaccount:ai:triage", &["system:serviceaccounts"], true)]
    #[case::the_group_without_the_name("mia", &["system:nodes"], true)]
    #[case::the_name_without_the_group("system:node:n1", &["system:authenticated"], true)]
    #[case::controllers("system:kube-controller-manager", &[], true)]
    fn kubelets_get_tokens_and_nobody_else(#[case] user: &str, #[case] groups: &[&str], #[case] refused: bool) {
        let found = check_token_request(&asked(user, groups));
        assert_eq!(found.len(), usize::from(refused), "{found:?}");
        for found in found {
            assert_eq!(
                (found.policy.as_str(), found.value.as_deref()),
                (TOKEN_REQUEST, Some("triage"))
            );
            assert!(found.message.starts_with(user), "{found:?}");
        }
    }

    fn secret(type_: &str, account: Option<&str>) -> Value {
        let annotations = account.map(|account| json!({TOKEN_OF: account}));
        json!({"metadata": {"name": "s", "annotations": annotations}, "type": type_, "data": {"token": "c2VjcmV0"}})
    }

    fn of_uid(uid: &str, token: &str) -> Value {
        let mut secret = secret(TOKEN_TYPE, Some("triage"));
        secret["metadata"]["annotations"][TOKEN_OF_UID] = json!(uid);
        secret["data"]["token"] = json!(token);
        secret
    }

    fn secret_without_token() -> Value {
        let mut secret = secret(TOKEN_TYPE, Some("triage"));
        secret["data"] = json!({});
        secret
    }

    #[rstest]
    #[case::made(None, secret(TOKEN_TYPE, Some("triage")), true)]
    #[case::of_an_account_that_is_not_there(None, secret(TOKEN_TYPE, Some("tomorrow")), true)]
    #[case::of_none(None, secret(TOKEN_TYPE, None), true)]
    #[case::for_another_account(Some(secret(TOKEN_TYPE, Some("default"))), secret(TOKEN_TYPE, Some("triage")), true)]
    #[case::turned_into_one(Some(secret("Opaque", Some("triage"))), secret(TOKEN_TYPE, Some("triage")), true)]
    #[case::filled(Some(secret(TOKEN_TYPE, Some("triage"))), secret(TOKEN_TYPE, Some("triage")), false)]
    #[case::of_the_account_made_again(Some(of_uid("1", "t")), of_uid("2", "t"), true)]
    #[case::of_whichever_account_is_there(Some(of_uid("1", "t")), secret(TOKEN_TYPE, Some("triage")), true)]
    #[case::emptied(Some(of_uid("1", "t")), of_uid("1", ""), true)]
    #[case::filled_with_its_first(Some(secret_without_token()), of_uid("1", "t"), false)]
    #[case::kept(Some(of_uid("1", "t")), of_uid("1", "t"), false)]
    #[case::filled_again_by_its_controller(Some(of_uid("1", "t")), of_uid("1", "u"), false)]
    #[case::ordinary(None, secret("Opaque", Some("triage")), false)]
    #[case::of_another_type(None, secret("kubernetes.io/service-account-token-2", Some("triage")), false)]
    #[case::without_a_type(None, json!({"metadata": {"name": "s"}}), false)]
    fn no_secret_becomes_a_token(#[case] old: Option<Value>, #[case] new: Value, #[case] refused: bool) {
        let found = check_secret(&new, old.as_ref());
        assert_eq!(found.len(), usize::from(refused), "{found:?}");
        for found in found {
            assert_eq!(found.policy, TOKEN_SECRET);
            assert!(!format!("{found:?}").contains("c2VjcmV0"), "{found:?}");
        }
    }

    fn account(annotations: Value) -> Value {
        json!({"metadata": {"name": "triage", "annotations": annotations}})
    }

    fn keys(old: Option<Value>, new: Value, class: Option<&AIWorkflowClass>) -> Vec<String> {
        let found = check_account(&new, old.as_ref(), None, class);
        let paths = found.into_iter().map(|found| {
            assert_eq!((found.policy.as_str(), &found.value), (CLOUD_IDENTITY, &None));
            assert!(!found.message.contains("secret"), "{found:?}");
            found.path
        });
        paths.collect()
    }

    #[rstest]
    #[case::aws("eks.amazonaws.com/role-arn", true)]
    #[case::google("iam.gke.io/gcp-service-account", true)]
    #[case::azure("azure.workload.identity/client-id", true)]
    #[case::vault("vault.hashicorp.com/alias-metadata-env", true)]
    #[case::of_the_class("cloud.example.com/role", true)]
    #[case::longer_than_the_classs("cloud.example.com/role-2", false)]
    #[case::another("example.com/role", false)]
    fn what_a_cloud_knows_an_account_by_is_declared(#[case] key: &str, #[case] refused: bool) {
        let spec = json!({"identity": {"annotations": ["cloud.example.com/role"]}});
        let class = AIWorkflowClass::new("c", serde_json::from_value::<AIWorkflowClassSpec>(spec).unwrap());
        let with = account(json!({key: "secret-role", "plain": "x"}));
        let wanted = Vec::from_iter(refused.then(|| format!("metadata.annotations[{key}]")));
        assert_eq!(keys(None, with.clone(), Some(&class)), wanted, "made with it");
        assert_eq!(
            keys(Some(account(json!({}))), with.clone(), Some(&class)),
            wanted,
            "added"
        );
        assert_eq!(
            keys(Some(account(json!({key: "other"}))), with.clone(), Some(&class)),
            wanted,
            "changed"
        );
        assert!(keys(Some(with.clone()), with.clone(), Some(&class)).is_empty(), "kept");
        assert!(
            keys(Some(with), account(Value::Null), Some(&class)).is_empty(),
            "taken off"
        );
    }

    #[test]
    fn the_name_of_a_workflows_account_is_taken() {
        let owner = json!({"metadata": {"name": "night"}});
        let found = check_account(&account(json!({})), None, Some(&owner), None);
        let [found] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (found.policy.as_str(), found.value.as_deref()),
            (WORKFLOW_ACCOUNT, Some("triage"))
        );
        assert!(found.message.contains("AIWorkflow night"), "{found:?}");
    }

    #[rstest]
    #[case::as_declared("role-a", &["cloud.example.com/role"], true)]
    #[case::another_value("role-b", &["cloud.example.com/role"], false)]
    #[case::outside_the_class("role-a", &[], true)]
    fn an_account_is_made_to_fit_what_its_workflow_declares(
        #[case] value: &str,
        #[case] allowed: &[&str],
        #[case] passes: bool,
    ) {
        let spec = json!({"identity": {"annotations": allowed}});
        let class = AIWorkflowClass::new("c", serde_json::from_value::<AIWorkflowClassSpec>(spec).unwrap());
        let owner = json!({"metadata": {"name": "triage"}, "spec": {"identity": {"annotations": {"cloud.example.com/role": "role-a", "iam.gke.io/x": "role-a"}}}});
        // Of a key that a cloud knows, but the class does not allow, the declaration is not accepted either.
        let google = account(json!({"iam.gke.io/x": "role-a"}));
        let old = account(json!({}));
        assert_eq!(check_account(&google, Some(&old), Some(&owner), Some(&class)).len(), 1);
        let new = account(json!({"cloud.example.com/role": value}));
        let found = check_account(&new, Some(&old), Some(&owner), Some(&class));
        assert_eq!(found.is_empty(), passes, "{found:?}");
    }

    #[rstest]
    #[case::its_own("night", true)]
    #[case::anothers("day", false)]
    fn the_platform_makes_an_account_that_joins(#[case] adopt: &str, #[case] passes: bool) {
        let owner = json!({"metadata": {"name": "night"}});
        let made = account(json!({"ringfence.dev/adopt": adopt}));
        assert_eq!(check_account(&made, None, Some(&owner), None).is_empty(), passes);
    }

    #[rstest]
    #[case::made("CREATE", "triage", true)]
    #[case::changed("UPDATE", "triage", true)]
    #[case::no_name("CREATE", "../triage", false)]
    fn who_has_an_account_is_asked(#[case] operation: &str, #[case] name: &str, #[case] asked: bool) {
        let object = json!({"metadata": {"name": name}});
        let found = claimed(&review(operation, "", "ServiceAccount", Some(&object), Some(&object)));
        let named = Named {
            namespace: "ai".to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(found, asked.then_some(named));
    }
}
