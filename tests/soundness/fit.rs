//! Whether a pod fits a declaration, and a declaration its class: read from the words of the design, naively.

use serde_json::Value;

use crate::images::matches;

/// What of a pod, or a pod template, does not fit.
pub fn misfits(pod: &Value, name: &str, spec: &Value, class: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if pod["metadata"]["labels"]["ringfence.dev/workflow"] != name {
        found.push(format!("its label does not name {name}"));
    }
    let account = spec["identity"]["serviceAccountName"].as_str().unwrap_or(name);
    if pod["spec"]["serviceAccountName"] != account {
        found.push(format!(
            "it runs as {} and not as {account}",
            pod["spec"]["serviceAccountName"]
        ));
    }
    for image in images(pod) {
        let patterns = [&spec["images"], &class["images"]["allowed"]];
        if !patterns.iter().all(|patterns| matches(image, &texts(patterns))) {
            found.push(format!("image {image} is not allowed"));
        }
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod["spec"][field] == true {
            found.push(format!("it has {field}"));
        }
    }
    let ports = containers(pod).flat_map(|container| list(&container["ports"]));
    if ports.filter_map(|port| port["hostPort"].as_u64()).any(|port| port > 0) {
        found.push("it has a port of its node".to_owned());
    }
    volumes(pod, spec, class, &mut found);
    secrets(pod, spec, &mut found);
    for key in keys(&pod["metadata"]["annotations"]) {
        if !texts(&class["podAnnotations"])
            .iter()
            .any(|prefix| key.starts_with(prefix))
        {
            found.push(format!("annotation {key} is not allowed"));
        }
    }
    found
}

/// Whether a declaration asks for no more rights and peers than its class has.
pub fn is_inside(spec: &Value, class: &Value, own: &str) -> bool {
    let held = rights(&class["permissions"]);
    // A class names no objects: what it opens, it opens by whatever name.
    let allowed = |right: &Right| {
        held.iter()
            .any(|(group, resource, _, verb)| (group, resource, verb) == (&right.0, &right.1, &right.3))
    };
    let network = &class["network"];
    let rules = list(&spec["network"]["egress"]).iter().map(|rule| &rule["to"]);
    let mut peers = rules.chain(list(&spec["network"]["ingress"]).iter().map(|rule| &rule["from"]));
    rights(&spec["permissions"]["rules"]).iter().all(allowed)
        && peers.all(|peer| {
            let ranges = texts(&peer["cidrs"]);
            let place = [&peer["pods"]["namespace"], &peer["workflow"]["namespace"]];
            let mut named = place.into_iter().filter_map(Value::as_str);
            // Word for word: no declaration names less than its class.
            let is_open = |field: &str, named: &str| texts(&network[field]).contains(&named);
            ranges.iter().all(|range| is_open("cidrs", range))
                && texts(&peer["domains"]).iter().all(|domain| is_open("domains", domain))
                && named.all(|namespace| namespace == own || texts(&network["namespaces"]).contains(&namespace))
        })
}

/// Group, resource, name or nothing, verb.
pub type Right = (String, String, String, String);

/// RBAC rules, taken apart.
pub fn rights(rules: &Value) -> Vec<Right> {
    let mut found = Vec::new();
    for rule in list(rules) {
        let mut names = texts(&rule["resourceNames"]);
        if names.is_empty() {
            names.push("");
        }
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    let right = |name: &&str| {
                        (
                            group.to_owned(),
                            resource.to_owned(),
                            (*name).to_owned(),
                            verb.to_owned(),
                        )
                    };
                    found.extend(names.iter().map(right));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(|name| list(&pod["spec"][name]))
}

fn images(pod: &Value) -> impl Iterator<Item = &str> {
    let of_volumes = list(&pod["spec"]["volumes"])
        .iter()
        .map(|volume| &volume["image"]["reference"]);
    let of_containers = containers(pod).map(|container| &container["image"]);
    of_containers.chain(of_volumes).filter_map(Value::as_str)
}

fn volumes(pod: &Value, spec: &Value, class: &Value, found: &mut Vec<String>) {
    for volume in list(&pod["spec"]["volumes"]) {
        let types = keys(volume).filter(|key| *key != "name");
        let allowed = texts(&class["volumes"]["types"]);
        for type_ in types.filter(|type_| !allowed.contains(type_)) {
            found.push(format!("a volume is a {type_}"));
        }
        for source in list(&volume["projected"]["sources"]) {
            if source.get("podCertificate").is_some() {
                found.push("it mounts a certificate".to_owned());
            }
            let audience = source["serviceAccountToken"]["audience"].as_str().unwrap_or_default();
            let mut declared = list(&spec["identity"]["audiences"]).iter();
            if !audience.is_empty() && !declared.any(|declared| declared["audience"] == audience) {
                found.push(format!("it mounts a token for {audience}"));
            }
        }
    }
}

/// Every Secret that is referred to where Kubernetes' own types have one.
fn secrets(pod: &Value, spec: &Value, found: &mut Vec<String>) {
    let declared = |name: &Value, key: Option<&Value>| {
        list(&spec["secrets"]).iter().any(|entry| {
            let keys = list(&entry["secretRef"]["keys"]);
            entry["secretRef"]["name"] == *name && (keys.is_empty() || key.is_some_and(|key| keys.contains(key)))
        })
    };
    let mut refer = |name: &Value, key: Option<&Value>| {
        if !name.is_null() && !declared(name, key) {
            found.push(format!("Secret {name} is not declared"));
        }
    };
    for container in containers(pod) {
        for entry in list(&container["env"]) {
            let reference = &entry["valueFrom"]["secretKeyRef"];
            refer(&reference["name"], reference.get("key"));
        }
        for entry in list(&container["envFrom"]) {
            refer(&entry["secretRef"]["name"], None);
        }
    }
    for volume in list(&pod["spec"]["volumes"]) {
        let projected = list(&volume["projected"]["sources"])
            .iter()
            .map(|source| (&source["secret"], "name"));
        for (source, name) in projected.chain([(&volume["secret"], "secretName")]) {
            let items = list(&source["items"]);
            if items.is_empty() {
                refer(&source[name], None);
            }
            for item in items {
                refer(&source[name], item.get("key"));
            }
        }
    }
    for pull in list(&pod["spec"]["imagePullSecrets"]) {
        if !list(&spec["identity"]["imagePullSecrets"]).contains(pull) {
            found.push(format!("it pulls with {}, which is not declared", pull["name"]));
        }
    }
}

/// The items of a list; nothing of what is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The texts of a list.
pub fn texts(value: &Value) -> Vec<&str> {
    list(value).iter().filter_map(Value::as_str).collect()
}

/// The keys of a map.
pub fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
}
