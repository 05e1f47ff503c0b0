//! What the API server was asked for, as it counts that itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// What Ringfence writes, as its ClusterRole has it, but for its own kinds: of these it writes the status.
const WRITTEN: [&str; 7] = [
    "events",
    "networkpolicies",
    "rolebindings",
    "roles",
    "secrets",
    "serviceaccounts",
    "validatingwebhookconfigurations",
];

/// A line of `/metrics`.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a>(&'a str);

impl<'a> Series<'a> {
    /// A label of it.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let (_, rest) = self.0.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0)
    }

    /// Its value.
    pub fn value(&self) -> Result<f64> {
        let (_, value) = self.0.rsplit_once(' ').context("a series without a value")?;
        value.parse().with_context(|| self.0.to_owned())
    }
}

/// The series of a name.
pub fn series<'a>(metrics: &'a str, name: &str) -> impl Iterator<Item = Series<'a>> {
    let begins = format!("{name}{{");
    metrics
        .lines()
        .filter(move |line| line.starts_with(&begins))
        .map(Series)
}

/// Writes of what Ringfence writes, by anybody, by verb, resource and subresource. The Lease is none of it, and what was only asked for changed
/// nothing.
pub fn writes(metrics: &str) -> Result<BTreeMap<String, f64>> {
    counted(metrics, |dry_run| dry_run.is_empty())
}

/// The same of writes that were only asked for, and not carried out.
pub fn dry_runs(metrics: &str) -> Result<BTreeMap<String, f64>> {
    counted(metrics, |dry_run| !dry_run.is_empty())
}

fn counted(metrics: &str, is_wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, f64>> {
    let mut found = BTreeMap::new();
    for one in series(metrics, "apiserver_request_total") {
        let [verb, group, resource, subresource] =
            ["verb", "group", "resource", ",subresource"].map(|name| one.label(name).unwrap_or_default());
        let is_write = !matches!(verb, "GET" | "LIST" | "WATCH" | "CONNECT");
        let is_ringfences = match group {
            "ringfence.dev" => subresource == "status" || verb == "POST",
            _ => WRITTEN.contains(&resource) && subresource.is_empty(),
        };
        if is_write && is_ringfences && is_wanted(one.label("dry_run").unwrap_or_default()) {
            *found.entry(format!("{verb} {resource}/{subresource}")).or_default() += one.value()?;
        }
    }
    Ok(found)
}
