//! A kind of an operator's, whose objects own pods of workflows.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, eventually, unique};

use crate::launch::custom_kind;
use crate::world::{Actor, SOON, World, all, own, tenant_everywhere};

/// A kind that Ringfence is let to follow from a pod to what made it.
pub struct OperatorsKind {
    pub group: String,
    pub plural: String,
}

impl OperatorsKind {
    pub async fn new(world: &World) -> Self {
        let (group, plural) = custom_kind(world).await;
        let role = json!({
            "metadata": {"name": unique("owners"), "labels": {"ringfence.dev/aggregate-to-owners": "true"}},
            "rules": [{"apiGroups": [group], "resources": [plural], "verbs": ["get"]}],
        });
        let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
        world.admin.post(roles, &role).await.ok();
        Self { group, plural }
    }

    /// Rules of RBAC by which somebody may do that with its objects.
    pub fn rules(&self, verbs: &[&str]) -> Value {
        json!([{"apiGroups": [self.group], "resources": [self.plural], "verbs": verbs}])
    }

    /// Where its objects of a namespace are.
    pub fn all(&self, ns: &str) -> String {
        format!("/apis/{}/v1/namespaces/{ns}/{}", self.group, self.plural)
    }

    pub fn object(&self, name: &str) -> Value {
        json!({
            "apiVersion": format!("{}/v1", self.group), "kind": "Flow", "metadata": {"name": name}, "spec": {"image": "x"},
        })
    }

    /// The same with the label of the workflow `triage`.
    pub fn labelled(&self, name: &str) -> Value {
        let mut object = self.object(name);
        object["metadata"]["labels"] = json!({"ringfence.dev/workflow": "triage"});
        object
    }

    /// The ownerReference to an object that was made.
    pub fn owner(&self, made: &Value) -> Value {
        json!({
            "apiVersion": format!("{}/v1", self.group), "kind": "Flow", "name": made["metadata"]["name"], "uid": made["metadata"]["uid"],
            "controller": true,
        })
    }
}

/// A world that no other test has a part in, until the test binary ends.
pub async fn apart() -> World {
    let (cluster, ringfence, admin) = own(&[]).await;
    let cluster: &'static ControlPlane = Box::leak(Box::new(cluster));
    World {
        tess: tenant_everywhere(cluster, &admin).await,
        ringfence: Box::leak(Box::new(ringfence)),
        cluster,
        admin,
    }
}

/// Makes a pod that such an object owns, once Ringfence may follow the kind.
pub async fn launches(launcher: &Actor, ns: &str, pod: &Value) {
    eventually(SOON, || async {
        let made = launcher.post(&all("Pod", ns), pod).await;
        ensure!(made.code == 201, "{}", made.message());
        Ok(())
    })
    .await;
}
