//! What a class says of the shape of pods: volumes, annotations, tokens, and the Pod Security Standard of the namespace.
//!
//! One reading of these fields, for `accept`, for the class's status and for `fence`. Must never: let an entry that cannot be
//! read allow anything, or take what is absent for all.

use std::collections::{BTreeMap, BTreeSet};

use super::Problem;
use crate::api::{AIWorkflow, AIWorkflowClass, AIWorkflowClassSpec, Audience, GROUP, PodSecurity, is_dns_subdomain};

/// Seconds that a token lives where nothing says otherwise: the API server's own default.
pub const DEFAULT_TOKEN_SECONDS: i64 = 3600;
/// Shortest and longest life that can be declared, in seconds: the API server grants no shorter one, and nobody needs a day.
const TOKEN_SECONDS: std::ops::RangeInclusive<i64> = 600..=86400;

/// What the API server itself asks for the token that it mounts unasked; it tells the token by just this number.
const AUTOMOUNT_SECONDS: i64 = 3607;

/// Label by which the API server enforces a Pod Security Standard, and the one that pins its version.
pub const POD_SECURITY_LABEL: &str = "pod-security.kubernetes.io/enforce";
const POD_SECURITY_VERSION_LABEL: &str = "pod-security.kubernetes.io/enforce-version";
/// The first version of the standards that knows all of today's controls for what a pod can be.
const LEAST_POD_SECURITY_MINOR: u32 = 25;

/// Volumes of the class `default`.
pub const DEFAULT_VOLUMES: [&str; 6] = [
    "configMap",
    "secret",
    "emptyDir",
    "projected",
    "downwardAPI",
    "persistentVolumeClaim",
];

/// Annotations of the class `default`: kubectl's and the Job controller's, and what the API server itself writes: LimitRanger,
/// and, where it is older, the AppArmor profile of each container, which the standards judge.
pub const DEFAULT_ANNOTATIONS: [&str; 4] = [
    "kubectl.kubernetes.io/",
    "batch.kubernetes.io/",
    "kubernetes.io/limit-ranger",
    "container.apparmor.security.beta.kubernetes.io/",
];

/// Types of volumes of Kubernetes 1.36, as the fields of a pod's volume.
const VOLUME_TYPES: [&str; 30] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];

/// Whether this version of Ringfence knows a type of volume.
pub fn is_volume_type(name: &str) -> bool {
    VOLUME_TYPES.contains(&name)
}

/// Types of volumes that a class allows.
pub fn volume_types(class: &AIWorkflowClass) -> Vec<&str> {
    let types = class.spec.volumes.iter().flat_map(|volumes| &volumes.types);
    types.map(String::as_str).filter(|name| is_volume_type(name)).collect()
}

/// Whether an entry of `podAnnotations` is one: a key, or the prefix of keys with its `/`.
fn is_annotation_entry(entry: &str) -> bool {
    let is_name = |name: &str| {
        let (first, last) = (name.bytes().next(), name.bytes().last());
        let word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        name.len() <= 63 && word(first) && word(last) && name.bytes().all(inner)
    };
    match entry.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && prefix != GROUP && (name.is_empty() || is_name(name)),
        None => is_name(entry),
    }
}

/// Whether one of these entries allows an annotation.
pub fn allows_annotation(entries: &[String], key: &str) -> bool {
    entries.iter().filter(|entry| is_annotation_entry(entry)).any(|entry| {
        if entry.ends_with('/') {
            key.starts_with(entry.as_str())
        } else {
            key == entry
        }
    })
}

/// Longest life of a token that a class lets pods mount, in seconds; 0 where it says what cannot be.
pub fn max_token_seconds(class: &AIWorkflowClass) -> i64 {
    let declared = class
        .spec
        .identity
        .as_ref()
        .and_then(|identity| identity.max_token_seconds);
    let seconds = declared.unwrap_or(DEFAULT_TOKEN_SECONDS);
    if TOKEN_SECONDS.contains(&seconds) { seconds } else { 0 }
}

/// Whether a token for the API server may live that long. The one that it mounts unasked lives an hour and some grace.
pub fn fits_api_server(seconds: i64, most: i64) -> bool {
    let counted = if seconds == AUTOMOUNT_SECONDS {
        DEFAULT_TOKEN_SECONDS
    } else {
        seconds
    };
    counted <= most
}

/// Whether a class lets workflows declare an audience.
pub fn allows_audience(class: &AIWorkflowClass, audience: &str) -> bool {
    class_audiences(class).contains(audience)
}

/// Audiences that a class allows.
pub fn class_audiences(class: &AIWorkflowClass) -> BTreeSet<&str> {
    let audiences = class.spec.identity.iter().flat_map(|identity| &identity.audiences);
    audiences
        .map(String::as_str)
        .filter(|audience| is_audience(audience))
        .collect()
}

/// The declaration of an audience.
pub fn declared_audience<'a>(workflow: &'a AIWorkflow, audience: &str) -> Option<&'a Audience> {
    let mut declared = workflow.spec.identity.iter().flat_map(|identity| &identity.audiences);
    declared.find(|declared| declared.audience == audience && is_audience(audience))
}

/// Longest life that a declaration allows, in seconds.
pub fn declared_seconds(audience: &Audience) -> i64 {
    let seconds = audience.max_expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS);
    if TOKEN_SECONDS.contains(&seconds) { seconds } else { 0 }
}

/// An audience is compared word for word: a `*` would look like more than it does.
fn is_audience(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && !text.chars().any(|c| c == '*' || c.is_whitespace() || c.is_control())
}

/// The standard that a class wants enforced; the strict one where there is no class to ask.
pub fn pod_security(class: Option<&AIWorkflowClass>) -> PodSecurity {
    class.and_then(|class| class.spec.pod_security).unwrap_or_default()
}

/// What is wrong with a namespace whose API server should itself hold pods to the class's standard. Without that, a pod that
/// the fence cannot see (while it is away, or exempted) would be held to nothing.
pub fn pod_security_problem(
    namespace: &str,
    labels: &BTreeMap<String, String>,
    class_name: &str,
    class: Option<&AIWorkflowClass>,
) -> Option<Problem> {
    let wanted = pod_security(class);
    let level = labels.get(POD_SECURITY_LABEL).map(String::as_str);
    let word = match wanted {
        PodSecurity::Baseline => "baseline",
        PodSecurity::Restricted => "restricted",
    };
    let holds = match level {
        Some("restricted") => true,
        Some("baseline") => wanted == PodSecurity::Baseline,
        _ => false,
    };
    if !holds {
        let message = format!(
            "does not make the API server itself hold pods to the standard {word}, as AIWorkflowClass {class_name} (spec.podSecurity) wants it"
        );
        let fix = format!("kubectl label --overwrite namespace {namespace} {POD_SECURITY_LABEL}={word}");
        return Some(Problem::new(label_path(POD_SECURITY_LABEL), level, message, fix));
    }
    let version = labels.get(POD_SECURITY_VERSION_LABEL)?;
    if is_recent(version) {
        return None;
    }
    let message =
        format!("pins the standard to a version before v1.{LEAST_POD_SECURITY_MINOR}, or to none that there is");
    let fix = format!("kubectl label namespace {namespace} {POD_SECURITY_VERSION_LABEL}-");
    let path = label_path(POD_SECURITY_VERSION_LABEL);
    Some(Problem::new(path, Some(version), message, fix))
}

fn label_path(label: &str) -> String {
    format!("metadata.labels[{label}]")
}

fn is_recent(version: &str) -> bool {
    let minor = version
        .strip_prefix("v1.")
        .filter(|minor| minor.bytes().all(|byte| byte.is_ascii_digit()));
    let recent = minor
        .and_then(|minor| minor.parse::<u32>().ok())
        .is_some_and(|minor| minor >= LEAST_POD_SECURITY_MINOR);
    version == "latest" || recent
}

/// What is wrong with these fields of a class by themselves.
pub(super) fn class_problems(spec: &AIWorkflowClassSpec, problems: &mut Vec<Problem>) {
    let volumes = spec.volumes.clone().unwrap_or_default();
    for (index, name) in volumes
        .types
        .iter()
        .enumerate()
        .filter(|(_, name)| !is_volume_type(name))
    {
        let fix = "use the field that a pod's volume of that type has, such as configMap, persistentVolumeClaim or csi";
        let path = format!("spec.volumes.types[{index}]");
        problems.push(Problem::new(
            path,
            Some(name),
            "is no type of volume that this Ringfence knows",
            fix,
        ));
    }
    let drivers = volumes.csi_drivers.iter().enumerate();
    for (index, name) in drivers.filter(|(_, name)| name.len() > 63 || !is_dns_subdomain(name)) {
        let path = format!("spec.volumes.csiDrivers[{index}]");
        let fix = "use its name, as kubectl get csidrivers shows it";
        problems.push(Problem::new(path, Some(name), "is no name of a CSI driver", fix));
    }
    let of_class = [("spec".to_owned(), &spec.pod_annotations)];
    let engines = spec.engines.iter().enumerate();
    let of_engines = engines.map(|(number, engine)| (format!("spec.engines[{number}]"), &engine.pod_annotations));
    for (holder, entries) in of_class.into_iter().chain(of_engines) {
        let entries = entries.iter().enumerate();
        for (index, entry) in entries.filter(|(_, entry)| !is_annotation_entry(entry)) {
            let path = format!("{holder}.podAnnotations[{index}]");
            let fix = "write a whole key (example.com/name), or the prefix of keys with its slash (example.com/); ringfence.dev/ is Ringfence's own";
            problems.push(Problem::new(path, Some(entry), "allows no annotation", fix));
        }
    }
    let nodes = spec.nodes.clone().unwrap_or_default();
    let runtimes = nodes.runtime_classes.iter().enumerate();
    for (index, name) in runtimes.filter(|(_, name)| !is_dns_subdomain(name)) {
        let path = format!("spec.nodes.runtimeClasses[{index}]");
        let fix = "use its name, as kubectl get runtimeclasses shows it";
        problems.push(Problem::new(path, Some(name), "is no name of a RuntimeClass", fix));
    }
    let taints = nodes.taints.iter().enumerate();
    for (index, key) in taints.filter(|(_, key)| key.ends_with('/') || !is_annotation_entry(key)) {
        let path = format!("spec.nodes.taints[{index}]");
        let fix = "write the whole key of the taint, such as nvidia.com/gpu";
        problems.push(Problem::new(path, Some(key), "is no key of a taint", fix));
    }
    let identity = spec.identity.clone().unwrap_or_default();
    let audiences = identity.audiences.iter().enumerate();
    for (index, audience) in audiences.filter(|(_, audience)| !is_audience(audience)) {
        let path = format!("spec.identity.audiences[{index}]");
        problems.push(Problem::new(
            path,
            Some(audience),
            "is no audience",
            "name each audience in full, without '*' or blanks",
        ));
    }
    if let Some(seconds) = identity
        .max_token_seconds
        .filter(|seconds| !TOKEN_SECONDS.contains(seconds))
    {
        problems.push(seconds_problem("spec.identity.maxTokenSeconds", seconds));
    }
}

fn seconds_problem(path: &str, seconds: i64) -> Problem {
    let fix = format!("use {} to {} seconds", TOKEN_SECONDS.start(), TOKEN_SECONDS.end());
    Problem::new(
        path,
        Some(&seconds.to_string()),
        "is no life that a token can have",
        fix,
    )
}

pub(super) fn invalid_audiences(audiences: &[Audience], problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (
        index,
        Audience {
            audience,
            max_expiration_seconds,
        },
    ) in audiences.iter().enumerate()
    {
        let path = format!("spec.identity.audiences[{index}]");
        if !is_audience(audience) {
            let fix =
                "name it as the one who takes the token calls itself; tokens for the API server need no declaration";
            problems.push(Problem::new(
                format!("{path}.audience"),
                Some(audience),
                "is no audience",
                fix,
            ));
        }
        if !seen.insert(audience) {
            problems.push(Problem::new(
                format!("{path}.audience"),
                Some(audience),
                "is declared twice",
                "declare it once",
            ));
        }
        if let Some(seconds) = max_expiration_seconds.filter(|seconds| !TOKEN_SECONDS.contains(seconds)) {
            problems.push(seconds_problem(&format!("{path}.maxExpirationSeconds"), seconds));
        }
    }
}

pub(super) fn audiences_outside_class(
    workflow: &AIWorkflow,
    class_name: &str,
    class: &AIWorkflowClass,
    problems: &mut Vec<Problem>,
) {
    let most = max_token_seconds(class);
    let declared = workflow.spec.identity.iter().flat_map(|identity| &identity.audiences);
    for (
        index,
        Audience {
            audience,
            max_expiration_seconds,
        },
    ) in declared.enumerate()
    {
        let path = format!("spec.identity.audiences[{index}]");
        if !allows_audience(class, audience) {
            let allowed: Vec<_> = class_audiences(class).into_iter().collect();
            let message = format!(
                "is an audience that AIWorkflowClass {class_name} does not allow (it allows {})",
                listed(&allowed)
            );
            let fix = format!(
                "leave it out, or ask the platform team to add it to spec.identity.audiences of AIWorkflowClass {class_name}"
            );
            problems.push(Problem::new(format!("{path}.audience"), Some(audience), message, fix));
        }
        if let Some(seconds) = max_expiration_seconds.filter(|seconds| *seconds > most) {
            let message = format!("is longer than the {most} seconds that AIWorkflowClass {class_name} allows");
            let fix = format!("use at most {most}");
            let path = format!("{path}.maxExpirationSeconds");
            problems.push(Problem::new(path, Some(&seconds.to_string()), message, fix));
        }
    }
}

/// What is allowed, in a sentence: some of it, where it is much.
pub fn listed<T: AsRef<str>>(allowed: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = allowed.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match allowed.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{} and {} more", shown.join(", "), count - SHOWN),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests;
