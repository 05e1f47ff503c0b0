//! Which kinds a template looks at in `data.inventory`, and which of their fields.
//!
//! Must never: leave a kind out that a template may look at. What is not there is nothing to it, and nothing is no violation.

use std::collections::BTreeSet;

use serde_json::Value;

use super::source::{Look, Scan};
use crate::api::{InventoryKind, builtin_groups, builtin_version};
use crate::policy::is_secret;

/// Most kinds, and fields of a kind, of one policy.
const MAX_KINDS: usize = 8;
const MAX_FIELDS: usize = 16;

/// Fields of objects that a template may name. What it does not name it does not see here.
const FIELDS: [&str; 44] = [
    "addressType",
    "aggregationRule",
    "allowVolumeExpansion",
    "allowedTopologies",
    "automountServiceAccountToken",
    "binaryData",
    "data",
    "description",
    "endpoints",
    "globalDefault",
    "handler",
    "imagePullSecrets",
    "immutable",
    "involvedObject",
    "metadata.annotations",
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
    "metadata.finalizers",
    "metadata.generateName",
    "metadata.generation",
    "metadata.ownerReferences",
    "metadata.resourceVersion",
    "metadata.uid",
    "mountOptions",
    "overhead",
    "parameters",
    "ports",
    "preemptionPolicy",
    "provisioner",
    "reclaimPolicy",
    "roleRef",
    "rules",
    "scheduling",
    "secrets",
    "spec",
    "status",
    "subjects",
    "subsets",
    "template",
    "type",
    "value",
    "volumeBindingMode",
    "webhooks",
    "metadata.managedFields",
];

/// Group, version and kind.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Gvk {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

impl Gvk {
    /// Of an object with `group`, `version` and `kind`.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        Some(Self {
            group: text("group").unwrap_or_default().to_owned(),
            version: text("version")?.to_owned(),
            kind: text("kind")?.to_owned(),
        })
    }

    fn shown(&self) -> String {
        let separator = if self.group.is_empty() { "" } else { "/" };
        format!("{}{separator}{} {}", self.group, self.version, self.kind)
    }
}

/// The kinds, and what is to be known of them.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) kinds: Vec<InventoryKind>,
    pub(super) notes: Vec<String>,
}

/// The kinds that a template looks at. `synced` are those that Gatekeeper is told to sync, `asked` what the template's annotation asks
/// for, `defined` the fields of kinds that the cluster defines.
pub(super) fn inventory(
    scan: &Scan,
    synced: &BTreeSet<Gvk>,
    asked: Option<&str>,
    defined: impl Fn(&str, &str) -> Vec<String>,
) -> Result<Inventory, Vec<String>> {
    if scan.looks.is_empty() {
        return Ok(Inventory::default());
    }
    let wanted = asked.map(requirements).unwrap_or_default();
    let known = if synced.is_empty() { &wanted } else { synced };
    let (mut found, mut problems, mut notes) = (BTreeSet::new(), Vec::new(), Vec::new());
    for look in &scan.looks {
        let kinds = kinds_of(look, known);
        if kinds.is_empty() {
            let of = match (&look.group_version, &look.kind) {
                (_, Some(kind)) => {
                    format!("the group of kind {kind}, which it looks at in data.inventory, cannot be told")
                }
                (Some(version), None) => {
                    format!("which kinds of {version} it looks at in data.inventory cannot be told")
                }
                (None, None) => "which kinds it looks at in data.inventory cannot be told".to_owned(),
            };
            problems.push(format!(
                "{of}: add Gatekeeper's Config or SyncSet to the documents, or annotate the template with \
                 metadata.gatekeeper.sh/requires-sync-data"
            ));
        }
        found.extend(kinds);
    }
    for kind in &found {
        if is_secret(&kind.kind) {
            problems.push("it looks at Secrets in data.inventory, which are never read here".to_owned());
        } else if !synced.is_empty() && !synced.contains(kind) {
            notes.push(format!(
                "Gatekeeper is not told to sync {}, so there it sees none of them; here it does",
                kind.shown()
            ));
        }
    }
    if found.len() > MAX_KINDS {
        problems.push(format!(
            "it may look at {} kinds in data.inventory, and a policy has at most {MAX_KINDS}",
            found.len()
        ));
    }
    let kinds: Vec<_> = found
        .into_iter()
        .map(|Gvk { group, version, kind }| InventoryKind {
            fields: fields(scan, defined(&group, &kind)),
            group,
            version,
            kind,
        })
        .collect();
    if let Some(kind) = kinds.iter().find(|kind| kind.fields.len() > MAX_FIELDS) {
        problems.push(format!(
            "it may look at {} fields of {} in data.inventory, and a policy names at most {MAX_FIELDS}",
            kind.fields.len(),
            kind.kind
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let fields: BTreeSet<&str> = kinds.iter().flat_map(|kind| &kind.fields).map(String::as_str).collect();
    notes.push(format!(
        "of the objects in data.inventory it sees name, namespace, labels and {}: add what it looks at by a name that is not in it",
        fields.into_iter().collect::<Vec<_>>().join(", ")
    ));
    Ok(Inventory { kinds, notes })
}

fn kinds_of(look: &Look, known: &BTreeSet<Gvk>) -> BTreeSet<Gvk> {
    let gvk = |group: &str, version: &str, kind: &str| Gvk {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
    };
    let split = look
        .group_version
        .as_deref()
        .map(|version| version.split_once('/').unwrap_or(("", version)));
    match (split, look.kind.as_deref()) {
        (Some((group, version)), Some(kind)) => [gvk(group, version, kind)].into(),
        (Some((group, version)), None) => {
            let of = known.iter().filter(|one| one.group == group && one.version == version);
            of.cloned().collect()
        }
        (None, None) => known.clone(),
        (None, Some(kind)) => {
            let of: BTreeSet<_> = known.iter().filter(|one| one.kind == kind).cloned().collect();
            if !of.is_empty() {
                return of;
            }
            builtin_groups(kind)
                .filter_map(|group| Some(gvk(group, builtin_version(group, kind)?, kind)))
                .collect()
        }
    }
}

/// What the annotation `metadata.gatekeeper.sh/requires-sync-data` asks for: lists of alternatives. Of alternatives that Kubernetes
/// serves only these, since what is not served cannot be synced.
fn requirements(annotation: &str) -> BTreeSet<Gvk> {
    let text = annotation.trim();
    let text = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    let Ok(Value::Array(all)) = serde_json::from_str(text) else {
        return BTreeSet::new();
    };
    let mut found = BTreeSet::new();
    for alternatives in all.iter().filter_map(Value::as_array) {
        let mut served = BTreeSet::new();
        let mut others = BTreeSet::new();
        for entry in alternatives {
            let texts = |name: &str| -> Vec<&str> {
                let list = entry.get(name).and_then(Value::as_array);
                list.into_iter().flatten().filter_map(Value::as_str).collect()
            };
            let versions = texts("versions");
            for group in texts("groups") {
                for kind in texts("kinds") {
                    let gvk = |version: &str| Gvk {
                        group: group.to_owned(),
                        version: version.to_owned(),
                        kind: kind.to_owned(),
                    };
                    match builtin_version(group, kind) {
                        Some(version) if versions.contains(&version) => {
                            served.insert(gvk(version));
                        }
                        _ => others.extend(versions.last().map(|version| gvk(version))),
                    }
                }
            }
        }
        found.extend(if served.is_empty() { others } else { served });
    }
    found
}

/// The fields that the template names.
fn fields(scan: &Scan, defined: Vec<String>) -> Vec<String> {
    let known = FIELDS.iter().map(|field| (*field).to_owned()).chain(defined);
    let is_named = |field: &String| scan.says(field.rsplit('.').next().unwrap_or(field));
    let named: BTreeSet<String> = known.filter(is_named).collect();
    let mut named: Vec<String> = named.into_iter().collect();
    if named.is_empty() {
        named.push("spec".to_owned());
    }
    named
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn shown(source: &str, synced: &[(&str, &str, &str)], asked: Option<&str>) -> Result<Vec<String>, String> {
        let synced = synced
            .iter()
            .map(|(group, version, kind)| Gvk {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                kind: (*kind).to_owned(),
            })
            .collect();
        let found = inventory(&Scan::of(source), &synced, asked, |_, _| Vec::new()).map_err(|all| all.join("; "))?;
        Ok(found
            .kinds
            .iter()
            .map(|kind| {
                format!(
                    "{}/{} {}: {}",
                    kind.group,
                    kind.version,
                    kind.kind,
                    kind.fields.join(",")
                )
            })
            .collect())
    }

    const INGRESS: &str = r#""[[
        {"groups": ["extensions"], "versions": ["v1beta1"], "kinds": ["Ingress"]},
        {"groups": ["networking.k8s.io"], "versions": ["v1beta1", "v1"], "kinds": ["Ingress"]}
    ]]""#;

    #[rstest]
    #[case::constant("x := data.inventory.cluster[\"v1\"].Namespace[_].spec", &[], None, &["/v1 Namespace: spec"])]
    #[case::by_kind("x := data.inventory.namespace[_][_].Service[n].spec", &[], None, &["/v1 Service: spec"])]
    #[case::by_annotation("x := data.inventory.namespace[_][v][\"Ingress\"][n].spec.rules", &[], Some(INGRESS), &["networking.k8s.io/v1 Ingress: rules,spec"])]
    #[case::by_synced(
        "x := data.inventory.namespace[_][v].Ingress[n].spec",
        &[("example.com", "v2", "Ingress")],
        Some(INGRESS),
        &["example.com/v2 Ingress: spec"]
    )]
    #[case::all_synced(
        "x := data.inventory.namespace[ns][v][k][n].metadata.annotations",
        &[("apps", "v1", "Deployment"), ("", "v1", "Pod")],
        None,
        &["/v1 Pod: metadata.annotations", "apps/v1 Deployment: metadata.annotations"]
    )]
    #[case::of_a_version("x := data.inventory.cluster[\"apps/v1\"][k]", &[("apps", "v1", "Deployment"), ("", "v1", "Pod")], None, &["apps/v1 Deployment: spec"])]
    #[case::nothing("x := input.review.object", &[], None, &[])]
    fn kinds_are_told(
        #[case] source: &str,
        #[case] synced: &[(&str, &str, &str)],
        #[case] asked: Option<&str>,
        #[case] expected: &[&str],
    ) {
        assert_eq!(
            shown(source, synced, asked),
            Ok(expected.iter().map(|one| (*one).to_owned()).collect())
        );
    }

    #[rstest]
    #[case("x := data.inventory", "which kinds it looks at")]
    #[case(
        "x := data.inventory.cluster[\"example.com/v1\"][k]",
        "which kinds of example.com/v1"
    )]
    #[case("x := data.inventory.cluster[v].Tenant[n]", "the group of kind Tenant")]
    #[case("x := data.inventory.namespace[n][\"v1\"].Secret", "Secrets")]
    fn what_cannot_be_told_is_a_problem(#[case] source: &str, #[case] words: &str) {
        let why = shown(source, &[], None).expect_err("a problem");
        assert!(why.contains(words), "{why}");
    }

    #[test]
    fn what_gatekeeper_does_not_sync_is_said() {
        let synced = [Gvk {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Pod".to_owned(),
        }];
        let scan = Scan::of("x := data.inventory.cluster[\"v1\"].Namespace[_]");
        let found = inventory(&scan, &synced.into(), None, |_, _| Vec::new()).expect("kinds");
        assert!(
            found
                .notes
                .iter()
                .any(|note| note.contains("not told to sync v1 Namespace"))
        );
    }

    #[test]
    fn fields_of_a_kind_that_the_cluster_defines_are_known() {
        let scan = Scan::of("x := data.inventory.cluster[\"example.com/v1\"].Tenant[_].quota");
        let found = inventory(&scan, &BTreeSet::new(), None, |_, _| {
            vec!["quota".to_owned(), "other".to_owned()]
        });
        assert_eq!(found.expect("kinds").kinds[0].fields, ["quota"]);
    }
}
