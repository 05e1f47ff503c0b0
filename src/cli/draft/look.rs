//! Lists what a draft is made of. What the caller may not read is named, and the rest is read all the same.
//!
//! Must never: read a Secret, or keep what a pod's environment holds.

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, TypeMeta},
};
use serde_json::Value;

use super::super::{
    cluster::{bounded, is_not_served, listed, told},
    terminal::printable,
};
use crate::{
    api::AIWorkflow,
    draft::{self, RoleName, Seen},
    reconcile::CallError,
};

/// Most objects of one kind in the namespace.
const MAX_HERE: usize = 5_000;
/// Most objects of one kind in the cluster.
const MAX_CLUSTER: usize = 20_000;
/// Most roles that are read one by one.
const MAX_ROLES: usize = 200;
/// Most characters of a name that is shown only.
const MAX_SHOWN: usize = 64;

/// A kind that is listed: group, kind, plural.
type Kind = (&'static str, &'static str, &'static str);

const RBAC: &str = "rbac.authorization.k8s.io";
const WORKLOADS: [Kind; 8] = [
    ("", "Pod", "pods"),
    ("", "ReplicationController", "replicationcontrollers"),
    ("apps", "DaemonSet", "daemonsets"),
    ("apps", "Deployment", "deployments"),
    ("apps", "ReplicaSet", "replicasets"),
    ("apps", "StatefulSet", "statefulsets"),
    ("batch", "CronJob", "cronjobs"),
    ("batch", "Job", "jobs"),
];
const ACCOUNTS: Kind = ("", "ServiceAccount", "serviceaccounts");
const SERVICES: Kind = ("", "Service", "services");
const POLICIES: Kind = ("networking.k8s.io", "NetworkPolicy", "networkpolicies");
const ROLE_BINDINGS: Kind = (RBAC, "RoleBinding", "rolebindings");
const CLUSTER_ROLE_BINDINGS: Kind = (RBAC, "ClusterRoleBinding", "clusterrolebindings");
const ROLES: Kind = (RBAC, "Role", "roles");
const CLUSTER_ROLES: Kind = (RBAC, "ClusterRole", "clusterroles");

/// What was seen, and what is to be said of the looking.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) seen: Seen,
    /// Such as `12 pods`.
    pub(super) looked_at: Vec<String>,
    /// What could not be read, and why.
    pub(super) unread: Vec<String>,
}

struct Look<'a> {
    client: &'a Client,
    namespace: &'a str,
    looked: Looked,
}

/// Looks at a namespace.
pub(super) async fn look(client: &Client, namespace: &str) -> Result<Looked> {
    let mut look = Look {
        client,
        namespace,
        looked: Looked::default(),
    };
    look.looked.seen.namespace = namespace.to_owned();
    look.is_there().await?;
    for kind in WORKLOADS {
        let found = look.here(kind).await?;
        look.looked.seen.workloads.extend(found.into_iter().flatten());
    }
    if look.looked.unread.len() >= WORKLOADS.len() {
        bail!(
            "nothing that runs in namespace {namespace} can be read:\n  {}",
            look.looked.unread.join("\n  ")
        );
    }
    look.looked.seen.accounts = look.here(ACCOUNTS).await?.unwrap_or_default();
    look.looked.seen.policies = look.here(POLICIES).await?.unwrap_or_default();
    look.looked.seen.services = look.here(SERVICES).await?.unwrap_or_default();
    look.bindings().await?;
    look.roles().await?;
    look.namespaces().await?;
    look.workflows().await?;
    Ok(look.looked)
}

impl Look<'_> {
    async fn is_there(&mut self) -> Result<()> {
        let what = format!("read namespace {}", self.namespace);
        let read = bounded(&what, Api::<Namespace>::all(self.client.clone()).get(self.namespace)).await;
        if read.as_ref().is_err_and(is_not_found) {
            bail!(
                "namespace {} does not exist: kubectl get namespaces shows those that do",
                self.namespace
            );
        }
        self.readable(read).map(drop)
    }

    /// `None`, and a word about it, for what the caller may not read. Every other failure ends it.
    fn readable<T>(&mut self, answer: Result<T, CallError>) -> Result<Option<T>> {
        match answer {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.status().is_some_and(kube::core::Status::is_forbidden) => {
                self.looked.unread.push(format!("{:#}", told(error)));
                Ok(None)
            }
            Err(error) => Err(told(error)),
        }
    }

    async fn list(&mut self, kind: Kind, namespace: Option<&str>, most: usize) -> Result<Option<Vec<Value>>> {
        let resource = resource(kind);
        let api = match namespace {
            Some(namespace) => Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::<DynamicObject>::all_with(self.client.clone(), &resource),
        };
        let place = namespace.map_or_else(
            || "the cluster".to_owned(),
            |namespace| format!("namespace {namespace}"),
        );
        let what = format!("list {} in {place}", kind.2);
        let answer = listed(&what, &api, &ListParams::default(), most).await;
        let Some((found, whole)) = self.readable(answer)? else {
            return Ok(None);
        };
        if !whole {
            self.looked.unread.push(format!(
                "more than {most} {} in {place}: the rest was not looked at",
                kind.2
            ));
        }
        let found = found.into_iter().map(|object| remembered(object, &resource));
        Ok(Some(found.collect::<Result<_, _>>()?))
    }

    async fn here(&mut self, kind: Kind) -> Result<Option<Vec<Value>>> {
        let found = self.list(kind, Some(self.namespace), MAX_HERE).await?;
        if let Some(found) = &found {
            self.looked.looked_at.push(format!("{} {}", found.len(), kind.2));
        }
        Ok(found)
    }

    /// RoleBindings of every namespace, for an account can hold rights anywhere; or those of this one.
    async fn bindings(&mut self) -> Result<()> {
        let mut found = self.list(ROLE_BINDINGS, None, MAX_CLUSTER).await?;
        if found.is_none() {
            found = self.list(ROLE_BINDINGS, Some(self.namespace), MAX_HERE).await?;
        }
        let of_cluster = self.list(CLUSTER_ROLE_BINDINGS, None, MAX_CLUSTER).await?;
        for (found, kind) in [(&found, ROLE_BINDINGS), (&of_cluster, CLUSTER_ROLE_BINDINGS)] {
            if let Some(found) = found {
                self.looked.looked_at.push(format!("{} {}", found.len(), kind.2));
            }
        }
        self.looked.seen.role_bindings = found.unwrap_or_default();
        self.looked.seen.cluster_role_bindings = of_cluster.unwrap_or_default();
        Ok(())
    }

    /// The roles that an account of the namespace is bound to.
    async fn roles(&mut self) -> Result<()> {
        let wanted = draft::roles_of(&self.looked.seen);
        if wanted.len() > MAX_ROLES {
            let rest = wanted.len() - MAX_ROLES;
            self.looked.unread.push(format!(
                "{rest} of {} roles: at most {MAX_ROLES} are read",
                wanted.len()
            ));
        }
        for RoleName { namespace, name } in wanted.into_iter().take(MAX_ROLES) {
            // RBAC lets names hold anything, and a name must not become another URL.
            if !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_'))
            {
                let shown: String = printable(&name).chars().take(MAX_SHOWN).collect();
                self.looked
                    .unread
                    .push(format!("role {shown:?}, which has an unusual name"));
                continue;
            }
            let (resource, api, shown) = match &namespace {
                Some(namespace) => {
                    let resource = resource(ROLES);
                    let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource);
                    (resource, api, format!("read Role {name} of namespace {namespace}"))
                }
                None => {
                    let resource = resource(CLUSTER_ROLES);
                    let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
                    (resource, api, format!("read ClusterRole {name}"))
                }
            };
            let read = bounded(&shown, api.get(&name)).await;
            // A binding may name a role that is not there: it gives nothing.
            if read.as_ref().is_err_and(is_not_found) {
                continue;
            }
            if let Some(role) = self.readable(read)? {
                self.looked.seen.roles.push(remembered(role, &resource)?);
            }
        }
        self.looked
            .looked_at
            .push(format!("{} roles", self.looked.seen.roles.len()));
        Ok(())
    }

    /// Labels of every namespace, where a policy speaks of namespaces by label.
    async fn namespaces(&mut self) -> Result<()> {
        let is_asked = |peer: &Value| peer.get("namespaceSelector").is_some_and(Value::is_object);
        let rules = |policy: &Value| -> Vec<Value> {
            let lists =
                ["/spec/ingress", "/spec/egress"].map(|pointer| policy.pointer(pointer).and_then(Value::as_array));
            lists.into_iter().flatten().flatten().cloned().collect()
        };
        let peers = |rule: &Value| -> Vec<Value> {
            let lists = ["/from", "/to"].map(|pointer| rule.pointer(pointer).and_then(Value::as_array));
            lists.into_iter().flatten().flatten().cloned().collect()
        };
        let policies = &self.looked.seen.policies;
        if !policies
            .iter()
            .flat_map(rules)
            .any(|rule| peers(&rule).iter().any(is_asked))
        {
            return Ok(());
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let answer = listed(
            "list namespaces in the cluster",
            &api,
            &ListParams::default(),
            MAX_CLUSTER,
        )
        .await;
        if let Some((found, whole)) = self.readable(answer)? {
            if !whole {
                self.looked.unread.push(format!(
                    "more than {MAX_CLUSTER} namespaces: the rest was not looked at"
                ));
            }
            self.looked.looked_at.push(format!("{} namespaces", found.len()));
            let labelled = found
                .into_iter()
                .map(|namespace| (namespace.name_any(), namespace.labels().clone()));
            self.looked.seen.namespaces = Some(labelled.collect());
        }
        Ok(())
    }

    /// AIWorkflows that are there already; none where Ringfence is not installed.
    async fn workflows(&mut self) -> Result<()> {
        let api = Api::<AIWorkflow>::namespaced(self.client.clone(), self.namespace);
        let what = format!("list aiworkflows in namespace {}", self.namespace);
        let answer = listed(&what, &api, &ListParams::default(), MAX_HERE).await;
        if answer.as_ref().is_err_and(is_not_served) {
            return Ok(());
        }
        if let Some((found, _)) = self.readable(answer)? {
            self.looked.seen.workflows = found;
        }
        Ok(())
    }
}

fn is_not_found(error: &CallError) -> bool {
    error.status().is_some_and(kube::core::Status::is_not_found)
}

fn resource((group, kind, plural): Kind) -> ApiResource {
    let api_version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// An object without what a draft has no use for and somebody may have written a secret into.
fn remembered(mut object: DynamicObject, resource: &ApiResource) -> Result<Value> {
    // Items of a list come without their type.
    object.types.get_or_insert_with(|| TypeMeta {
        api_version: resource.api_version.clone(),
        kind: resource.kind.clone(),
    });
    let mut object = serde_json::to_value(object)?;
    forget(&mut object);
    Ok(object)
}

/// Keys whose values are nobody's business here, wherever they stand.
const FORGOTTEN: [&str; 6] = [
    "args",
    "command",
    "kubectl.kubernetes.io/last-applied-configuration",
    "managedFields",
    "status",
    "value",
];

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !FORGOTTEN.contains(&key.as_str()));
            fields.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_may_be_secret_is_kept() {
        let container = json!({"name": "main", "image": "a.example/b", "command": ["sh", "-c", "topsecret"], "args": ["--key=topsecret"],
            "env": [{"name": "KEY", "value": "topsecret"}, {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}]});
        let object = json!({"apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "x", "managedFields": [{"fieldsV1": {"topsecret": {}}}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "topsecret", "a.example/b": "c"}},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [container]}}}}},
            "status": {"message": "topsecret"}});
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let kept = remembered(object, &resource(WORKLOADS[6])).unwrap();
        assert!(!kept.to_string().contains("topsecret"), "{kept}");
        assert_eq!(kept["metadata"]["annotations"], json!({"a.example/b": "c"}));
        let env = kept
            .pointer("/spec/jobTemplate/spec/template/spec/containers/0/env")
            .unwrap();
        assert_eq!(env[1]["valueFrom"]["secretKeyRef"]["name"], "keys");
    }
}
