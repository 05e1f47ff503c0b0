//! Reads who holds what: Roles and bindings of the cluster, page by page.

use serde_json::Value;

use super::cluster::page;
use super::kinds::{CLASS, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, NAMESPACE, ROLE, ROLE_BINDING, WORKFLOW};
use crate::access::Access;
use crate::api::is_exempt;
use crate::findings::Extent;
use crate::plan::NamespaceFacts;
use crate::webhook::pages::{Ask, List, Listed};

/// Reads all of it, as fast as it goes. Returns what could not be read too.
pub async fn read_access(lists: &dyn List, release_namespace: &str) -> (Access, Extent) {
    let (mut access, mut extent) = (Access::new(release_namespace), Extent::default());
    each(lists, NAMESPACE, false, &mut extent, |namespace| {
        let exempt = |name: &str| is_exempt(name, Some(release_namespace));
        NamespaceFacts::from_object(namespace, exempt)
            .iter()
            .for_each(|facts| access.namespace(facts));
    })
    .await;
    for kind in [CLASS, WORKFLOW] {
        each(lists, kind, false, &mut extent, |object| access.launches(object)).await;
    }
    read_roles(lists, &mut access, false, &mut extent).await;
    for kind in [CLUSTER_ROLE_BINDING, ROLE_BINDING] {
        each(lists, kind, false, &mut extent, |binding| access.binding(binding)).await;
    }
    (access, extent)
}

/// Reads Roles and ClusterRoles: what the bindings that a scan reads are worth.
pub(super) async fn read_roles(lists: &dyn List, access: &mut Access, rests: bool, extent: &mut Extent) {
    for kind in [CLUSTER_ROLE, ROLE] {
        each(lists, kind, rests, extent, |role| access.role(role)).await;
    }
}

async fn each(lists: &dyn List, kind: Listed, rests: bool, extent: &mut Extent, mut hears: impl FnMut(&Value)) {
    let mut ask = Ask::all(kind, None);
    while let Some((page, goes_on)) = page(lists, &mut ask, rests, extent).await {
        for object in page.items.into_iter().map(Value::Object) {
            hears(&object);
        }
        if !goes_on {
            break;
        }
    }
}
