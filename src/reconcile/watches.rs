//! What wakes each controller: its own kind, what it made, and whatever its plan reads.
//!
//! Of what was made, and of what anybody may make, only metadata is watched: it tells whose it is.
//!
//! Must never: read or write an object. A watch that forgets something is a fence that is not kept until the next resync.

use std::{collections::BTreeSet, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    core::v1::{Namespace, ServiceAccount},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        Controller,
        controller::Config,
        reflector::{ObjectRef, Store},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    CONCURRENCY, Context, class, cluster_policy, facts, grant, lean, log, namespace, on_error, paged, paged_of_others,
    plugin_policy::CiliumNetworkPolicy, ranges, turns::in_turn, workflow,
};
use crate::{
    api::{
        AIWorkflow, AIWorkflowClass, AIWorkflowGrant, ClusterStatus, DEFAULT_DENY_NAME, GrantedWorkflow, OWNER_LABEL,
        OWNER_UID_ANNOTATION, ResolvedNames, is_exempt,
    },
    plan::{cluster_domains, is_named, is_peer},
};

pub(super) async fn namespaces(controller: Controller<Namespace>, context: Arc<Context>, stop: CancellationToken) {
    let denies = paged_of_others().fields(&format!("metadata.name={DEFAULT_DENY_NAME}"));
    controller
        .watches_stream(
            lean::touched_alone::<NetworkPolicy>(&context.client, denies),
            |policy: PartialObjectMeta<NetworkPolicy>| policy.namespace().map(|namespace| ObjectRef::new(&namespace)),
        )
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(namespace::reconcile, on_error, context)
        .for_each(|result| async move { log("namespace", result.map(drop)) })
        .await;
}

pub(super) async fn classes(controller: Controller<AIWorkflowClass>, context: Arc<Context>, stop: CancellationToken) {
    let tenants = futures::stream::unfold(context.scanned.tenants(), |mut tenants| async {
        tenants.changed().await.ok()?;
        Some(((), tenants))
    });
    controller
        .reconcile_all_on(ranges::changes(&context))
        .reconcile_all_on(tenants)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(class::reconcile, on_error, context)
        .for_each(|result| async move { log("class", result.map(drop)) })
        .await;
}

pub(super) async fn grants(controller: Controller<AIWorkflowGrant>, context: Arc<Context>, stop: CancellationToken) {
    let client = context.client.clone();
    let owned = || paged_of_others().labels(OWNER_LABEL);
    let (of_workflow, of_namespace, of_class) = (controller.store(), controller.store(), controller.store());
    let grants = controller.store();
    controller
        .watches_stream(lean::touched_alone::<Role>(&client, owned()), owner(&grants))
        .watches_stream(lean::touched_alone::<RoleBinding>(&client, owned()), owner(&grants))
        .watches_stream(
            lean::touched::<AIWorkflow>(&client, paged_of_others()),
            move |workflow| {
                let (namespace, name) = (workflow.namespace().unwrap_or_default(), workflow.name_any());
                granting(&of_workflow, |from| from.namespace == namespace && from.name == name)
            },
        )
        .watches_stream(lean::touched::<Namespace>(&client, paged()), move |namespace| {
            let name = namespace.name_any();
            granting(&of_namespace, |from| from.namespace == name)
        })
        // Which namespaces a class fences is not known here: a class changes seldom, and a grant is cheap to look at.
        .watches_stream(lean::changed(&client, paged(), read_of_class), move |_| {
            granting(&of_class, |_| true)
        })
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(in_turn(stop, grant::reconcile), on_error, context)
        .for_each(|result| async move { log("grant", result.map(drop)) })
        .await;
}

/// What of a class is read by others. Its conditions change by themselves, and would have every workflow of the class looked at.
fn read_of_class(class: &AIWorkflowClass) -> (Option<String>, Option<i64>, Option<ClusterStatus>, Vec<String>) {
    let cluster = class.status.as_ref().and_then(|status| status.cluster.clone());
    let domains = cluster_domains(class).map(str::to_owned).collect();
    (class.metadata.uid.clone(), class.metadata.generation, cluster, domains)
}

fn granting(
    grants: &Store<AIWorkflowGrant>,
    wanted: impl Fn(&GrantedWorkflow) -> bool,
) -> Vec<ObjectRef<AIWorkflowGrant>> {
    let names_it = |grant: &&Arc<AIWorkflowGrant>| grant.spec.from.iter().any(&wanted);
    grants
        .state()
        .iter()
        .filter(names_it)
        .map(|grant| ObjectRef::from_obj(grant.as_ref()))
        .collect()
}

pub(super) async fn workflows(
    controller: Controller<AIWorkflow>,
    workflows: Store<AIWorkflow>,
    namespaces: Store<Namespace>,
    context: Arc<Context>,
    stop: CancellationToken,
) {
    let client = context.client.clone();
    // The label only narrows the watch: when somebody strips it, the watch tells of a deletion, and the object is looked at.
    let owned = || paged_of_others().labels(OWNER_LABEL);
    let kubernetes = paged().fields("metadata.name=kubernetes");
    let of_namespace = workflows.clone();
    let of_class = workflows.clone();
    let of_peer = workflows.clone();
    let (of_grant, of_registration) = (workflows.clone(), workflows.clone());
    let (of_account, owner_of_account) = (workflows.clone(), owner(&workflows));
    let registration = paged().fields(&format!("metadata.name={}", context.registration));
    let release_namespace = context.release_namespace.clone();
    let scanned = context.scanned.changes();
    let scanned = scanned.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace));
    let looked = context.looks.ended();
    let looked = looked.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace));
    let controller = if context.writes_cilium {
        controller.watches_stream(
            lean::touched_where_served::<CiliumNetworkPolicy>(&client, owned()),
            owner(&workflows),
        )
    } else {
        controller
    };
    let controller = if context.writes_cluster_policies {
        controller.watches_stream(lean::touched_where_served(&client, owned()), |policy| {
            cluster_policy::workflow_of(&policy)
        })
    } else {
        controller
    };
    controller
        .watches_stream(
            lean::touched_alone::<NetworkPolicy>(&client, owned()),
            owner(&workflows),
        )
        .watches_stream(
            lean::touched_alone::<ServiceAccount>(&client, owned()),
            move |account| {
                let name = (account.namespace().unwrap_or_default(), account.name_any());
                let launched = matching(&of_account, |workflow| is_named(&workflow.spec.launchers, &name));
                launched.into_iter().chain(owner_of_account(account))
            },
        )
        .watches_stream(lean::touched_alone::<Role>(&client, owned()), owner(&workflows))
        .watches_stream(lean::touched_alone::<RoleBinding>(&client, owned()), owner(&workflows))
        .watches_stream(
            lean::touched_alone::<ResolvedNames>(&client, owned()),
            owner(&workflows),
        )
        .watches_stream(lean::touched::<Namespace>(&client, paged()), move |namespace| {
            let name = namespace.name_any();
            matching(&of_namespace, |workflow| {
                workflow.metadata.namespace.as_ref() == Some(&name)
            })
        })
        .watches_stream(lean::changed(&client, paged(), read_of_class), move |class| {
            let class = class.name_any();
            let names_it = |namespace: &Arc<Namespace>| {
                let facts = facts(
                    &namespace.metadata,
                    is_exempt(&namespace.name_any(), release_namespace.as_deref()),
                );
                facts.judging_class() == Some(class.as_str())
            };
            let fenced: BTreeSet<_> = namespaces
                .state()
                .iter()
                .filter(|ns| names_it(ns))
                .map(|ns| ns.name_any())
                .collect();
            matching(&of_class, |workflow| {
                workflow
                    .metadata
                    .namespace
                    .as_ref()
                    .is_some_and(|namespace| fenced.contains(namespace))
            })
        })
        .watches_stream(lean::touched::<AIWorkflow>(&client, paged_of_others()), move |peer| {
            let peer = (peer.namespace().unwrap_or_default(), peer.name_any());
            matching(&of_peer, |workflow| is_peer(workflow, &peer))
        })
        .watches_stream(
            lean::touched_alone::<AIWorkflowGrant>(&client, paged_of_others()),
            move |grant| {
                let namespace = grant.namespace().unwrap_or_default();
                matching(&of_grant, |workflow| {
                    workflow
                        .cross_namespace()
                        .iter()
                        .any(|entry| entry.namespace == namespace)
                })
            },
        )
        .watches_stream(
            lean::touched::<ValidatingWebhookConfiguration>(&client, registration),
            move |_| matching(&of_registration, |_| true),
        )
        .watches_stream(
            lean::touched_of(
                Api::<lean::Lean<EndpointSlice>>::namespaced(client, "default"),
                kubernetes,
            ),
            move |_| {
                matching(&workflows, |workflow| {
                    workflow
                        .spec
                        .network
                        .iter()
                        .flat_map(|network| &network.egress)
                        .any(|rule| rule.to.api_server.is_some())
                })
            },
        )
        .reconcile_on(scanned)
        .reconcile_on(looked)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(in_turn(stop, workflow::reconcile), on_error, context)
        .for_each(|result| async move { log("workflow", result.map(drop)) })
        .await;
}

/// Whose an object is, by the annotation or by an owner reference: whichever of them somebody else has taken off, the other one
/// still leads to who puts it back. The label says the name of most owners at once: a look at all of them would make each start cost more
/// for every owner that there is.
fn owner<K, O>(store: &Store<K>) -> impl Fn(O) -> Option<ObjectRef<K>> + Send + Sync + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    O: Resource,
{
    let store = store.clone();
    move |object| {
        let by_annotation = object.annotations().get(OWNER_UID_ANNOTATION);
        let is_owner = |owner: &K| {
            let is = |uid: &String| {
                by_annotation == Some(uid) || object.owner_references().iter().any(|reference| reference.uid == *uid)
            };
            owner.meta().uid.as_ref().is_some_and(is)
        };
        let named = object.labels().get(OWNER_LABEL).and_then(|name| {
            let namespace = object.namespace().unwrap_or_default();
            store.get(&ObjectRef::new(name).within(&namespace))
        });
        let owner = named.filter(|owner| is_owner(owner)).or_else(|| store.find(is_owner))?;
        Some(ObjectRef::from_obj(owner.as_ref()))
    }
}

fn matching(store: &Store<AIWorkflow>, wanted: impl Fn(&AIWorkflow) -> bool) -> Vec<ObjectRef<AIWorkflow>> {
    store
        .state()
        .iter()
        .filter(|workflow| wanted(workflow))
        .map(|workflow| ObjectRef::from_obj(workflow.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such as after an upgrade that tells of more of them: workflows are looked at as soon as the class says it.
    #[test]
    fn what_names_are_the_clusters_is_read_of_a_class_and_what_is_said_of_it_is_not() {
        let mut class = AIWorkflowClass::new("gold", Default::default());
        let mut before = read_of_class(&class);
        let status = class.status.get_or_insert_default();
        status.observed_generation = Some(7);
        assert_eq!(read_of_class(&class), before);
        for domain in ["sets.example", "k8s.example"] {
            let status = class.status.get_or_insert_default();
            match status.cluster_domains.is_empty() {
                true => status.cluster_domains.push(domain.to_owned()),
                false => status.cluster_domain = Some(domain.to_owned()),
            }
            let after = read_of_class(&class);
            assert_ne!(after, before);
            before = after;
        }
    }
}
