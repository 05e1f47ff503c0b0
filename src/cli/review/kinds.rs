//! What an API server knows of a kind, and a file does not say: how it is called in URLs, and whether it lies in a namespace.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    api::{is_of_cluster, plural_of},
    plan::text_at as text,
};

/// A kind as it would be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) is_namespaced: bool,
}

/// Kinds that definitions among the files tell of.
#[derive(Debug, Default)]
pub(super) struct Kinds(BTreeMap<(String, String), (String, bool)>);

impl Kinds {
    /// Takes in what a CustomResourceDefinition says.
    pub(super) fn learn(&mut self, object: &Value) {
        if text(object, "/kind") != "CustomResourceDefinition" {
            return;
        }
        let [group, kind, plural, scope] = ["/spec/group", "/spec/names/kind", "/spec/names/plural", "/spec/scope"]
            .map(|at| text(object, at).to_owned());
        if !kind.is_empty() && !plural.is_empty() {
            self.0.insert((group, kind), (plural, scope == "Namespaced"));
        }
    }

    /// How objects of a kind would be served. One that no definition tells of lies in a namespace, unless its name or the object speaks
    /// against it.
    pub(super) fn of(&self, api_version: &str, kind: &str, object: &Value) -> Resource {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let known = self.0.get(&(group.to_owned(), kind.to_owned())).cloned();
        let (plural, is_namespaced) = known.unwrap_or_else(|| {
            let is_of_cluster = is_of_cluster(group, kind);
            // What is called a `Cluster` is mostly one of databases, in a namespace; a `ClusterIssuer` is an issuer of the cluster.
            let of_what = kind.strip_prefix("Cluster").unwrap_or_default();
            let is_named_so = group.contains('.')
                && !group.ends_with(".k8s.io")
                && of_what.starts_with(|first: char| first.is_ascii_uppercase());
            let names_none = text(object, "/metadata/namespace").is_empty();
            (plural_of(group, kind), !(is_of_cluster || is_named_so && names_none))
        });
        Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            plural,
            is_namespaced,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::core("v1", "Pod", json!({}), "pods", true)]
    #[case::policies("networking.k8s.io/v1", "NetworkPolicy", json!({}), "networkpolicies", true)]
    #[case::ingresses("networking.k8s.io/v1", "Ingress", json!({}), "ingresses", true)]
    #[case::of_cluster("rbac.authorization.k8s.io/v1", "ClusterRole", json!({}), "clusterroles", false)]
    #[case::namespace("v1", "Namespace", json!({}), "namespaces", false)]
    #[case::ours("ringfence.dev/v1alpha1", "AIWorkflowClass", json!({}), "aiworkflowclasses", false)]
    #[case::ours_of_namespace("ringfence.dev/v1alpha1", "RegoPolicyException", json!({}), "regopolicyexceptions", true)]
    #[case::unknown("example.com/v1", "Widget", json!({}), "widgets", true)]
    #[case::unknown_by_name("cert-manager.io/v1", "ClusterIssuer", json!({}), "clusterissuers", false)]
    #[case::clusters("postgresql.cnpg.io/v1", "Cluster", json!({}), "clusters", true)]
    #[case::clustered("example.com/v1", "Clustering", json!({}), "clusterings", true)]
    #[case::by_its_definition("example.com/v1", "Mouse", json!({}), "mice", false)]
    fn kinds_are_known(
        #[case] api_version: &str,
        #[case] kind: &str,
        #[case] object: Value,
        #[case] plural: &str,
        #[case] is_namespaced: bool,
    ) {
        let mut kinds = Kinds::default();
        kinds.learn(&json!({
            "kind": "CustomResourceDefinition",
            "spec": {"group": "example.com", "names": {"kind": "Mouse", "plural": "mice"}, "scope": "Cluster"},
        }));
        let resource = kinds.of(api_version, kind, &object);
        assert_eq!(
            (resource.plural.as_str(), resource.is_namespaced),
            (plural, is_namespaced)
        );
    }
}
