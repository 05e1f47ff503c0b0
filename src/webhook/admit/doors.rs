//! What is asked and judged at the doors of a fence beside its pods: bindings to its accounts, tokens, Services, policies.
//!
//! Must never: judge with a namespace, class or workflow missing that could not be asked for.

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::{Admission, within};
use crate::fence::{Binding, Door, Facts};
use crate::review::{Decision, Fault, Review};
use crate::webhook::judge::unusable;
use crate::webhook::lookup::Key;

/// Most namespaces of one binding that are asked for at a time: few, for one user may have many bindings reviewed at once.
const AT_ONCE: usize = 4;

impl Admission {
    pub(super) async fn decide_door(&self, door: &Door<'_>, deadline: Instant) -> Result<Decision, Fault> {
        let asked = async {
            tokio::try_join!(
                self.namespace_with_classes(Some(door.namespace.to_owned())),
                self.ask(door.claimed().map(Key::AccountOwner)),
            )
        };
        let ((namespace, classes), workflow) = within(deadline, asked).await?;
        let facts = Facts {
            namespace,
            classes,
            workflow,
            ..Facts::default()
        };
        Ok(self.judge.door(door, &facts))
    }

    pub(super) async fn decide_binding(&self, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        let Some(binding) = Binding::of(review).map_err(unusable)? else {
            return Ok(Decision::default());
        };
        let names = match binding.namespaces() {
            Ok(names) => names,
            Err(violation) => {
                return Ok(Decision {
                    denials: vec![*violation],
                    ..Decision::default()
                });
            }
        };
        let asked = names.into_iter().filter(|name| !self.is_exempt(name));
        let asked = asked.map(|name| async { self.lookup.get(&Key::Namespace(name)).await });
        let asked = stream::iter(asked).buffered(AT_ONCE).try_collect::<Vec<_>>();
        let there: Vec<_> = within(deadline, asked).await?.into_iter().flatten().collect();
        self.judge.binding(&binding, &there)
    }
}
