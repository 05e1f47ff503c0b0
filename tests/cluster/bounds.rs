//! Every field of our kinds at its bounds and one beyond, an AIWorkflow's with a tenant's credentials. The fields and their bounds
//! are read from the definitions, so a new field is tested as soon as it is there.

use futures::StreamExt;
use serde_json::{Map, Value, json};

use crate::world::{Actor, CLASSES, POLICIES, TENANT, World, all, unasked};

/// Requests at the same time.
const TOGETHER: usize = 8;

/// A class in which every field is set.
fn class() -> Value {
    let rule = json!({"apiGroups": [""], "resources": ["services"], "resourceNames": ["x"], "verbs": ["get"]});
    let selector = json!({
        "matchLabels": {"app": "x"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}],
    });
    let images = json!(["registry.example.com/**"]);
    json!({
        "engines": [{"name": "custom", "worker": [rule], "launcher": [rule], "images": images, "podAnnotations": ["example.com/x"]}],
        "images": {"allowed": images, "injected": images, "requireDigest": true},
        "permissions": [rule],
        "crossNamespacePermissions": [rule],
        "network": {"cidrs": ["203.0.113.0/24"], "namespaces": ["x"], "domains": ["example.com"]},
        "identity": {"annotations": ["example.com/x"], "audiences": ["x"], "maxTokenSeconds": 600},
        "podSecurity": "Baseline",
        "volumes": {"types": ["emptyDir", "csi"], "csiDrivers": ["x.example.com"]},
        "nodes": {"runtimeClasses": ["x"], "taints": ["example.com/x"]},
        "podAnnotations": ["example.com/"],
        "launchers": [{"user": "lea"}, {"group": "people"}, {"serviceAccount": {"namespace": "x", "name": "x"}}],
        "debug": {"maxHours": 8},
        "exceptions": {"namespaces": ["x"], "maxDays": 30},
        "egress": {"backend": "Proxy", "clusterNetworkPolicy": {"priority": 7}},
        "cluster": {
            "dns": {"namespace": "kube-system", "selector": selector, "cidrs": ["169.254.20.10/32"]},
            "apiServer": {"cidrs": ["192.0.2.1/32"], "ports": [6443]},
            "clusterCIDRs": ["10.0.0.0/8"],
        },
    })
}

fn grant() -> Value {
    let rule = json!({"apiGroups": [""], "resources": ["services"], "resourceNames": ["x"], "verbs": ["get"]});
    json!({"from": [{"namespace": "x", "name": "x"}], "rules": [rule]})
}

/// One of `names` and `objectSelector`, which do not go together.
fn exception(of: &str, objects: &Value) -> Value {
    json!({"policies": ["no-literal-secrets"], "reason": "x", "expiresAt": "2030-12-01T12:00:00Z", of: objects})
}

/// A policy in which every field is set: a sample is of an input or of an object.
fn policy() -> Value {
    let selector = json!({
        "matchLabels": {"app": "x"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}],
    });
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "Namespaced",
        "resourceNames": ["x"],
    });
    json!({
        "description": "x",
        "remediation": "x",
        "validationActions": ["Audit"],
        "failurePolicy": "Ignore",
        "matchConstraints": {
            "resourceRules": [rule],
            "excludeResourceRules": [rule],
            "namespaceSelector": selector,
            "objectSelector": selector,
            "matchPolicy": "Exact",
        },
        "templates": "Expand",
        "parameters": {"any": ["thing"]},
        "parametersSchema": {"type": "object"},
        "inventory": [{"group": "networking.k8s.io", "version": "v1", "kind": "Ingress", "fields": ["spec.rules"]}],
        "samples": [
            {"name": "of an input", "expect": "Allow", "input": {"request": {}}},
            {"name": "of an object", "expect": "Allow", "object": {"kind": "Pod"}, "inventory": {}},
        ],
        "rego": {"version": "V1", "modules": [{"name": "policy.rego", "source": "package x"}]},
    })
}

/// A declaration in which every field is set somewhere: of a union each member in an element of its own.
fn everything() -> Value {
    let selector = json!({
        "matchLabels": {"app": "x"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}],
    });
    let ports = json!([{"port": 1, "endPort": 65535, "protocol": "TCP"}]);
    let data = json!({"system": "x", "classification": "Internal", "personal": true, "purpose": "x"});
    let rule = json!({"apiGroups": [""], "resources": ["services"], "resourceNames": ["x"], "verbs": ["get"]});
    let cidrs = json!({"cidrs": ["203.0.113.0/24"], "except": ["203.0.113.0/25"]});
    let peers = [
        json!({"pods": {"namespace": "x", "selector": selector}}),
        json!({"workflow": {"namespace": "x", "name": "x"}}),
        cidrs,
    ];
    let rules = |direction: &str| {
        let peers = peers.iter().enumerate();
        let rules = peers.map(
            |(index, peer)| json!({"name": format!("rule-{index}"), direction: peer, "ports": ports, "data": data}),
        );
        rules.collect::<Vec<_>>()
    };
    let mut egress = rules("to");
    egress.push(json!({"name": "api-server", "to": {"apiServer": {}}}));
    egress.push(json!({"name": "domains", "to": {"domains": ["example.com"]}, "ports": ports, "data": data}));
    json!({
        "engine": "custom",
        "owner": {"team": "x", "contact": "x"},
        "launchers": [{"user": "lea"}, {"group": "people"}, {"serviceAccount": {"namespace": "x", "name": "x"}}],
        "identity": {
            "serviceAccountName": "x",
            "annotations": {"example.com/x": "x"},
            "audiences": [{"audience": "x", "maxExpirationSeconds": 600}],
            "imagePullSecrets": [{"name": "x"}],
        },
        "images": ["registry.example.com/finance/**"],
        "permissions": {"rules": [rule], "crossNamespace": [{"namespace": "x", "rules": [rule]}]},
        "secrets": [{"name": "x", "secretRef": {"name": "x", "keys": ["x"]}, "data": data}],
        "network": {"ingress": rules("from"), "egress": egress},
        "debug": {"allow": ["Exec"], "until": "2030-12-01T12:00:00Z"},
    })
}

/// A value of a field, and whether the definition takes it.
struct Case {
    /// Field, as the API server writes it: `spec.network.egress[0].name`.
    field: String,
    what: String,
    spec: Value,
    taken: bool,
}

struct Cases {
    whole: Value,
    /// Fields that another whole has.
    elsewhere: &'static [&'static str],
    found: Vec<Case>,
}

/// `/network/egress/0/name` as the API server writes it.
fn field(pointer: &str) -> String {
    let parts = pointer
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"));
    parts.fold("spec".to_owned(), |path, part| match part.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) => format!("{path}.{part}"),
    })
}

impl Cases {
    fn put(&mut self, at: &str, what: impl Into<String>, value: Value, taken: bool) {
        let mut spec = self.whole.clone();
        *spec.pointer_mut(at).unwrap() = value;
        self.found.push(Case {
            field: field(at),
            what: what.into(),
            spec,
            taken,
        });
    }

    /// Every case of what `schema` says, which stands at each of `places`.
    fn walk(&mut self, schema: &Value, places: &[String]) {
        let at = places[0].clone();
        let here = self.whole.pointer(&at).unwrap().clone();
        let number = |bound: &str| schema[bound].as_f64().map(|bound| bound as i64);
        let count = |bound: &str| schema[bound].as_u64().and_then(|bound| usize::try_from(bound).ok());
        let wrong = if here.is_string() { json!(7) } else { json!("x") };
        self.put(&at, "of another type", wrong, false);
        match &here {
            Value::String(_) if schema["enum"].is_array() => {
                for value in schema["enum"].as_array().unwrap() {
                    self.put(&at, format!("{value}"), value.clone(), true);
                }
                self.put(&at, "none of the list", json!("Nonsense"), false);
            }
            Value::String(_) => {
                if let Some(longest) = count("maxLength").filter(|_| schema["format"].is_null()) {
                    self.put(&at, format!("{longest} characters"), json!("a".repeat(longest)), true);
                    self.put(
                        &at,
                        format!("{longest} and one characters"),
                        json!("a".repeat(longest + 1)),
                        false,
                    );
                }
                if count("minLength").is_some() {
                    self.put(&at, "empty", json!(""), false);
                }
                match schema["pattern"].as_str() {
                    // Text, of which only something must be there.
                    Some(r"\S") => {
                        self.put(&at, "blank", json!("   "), false);
                        self.put(&at, "in another script", json!("prüfung"), true);
                    }
                    Some(_) => self.put(&at, "in another script", json!("prüfung"), false),
                    None => {}
                }
            }
            Value::Number(_) => {
                for (bound, beyond) in [(number("minimum"), -1), (number("maximum"), 1)] {
                    let bound = bound.unwrap_or_else(|| panic!("{} has no bound", field(&at)));
                    self.put(&at, format!("{bound}"), json!(bound), true);
                    self.put(&at, format!("{}", bound + beyond), json!(bound + beyond), false);
                }
            }
            Value::Array(items) => {
                let most = count("maxItems").unwrap_or_else(|| panic!("{} has no bound", field(&at)));
                // What stands for all the others goes with none of them.
                let choices = schema["items"]["enum"].as_array().map(|choices| {
                    let plain = choices.iter().filter(|choice| *choice != "*");
                    plain.cloned().collect::<Vec<_>>()
                });
                let item = |index: usize| match (&schema["x-kubernetes-list-map-keys"], &choices) {
                    (Value::Array(keys), _) => {
                        let mut item = items[0].clone();
                        for key in keys {
                            item[key.as_str().unwrap()] = json!(format!("{index}-x"));
                        }
                        item
                    }
                    (_, Some(choices)) => choices[index % choices.len()].clone(),
                    _ if schema["x-kubernetes-list-type"] == "set" => json!(format!("x-{index}")),
                    _ => items[index % items.len()].clone(),
                };
                self.put(&at, format!("{most} elements"), (0..most).map(item).collect(), true);
                self.put(
                    &at,
                    format!("{most} and one elements"),
                    (0..=most).map(item).collect(),
                    false,
                );
                if count("minItems").is_some() {
                    self.put(&at, "no element", json!([]), false);
                }
                let inside = self.under(places, |place, value| {
                    (0..value.as_array().map_or(0, Vec::len))
                        .map(|index| format!("{place}/{index}"))
                        .collect()
                });
                self.walk(&schema["items"], &inside);
            }
            Value::Object(fields) if schema["additionalProperties"].is_object() => {
                let most = count("maxProperties").unwrap_or_else(|| panic!("{} has no bound", field(&at)));
                let many = |count: usize| {
                    (0..count)
                        .map(|index| (format!("key-{index}"), json!("x")))
                        .collect::<Map<_, _>>()
                };
                self.put(&at, format!("{most} keys"), Value::Object(many(most)), true);
                self.put(
                    &at,
                    format!("{most} and one keys"),
                    Value::Object(many(most + 1)),
                    false,
                );
                let key = fields.keys().next().unwrap().replace('/', "~1");
                self.put(&format!("{at}/{key}"), "of another type", json!(7), false);
            }
            Value::Object(fields) => {
                for required in schema["required"].as_array().into_iter().flatten() {
                    let mut less = fields.clone();
                    less.remove(required.as_str().unwrap());
                    self.put(&at, format!("without {required}"), Value::Object(less), false);
                }
                let properties = schema["properties"].as_object().into_iter().flatten();
                let here = properties.filter(|(name, _)| !self.elsewhere.contains(&name.as_str()));
                for (name, schema) in here.collect::<Vec<_>>() {
                    let inside = self.under(places, |place, value| {
                        value.get(name).map(|_| format!("{place}/{name}")).into_iter().collect()
                    });
                    assert!(
                        !inside.is_empty(),
                        "everything() has no {}: add it",
                        field(&format!("{at}/{name}"))
                    );
                    self.walk(schema, &inside);
                }
            }
            _ => {}
        }
    }

    fn under(&self, places: &[String], inside: impl Fn(&str, &Value) -> Vec<String>) -> Vec<String> {
        let places = places.iter().map(|place| (place, self.whole.pointer(place).unwrap()));
        places.flat_map(|(place, value)| inside(place, value)).collect()
    }
}

fn cases(definition: &str, whole: Value, elsewhere: &'static [&'static str]) -> Vec<Case> {
    let definition: Value = serde_saphyr::from_str(definition).expect("the definition");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut cases = Cases {
        whole,
        elsewhere,
        found: Vec::new(),
    };
    cases.walk(schema, &[String::new()]);
    cases.found
}

/// Asks as `actor` about every case; each must be taken, or refused with its field.
async fn each(actor: &Actor, kind: &str, collection: &str, whole: &Value, cases: &[Case]) {
    let collection = format!("{collection}?dryRun=All");
    let say = async |spec: &Value| {
        let object =
            json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
        actor.post(&collection, &object).await
    };
    say(whole).await.ok();
    let wrong: Vec<String> = futures::stream::iter(cases)
        .map(|case| async {
            let answer = say(&case.spec).await;
            let names_it = answer.message().contains(&case.field);
            // That a value has the right shape says nothing of what it means: the webhook may still refuse it, in its own words.
            let good = match (case.taken, answer.code) {
                (true, 201) => true,
                (true, 403) => answer.message().contains("[valid-declaration]"),
                (false, 422) => names_it,
                _ => false,
            };
            (!good).then(|| format!("{} {}: {} {}", case.field, case.what, answer.code, answer.message()))
        })
        .buffer_unordered(TOGETHER)
        .filter_map(|wrong| async { wrong })
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn every_field_is_taken_at_its_bounds_and_refused_beyond() {
    let world = World::shared().await;
    let ns = &world.enforced("bounds-of-fields").await;
    let (_, tenant) = world.person(ns, TENANT).await;
    let cases = cases(include_str!("../../crds/aiworkflows.yaml"), everything(), &[]);
    assert!(cases.len() > 300, "{} cases", cases.len());
    each(&tenant, "AIWorkflow", &all("AIWorkflow", ns), &everything(), &cases).await;
}

#[tokio::test]
async fn so_is_every_field_of_what_the_platform_and_other_namespaces_say() {
    let world = World::shared().await;
    let ns = &world.enforced("bounds-of-others").await;
    // `mode` says of the fields beside it that they are there or not: `egress_domains` tells.
    let found = cases(include_str!("../../crds/aiworkflowclasses.yaml"), class(), &["mode"]);
    assert!(found.len() > 200, "{} cases", found.len());
    each(&world.admin, "AIWorkflowClass", CLASSES, &class(), &found).await;

    // What a policy does is found out where it is written, and would refuse most of these.
    let unasked = unasked(world.cluster).await;
    let found = cases(include_str!("../../crds/regopolicies.yaml"), policy(), &[]);
    assert!(found.len() > 100, "{} cases", found.len());
    each(&unasked, "RegoPolicy", POLICIES, &policy(), &found).await;

    let (_, owner) = world.person(ns, "admin").await;
    let found = cases(include_str!("../../crds/aiworkflowgrants.yaml"), grant(), &[]);
    assert!(found.len() > 30, "{} cases", found.len());
    each(&owner, "AIWorkflowGrant", &all("AIWorkflowGrant", ns), &grant(), &found).await;

    let selector = json!({
        "matchLabels": {"app": "x"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}],
    });
    for (of, objects, elsewhere) in [
        ("names", json!(["x"]), &["objectSelector"][..]),
        ("objectSelector", selector, &["names"][..]),
    ] {
        let whole = exception(of, &objects);
        let found = cases(
            include_str!("../../crds/regopolicyexceptions.yaml"),
            whole.clone(),
            elsewhere,
        );
        assert!(found.len() > 15, "{} cases", found.len());
        let collection = all("RegoPolicyException", ns);
        each(&world.admin, "RegoPolicyException", &collection, &whole, &found).await;
    }
}
