//! A kind of an operator's, whose objects own pods of workflows.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, eventually, unique};

use crate::attackers::holder;
use crate::launch::custom_kind;
use crate::world::{Actor, SOON, World, all, own, pod, tenant_everywhere};

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

/// A workflow `triage` in an enforced namespace, of which a launcher made an operator's object `run`.
pub struct Launched {
    pub ns: String,
    pub kind: OperatorsKind,
    pub lea: Actor,
    /// Where objects of the kind are.
    pub flows: String,
    /// The object, as it was made.
    pub run: Value,
    /// Its own path.
    pub path: String,
}

impl Launched {
    pub async fn new(world: &World, prefix: &str) -> Self {
        let ns = world.enforced(prefix).await;
        world.ready(&ns, "triage", &json!({})).await;
        let kind = OperatorsKind::new(world).await;
        let lea = world.master("lea", &[]).await;
        let flows = kind.all(&ns);
        let run = lea.post(&flows, &kind.labelled("run")).await.ok();
        let path = format!("{flows}/run");
        Self {
            ns,
            kind,
            lea,
            flows,
            run,
            path,
        }
    }

    /// Somebody who may do that with objects of the kind, and nothing else.
    pub async fn holder(&self, world: &World, verbs: &[&str]) -> Actor {
        holder(world, &self.kind.rules(verbs)).await
    }

    /// A pod `step` that the object owns.
    pub fn step(&self) -> Value {
        let mut step = pod("step", "triage");
        step["metadata"]["ownerReferences"] = json!([self.kind.owner(&self.run)]);
        step
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
    launches_as(launcher, &all("Pod", ns), pod).await;
}

/// The same of something of any kind, where those are.
pub async fn launches_as(launcher: &Actor, path: &str, object: &Value) {
    eventually(SOON, || async {
        let made = launcher.post(path, object).await;
        ensure!(made.code == 201, "{}", made.message());
        Ok(())
    })
    .await;
}
