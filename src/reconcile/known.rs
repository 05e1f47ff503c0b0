//! What the controllers keep of every class and AIWorkflow: for questions about all of them.
//!
//! Must never: answer before everything is there, or give a right for what it knows. It only holds back.

use std::sync::OnceLock;

use ipnet::IpNet;
use kube::runtime::reflector::{ObjectRef, Store};

use super::{CallError, calls, wait};
use crate::{
    api::{AIWorkflow, AIWorkflowClass},
    plan,
};

/// The controllers' stores, once they are made.
#[derive(Default)]
pub(super) struct Known(OnceLock<(Store<AIWorkflowClass>, Store<AIWorkflow>)>);

impl Known {
    /// Keeps the stores. The first ones stay.
    pub(super) fn keep(&self, classes: Store<AIWorkflowClass>, workflows: Store<AIWorkflow>) {
        self.0.get_or_init(|| (classes, workflows));
    }

    /// The cluster's ranges, as any class knows them.
    pub(super) fn cluster_ranges(&self) -> Vec<IpNet> {
        let classes = self.0.get().map(|(classes, _)| classes.state()).unwrap_or_default();
        classes.iter().flat_map(|class| plan::cluster_ranges(class)).collect()
    }

    /// Whether that very workflow stands, as far as is known; where nobody was told yet, it does.
    pub(super) fn stands(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let Some((_, workflows)) = self.0.get() else {
            return true;
        };
        let known = workflows.get(&ObjectRef::new(name).within(namespace));
        known.is_some_and(|workflow| workflow.metadata.uid.as_deref() == Some(uid))
    }

    /// Who else names a workflow's account as launcher. A claim that is not heard of yet is as good as one that comes later, and
    /// that one names an account that is there to be seen.
    pub(super) async fn claims(
        &self,
        workflow: &AIWorkflow,
        class: &AIWorkflowClass,
    ) -> Result<Vec<String>, CallError> {
        let timeout = || CallError::Timeout {
            what: "know every class and AIWorkflow".to_owned(),
        };
        let (classes, workflows) = self.0.get().ok_or_else(timeout)?;
        let ready = async { wait(classes.clone()).await && wait(workflows.clone()).await };
        match tokio::time::timeout(calls::DEADLINE, ready).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(timeout()),
        }
        let (classes, workflows) = (classes.state(), workflows.state());
        Ok(plan::claims(
            workflow,
            class,
            classes.iter().map(AsRef::as_ref),
            workflows.iter().map(AsRef::as_ref),
        ))
    }
}
