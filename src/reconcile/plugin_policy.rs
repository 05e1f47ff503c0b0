//! Network plugins' policies: their kinds, of which only metadata is ever read as such, and what is known of a kind once it was listed.

use std::borrow::Cow;

use kube::{
    Resource,
    api::ObjectMeta,
    core::{ClusterResourceScope, NamespaceResourceScope},
};

use serde_json::Value;

use crate::plan::{Child, PluginPolicies};

macro_rules! policy {
    ($kind:ident, $scope:ty) => {
        #[derive(Clone, Debug)]
        pub(super) struct $kind(ObjectMeta);

        impl Resource for $kind {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                Child::$kind.kind().into()
            }

            fn group((): &()) -> Cow<'_, str> {
                Child::$kind.group().into()
            }

            fn version((): &()) -> Cow<'_, str> {
                Child::$kind.version().into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                Child::$kind.plural().into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.0
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.0
            }
        }
    };
}

policy!(CiliumNetworkPolicy, NamespaceResourceScope);
policy!(ClusterNetworkPolicy, ClusterResourceScope);

/// Adds what was listed of a kind to what was read of a workflow: `None` where the kind is not served. Whether such can be written.
pub(super) fn add_listed(
    kind: Child,
    listed: Option<Vec<Value>>,
    is_allowed: bool,
    children: &mut Vec<(Child, Value)>,
) -> PluginPolicies {
    let Some(found) = listed else {
        return PluginPolicies::Unserved;
    };
    children.extend(found.into_iter().map(|policy| (kind, policy)));
    match is_allowed {
        true => PluginPolicies::Writable,
        false => PluginPolicies::NotAllowed,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// What stands is seen where it may not be written any more, too: it is still to go.
    #[rstest]
    #[case::not_served(None, true, PluginPolicies::Unserved)]
    #[case::none_stands(Some(0), true, PluginPolicies::Writable)]
    #[case::written(Some(2), true, PluginPolicies::Writable)]
    #[case::not_allowed(Some(2), false, PluginPolicies::NotAllowed)]
    fn what_is_listed_is_seen_and_may_be_written_where_that_is_allowed(
        #[case] stand: Option<usize>,
        #[case] is_allowed: bool,
        #[case] expected: PluginPolicies,
    ) {
        let listed = stand.map(|stand| vec![json!({}); stand]);
        let mut children = vec![(Child::Role, json!({}))];
        let seen = add_listed(Child::CiliumNetworkPolicy, listed, is_allowed, &mut children);
        assert_eq!(seen, expected);
        assert_eq!(children.len(), 1 + stand.unwrap_or_default());
        let mut added = children.iter().skip(1);
        assert!(added.all(|(kind, _)| *kind == Child::CiliumNetworkPolicy));
    }
}
