//! Policies that are switched off, or only warn or audit: what the chart has as `policies`.
//!
//! Must never: pass over a name that no policy has, because whoever wrote it believes that something is switched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::{Result, bail};

use super::Loaded;
use crate::{
    api::{ValidationAction, is_dns_subdomain},
    policy::{Registered, library},
};

/// A policy by name, and what its refusals do; `None` is a policy that is not asked.
#[derive(Clone, Debug)]
pub(super) struct Switch {
    policy: String,
    action: Option<ValidationAction>,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = self.action.map_or("Off", ValidationAction::as_str);
        write!(f, "{}={action}", self.policy)
    }
}

/// Reads `approved-images=Warn`.
pub(super) fn parse(text: &str) -> Result<Switch, String> {
    let wanted = || {
        format!("{text:?} is no switch of a policy: write it like approved-images=Warn, with Deny, Warn, Audit or Off")
    };
    let (policy, action) = text.split_once('=').ok_or_else(wanted)?;
    let action = match action {
        "Off" => None,
        "Audit" => Some(ValidationAction::Audit),
        "Warn" => Some(ValidationAction::Warn),
        "Deny" => Some(ValidationAction::Deny),
        _ => return Err(wanted()),
    };
    if !is_dns_subdomain(policy) {
        return Err(wanted());
    }
    Ok(Switch {
        policy: policy.to_owned(),
        action,
    })
}

/// Switches what was loaded.
///
/// # Errors
/// Where a policy is named twice, or none that is in force has a name. A shipped one of a set that is not in force may be named as off.
pub(super) fn switch(mut loaded: Loaded, switches: &[Switch]) -> Result<Loaded> {
    let mut named = BTreeMap::new();
    let in_force = loaded.set.policies().map(|policy| policy.metadata.name.clone());
    let in_force: BTreeSet<String> = in_force
        .chain(loaded.registered.iter().map(|policy| policy.name().to_owned()))
        .collect();
    for Switch { policy, action } in switches {
        if named.insert(policy.clone(), *action).is_some() {
            bail!("policy {policy} is switched twice: say once what it does");
        }
        let is_off = action.is_none() && library::names()?.contains(policy);
        if !in_force.contains(policy) && !is_off {
            let names: Vec<_> = in_force.into_iter().collect();
            bail!(
                "no policy is in force that is called {policy}, so it cannot be switched: name its set or file by --policies, or correct the name; there are: {}",
                names.join(", ")
            );
        }
    }
    loaded.set = loaded.set.switched(&named);
    loaded.registered = loaded
        .registered
        .into_iter()
        .filter_map(|policy| match named.get(policy.name()) {
            None => Some(policy),
            Some(None) => None,
            Some(Some(action)) => Some(policy.with_action(*action)),
        })
        .collect();
    Ok(loaded)
}

/// Where nobody names a set, what judges objects is left out: it cannot be told what its refusals do.
pub(super) fn refuse_idle(switches: &[Switch], left_out: &[Registered]) -> Result<()> {
    let is_idle = |switch: &&Switch| left_out.iter().any(|policy| policy.name() == switch.policy);
    if let Some(Switch { policy, .. }) = switches.iter().find(is_idle) {
        let set = library::DEFAULT_SET;
        bail!(
            "policy {policy} judges objects that no set is in force for, so it cannot be switched: name its set too, by --policies {set}, or policySets of the chart"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::no_action("approved-images")]
    #[case::another_word("approved-images=deny")]
    #[case::nothing("approved-images=")]
    #[case::no_name("=Warn")]
    #[case::no_name_of_a_policy("Approved Images=Warn")]
    fn what_is_no_switch_is_refused(#[case] text: &str) {
        let error = parse(text).expect_err(text);
        assert!(error.contains("write it like approved-images=Warn"), "{error}");
    }
}
