//! What was given goes when it is no longer declared or allowed, whatever stands in the way of writing the new form.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use ringfence::api::{AIWorkflow, AIWorkflowClass, ConditionType, find};
use ringfence::plan::owned_name;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};
use support::{ControlPlane, eventually, unique};

const SOON: Duration = Duration::from_secs(60);
const BINARY: &str = env!("CARGO_BIN_EXE_ringfence");

/// An enforced namespace with a class of its own.
struct Place {
    cluster: &'static ControlPlane,
    admin: Client,
    namespace: String,
    class: String,
}

impl Place {
    async fn new(class_spec: Value) -> Self {
        let cluster = ControlPlane::shared();
        cluster.ringfence(BINARY).await;
        let admin = cluster.admin().await;
        let (namespace, class) = (unique("narrow"), unique("class"));
        let mut spec = json!({"images": {"allowed": ["**"]}});
        spec.as_object_mut()
            .unwrap()
            .extend(class_spec.as_object().unwrap().clone());
        let object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": class}, "spec": spec});
        create(&Api::<AIWorkflowClass>::all(admin.clone()), object)
            .await
            .unwrap();
        let labels = json!({
            "owner": "ml", "pod-security.kubernetes.io/enforce": "restricted", "ringfence.dev/enforce": class,
        });
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        create(&Api::<Namespace>::all(admin.clone()), object).await.unwrap();
        Self {
            cluster,
            admin,
            namespace,
            class,
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    async fn declare(&self, spec: Value) {
        let mut whole = json!({"images": ["registry.example.com/finance/*"], "launchers": [{"user": "ann"}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "triage"}, "spec": whole});
        create(&self.api::<AIWorkflow>(), object).await.unwrap();
    }

    async fn change(&self, spec: Value) {
        patch(&self.api::<AIWorkflow>(), "triage", json!({"spec": spec})).await;
    }

    async fn unasked(&self) -> Client {
        let own = "system:serviceaccount:ringfence-system:ringfence";
        self.cluster.impersonate(own, &["system:masters"]).await
    }

    /// A change that the webhook is never asked about.
    async fn change_unasked(&self, spec: Value) {
        patch(
            &Api::<AIWorkflow>::namespaced(self.unasked().await, &self.namespace),
            "triage",
            json!({"spec": spec}),
        )
        .await;
    }

    async fn change_class(&self, spec: Value) {
        let classes: Api<AIWorkflowClass> = Api::all(self.admin.clone());
        patch(&classes, &self.class, json!({"spec": spec})).await;
    }

    /// Waits for a condition with that reason.
    async fn says(&self, type_: ConditionType, reason: &str) -> String {
        let api = self.api::<AIWorkflow>();
        eventually(SOON, || async {
            let workflow = api.get("triage").await?;
            let conditions = workflow.status.unwrap_or_default().conditions;
            let condition =
                find(&conditions, type_).map(|condition| (condition.reason.clone(), condition.message.clone()));
            match condition {
                Some((said, message)) if said == reason => Ok(message),
                other => anyhow::bail!("{other:?}"),
            }
        })
        .await
    }

    async fn egress(&self) -> Vec<String> {
        let policies = self.api::<NetworkPolicy>().list(&ListParams::default()).await.unwrap();
        let specs = policies.items.into_iter().filter_map(|policy| policy.spec?.egress);
        specs
            .flatten()
            .map(|rule| serde_json::to_string(&rule).unwrap())
            .collect()
    }

    async fn bindings(&self) -> usize {
        let bindings = self.api::<RoleBinding>().list(&ListParams::default()).await.unwrap();
        bindings.items.len()
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    api.create(&PostParams::default(), &from_value(object).expect("an object"))
        .await
}

async fn patch<K>(api: &Api<K>, name: &str, change: Value)
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await
        .expect("a change");
}

fn rule(group: &str, resource: &str, verb: &str) -> Value {
    json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}])
}

/// The API server would refuse a policy with such a name in it, and the old one would stay open.
#[tokio::test]
async fn a_peer_that_cannot_be_written_keeps_nothing_open() {
    let place = Place::new(json!({"network": {"cidrs": ["198.51.100.0/24"]}})).await;
    let bank = json!({"name": "bank", "to": {"cidrs": ["198.51.100.0/24"]}, "ports": [{"port": 443}]});
    place.declare(json!({"network": {"egress": [bank]}})).await;
    place.says(ConditionType::Ready, "Fenced").await;
    let poison = [
        json!({"name": "p", "to": {"workflow": {"name": "a b"}}, "ports": [{"port": 1}]}),
        json!({"name": "p", "to": {"pods": {"selector": {"matchLabels": {"a b": "c"}}}}, "ports": [{"port": 1}]}),
    ];
    for peer in poison {
        // As an older version let it in.
        place.change_unasked(json!({"network": {"egress": [bank, peer]}})).await;
        place.says(ConditionType::Accepted, "Invalid").await;
        place.change_class(json!({"network": {"cidrs": []}})).await;
        eventually(SOON, || async {
            let open = place.egress().await;
            ensure!(!open.iter().any(|rule| rule.contains("198.51.100.0")), "{open:?}");
            Ok(())
        })
        .await;
        place
            .change_class(json!({"network": {"cidrs": ["198.51.100.0/24"]}}))
            .await;
        place.change(json!({"network": {"egress": [bank]}})).await;
        place.says(ConditionType::Ready, "Fenced").await;
    }
}

/// A right above the ceiling cannot be written; the one before it is declared no more.
#[tokio::test]
async fn a_right_that_cannot_be_given_does_not_keep_the_one_before() {
    let place = Place::new(json!({"permissions": rule("", "configmaps", "get")})).await;
    place
        .declare(json!({"permissions": {"rules": rule("", "configmaps", "get")}}))
        .await;
    place.says(ConditionType::Ready, "Fenced").await;
    let own = Api::<ConfigMap>::namespaced(
        place.cluster.service_account(&place.namespace, "triage").await,
        &place.namespace,
    );
    eventually(SOON, || async { Ok(own.get("kube-root-ca.crt").await?) }).await;
    let above = rule("policy", "poddisruptionbudgets", "list");
    place.change_class(json!({"permissions": above})).await;
    place.change(json!({"permissions": {"rules": above}})).await;
    place.says(ConditionType::Programmed, "AboveCeiling").await;
    eventually(SOON, || async {
        ensure!(own.get("kube-root-ca.crt").await.is_err(), "it still reads");
        Ok(())
    })
    .await;
}

/// Whoever may make Roles could otherwise write what the workflow's account holds.
#[tokio::test]
async fn a_role_of_somebody_else_is_not_bound() {
    let place = Place::new(json!({"permissions": rule("", "configmaps", "get")})).await;
    let name = owned_name(&place.namespace, "triage", "role");
    let role = json!({"metadata": {"name": name}, "rules": rule("networking.k8s.io", "networkpolicies", "create")});
    // From before the guards.
    let earlier = Api::<Role>::namespaced(place.unasked().await, &place.namespace);
    create(&earlier, role).await.unwrap();
    place
        .declare(json!({"permissions": {"rules": rule("", "configmaps", "get")}}))
        .await;
    place.says(ConditionType::Programmed, "NameTaken").await;
    assert_eq!(place.bindings().await, 0);
}

#[tokio::test]
async fn a_name_that_is_free_again_is_used_within_seconds() {
    let place = Place::new(json!({})).await;
    let accounts = place.api::<ServiceAccount>();
    create(&accounts, json!({"metadata": {"name": "triage"}}))
        .await
        .unwrap();
    place.declare(json!({})).await;
    let message = place.says(ConditionType::Programmed, "NameTaken").await;
    assert!(message.contains("delete it"), "{message}");
    accounts.delete("triage", &DeleteParams::default()).await.unwrap();
    place.says(ConditionType::Ready, "Fenced").await;
    assert!(!accounts.get("triage").await.unwrap().annotations().is_empty());
}

#[tokio::test]
async fn a_workflow_with_much_to_say_still_says_it() {
    let place = Place::new(json!({"permissions": rule("", "configmaps", "get")})).await;
    let rules: Vec<Value> = (0..16)
        .flat_map(|_| from_value::<Vec<Value>>(rule("", "configmaps", "get")).unwrap())
        .collect();
    let cross: Vec<_> = (0..16)
        .map(|number| json!({"namespace": format!("{number:0>63}"), "rules": rules}))
        .collect();
    place.declare(json!({"permissions": {"crossNamespace": cross}})).await;
    place.says(ConditionType::ResolvedRefs, "NoGrant").await;
}

/// A finalizer keeps what is deleted, and the garbage collector waits for that: rights do not.
#[tokio::test]
async fn a_workflow_that_is_kept_from_going_keeps_no_rights() {
    let place = Place::new(json!({"permissions": rule("", "configmaps", "get")})).await;
    place
        .declare(json!({"permissions": {"rules": rule("", "configmaps", "get")}}))
        .await;
    place.says(ConditionType::Ready, "Fenced").await;
    assert_eq!(place.bindings().await, 1);
    let workflows = place.api::<AIWorkflow>();
    let keep = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    patch(&workflows, "triage", keep(json!(["example.com/keep"]))).await;
    workflows.delete("triage", &DeleteParams::default()).await.unwrap();
    place.change_class(json!({"permissions": []})).await;
    eventually(SOON, || async {
        let left = place.bindings().await;
        ensure!(left == 0, "{left} bindings are still there");
        let kept = workflows.get("triage").await?;
        ensure!(kept.metadata.deletion_timestamp.is_some());
        let said = kept.status.unwrap_or_default().effective_rules;
        ensure!(said.is_empty(), "it says that it holds {said:?}");
        Ok(())
    })
    .await;
    for type_ in [ConditionType::Accepted, ConditionType::Programmed, ConditionType::Ready] {
        let message = place.says(type_, "Deleting").await;
        assert!(message.contains("example.com/keep"), "{message}");
    }
    patch(&workflows, "triage", keep(json!([]))).await;
    eventually(SOON, || async {
        ensure!(
            place.api::<ServiceAccount>().get_opt("triage").await?.is_none(),
            "not collected yet"
        );
        Ok(())
    })
    .await;
}
