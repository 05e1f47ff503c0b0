//! Kinds of network plugins' policies, of which only metadata is ever read as such.

use std::borrow::Cow;

use kube::{
    Resource,
    api::ObjectMeta,
    core::{ClusterResourceScope, NamespaceResourceScope},
};

use crate::plan::Child;

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
