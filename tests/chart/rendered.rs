//! Facts about what the chart renders.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringfence::policy::{Declared, Registered, Snapshot};
use serde_json::{Value, json};

use crate::chart::{RELEASE, helm, render};

/// Roles that the chart makes and binds to nobody; `people` tests what they give.
const FOR_PEOPLE: [&str; 11] = [
    "ringfence-admin",
    "ringfence-approver",
    "ringfence-class-view",
    "ringfence-debugger",
    "ringfence-edit",
    "ringfence-exceptions",
    "ringfence-policies",
    "ringfence-policy-view",
    "ringfence-tenant",
    "ringfence-trusted",
    "ringfence-view",
];

pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

pub fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item.as_str().unwrap())
        .collect()
}

fn exempt() -> [&'static str; 4] {
    ["kube-system", "kube-node-lease", "kube-public", RELEASE]
}

#[tokio::test]
async fn the_chart_is_well_formed() {
    helm(&["lint", "--strict"], &[]).await.unwrap();
    let objects = render(&[]).await;
    assert!(
        objects
            .iter()
            .all(|object| object["apiVersion"].is_string() && object["metadata"]["name"].is_string())
    );
    // An install with a custom resource of a definition in the same chart fails.
    let custom = |object: &&Value| object["apiVersion"].as_str().unwrap().starts_with("ringfence.dev/");
    assert_eq!(objects.iter().filter(custom).count(), 0);
    for definition in of_kind(&objects, "CustomResourceDefinition") {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
}

#[tokio::test]
async fn unknown_and_wrong_values_are_refused() {
    for value in [
        "nope=1",
        "image.nope=1",
        "webhook.nope=1",
        "webhook.url.nope=1",
        "resources.nope=1",
        "replicaCount=10",
        "podDisruptionBudget.minAvailable=1",
        "replicaCount=-1",
        "logFormat=xml",
        "decisionInput=all",
        "scan.period=soon",
        "scan.nope=1",
        "clusterDomain=",
        "clusterDomain=local",
        "clusterDomain=Corp.Example",
        "image.digest=abc",
        "image.pullPolicy=Sometimes",
        "webhook.certificate.nope=1",
        "webhook.certificate.secretName=A",
        "webhook.clientAuthentication.nope=1",
        "webhook.clientAuthentication.caConfigMap=A",
        "webhook.url.host=https://a",
        "webhook.url.host=a/b",
        "policyParameters.x=1",
        "policySets=ai-workflow",
        "policySets[0]=../x",
        "policyFiles.configMap=A_B",
        "policyFiles.folder=x",
        "eviction.nope=1",
        "eviction.maxGracePeriodSeconds=-1",
        "eviction.maxGracePeriodSeconds=long",
        "podReports.nope=1",
        "podReports.annotations[0]=networks'",
        "podReports.annotations[0]=a/b/c",
        "podReports.annotations[0]=ringfence.dev/",
        "imagePullSecrets[0].secret=x",
        "image.registry=https://mirror.example.com",
        "commonLabels.ringfence\\.dev/owner=a",
        "podLabels.app\\.kubernetes\\.io/name=a",
        "podAnnotations.checksum/policy-parameters=a",
        "networkPolicy.enabled=maybe",
        "flowControl.enabled=maybe",
        "flowControl.nope=1",
        "flowControl.nominalConcurrencyShares=0",
        "policies.approved-image.action=Warn",
        "policies.approved-images.action=warn",
        "policies.approved-images.enabled=no-way",
        "policies.approved-images.nope=1",
        "policies.approved-images=Warn",
        "monitoring.nope=1",
        "monitoring.serviceMonitor.interval=often",
        "monitoring.serviceMonitor.labels.a=b c",
        "monitoring.prometheusRule.runbooks=",
        "networkPolicy.nope=1",
        "networkPolicy.apiServerCIDRs={192.0.2.10}",
        "networkPolicy.apiServerCIDRs={example.com/32}",
        "networkPolicy.metricsFrom[0].namespace=monitoring",
        "networkPolicy.webhookFrom[0].ipBlock.except={192.0.2.1/32}",
    ] {
        let refusal = helm(&["template", "ringfence"], &[value]).await.expect_err(value);
        assert!(
            refusal.contains("don't meet the specifications of the schema"),
            "{value}: {refusal}"
        );
    }
}

/// A node or a zone that goes takes one pod along, and a drain waits for the other; with a single pod a drain would wait for ever.
#[tokio::test]
async fn pods_are_apart_and_drained_one_by_one() {
    for (values, budgets, spread) in [
        (&[] as &[&str], 1, 2),
        (&["replicaCount=1"], 0, 2),
        (&["replicaCount=3", "podDisruptionBudget.enabled=false"], 0, 2),
    ] {
        let objects = render(values).await;
        let is_budget = |object: &&Value| object["kind"] == "PodDisruptionBudget";
        let found: Vec<_> = objects.iter().filter(is_budget).collect();
        assert_eq!(found.len(), budgets, "{values:?}");
        let deployment = of_kind(&objects, "Deployment")[0];
        let pods = &deployment["spec"]["template"];
        let constraints = pods["spec"]["topologySpreadConstraints"].as_array().unwrap();
        assert_eq!(constraints.len(), spread, "{values:?}");
        let selectors = found.iter().map(|budget| &budget["spec"]["selector"]);
        for selector in selectors.chain(constraints.iter().map(|constraint| &constraint["labelSelector"])) {
            assert_eq!(selector, &deployment["spec"]["selector"]);
        }
    }
    let own = render(&["topologySpreadConstraints[0].maxSkew=2"]).await;
    let pods = &of_kind(&own, "Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(pods["topologySpreadConstraints"], serde_json::json!([{"maxSkew": 2}]));
}

#[tokio::test]
async fn rights_have_no_wildcard_and_no_way_up() {
    let objects = render(&[]).await;
    for role in of_kind(&objects, "ClusterRole")
        .into_iter()
        .chain(of_kind(&objects, "Role"))
    {
        let name = role["metadata"]["name"].as_str().unwrap();
        let for_people = FOR_PEOPLE.contains(&name);
        for rule in role["rules"].as_array().into_iter().flatten() {
            let (groups, resources, verbs) = (
                strings(&rule["apiGroups"]),
                strings(&rule["resources"]),
                strings(&rule["verbs"]),
            );
            assert!(
                !groups.is_empty() && !resources.is_empty() && !verbs.is_empty(),
                "{name}: {rule}"
            );
            assert!(rule.get("nonResourceURLs").is_none(), "{name}: {rule}");
            for word in groups.iter().chain(&resources).chain(&verbs) {
                assert!(!word.contains('*'), "{name}: {rule}");
            }
            for verb in ["escalate", "bind", "impersonate"] {
                assert!(!verbs.contains(&verb), "{name}: {rule}");
            }
            assert!(for_people || !verbs.contains(&"deletecollection"), "{name}: {rule}");
            if for_people && resources.contains(&"secrets") {
                assert_eq!(verbs, ["create", "update"], "other answers carry the Secret: {name}");
            } else if resources.contains(&"secrets") {
                assert_eq!(role["kind"], "Role", "{name}: {rule}");
                assert!(
                    verbs == ["create"] || strings(&rule["resourceNames"]) == ["ringfence-webhook-tls"],
                    "{name}: {rule}"
                );
            }
            for resource in [
                "validatingwebhookconfigurations",
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "customresourcedefinitions",
            ] {
                let makes_them_again = resource != "customresourcedefinitions" && verbs == ["create"];
                assert!(
                    !resources.contains(&resource) || !strings(&rule["resourceNames"]).is_empty() || makes_them_again,
                    "{name}: {rule}"
                );
            }
        }
    }
    let bound: Vec<&Value> = of_kind(&objects, "ClusterRoleBinding")
        .into_iter()
        .chain(of_kind(&objects, "RoleBinding"))
        .collect();
    for binding in &bound {
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": "ringfence", "namespace": RELEASE}])
        );
        let role = binding["roleRef"]["name"].as_str().unwrap();
        assert!(!FOR_PEOPLE.contains(&role), "{role} is for people");
    }
    let aggregated = |role: &&&Value| role["metadata"]["labels"]["ringfence.dev/aggregate-to-ceiling"] == "true";
    let roles = of_kind(&objects, "ClusterRole");
    let parts: Vec<&&Value> = roles.iter().filter(aggregated).collect();
    assert_eq!(parts.len(), 1);
    let rule = json!({"apiGroups": [""], "resources": ["configmaps", "services", "pods", "pods/log"], "verbs": ["get", "list", "watch"]});
    assert_eq!(parts[0]["rules"], json!([rule]));
}

#[tokio::test]
async fn registrations_fail_closed_and_spare_the_exempt_namespaces() {
    for (value, by_url) in [("replicaCount=1", false), ("webhook.url.host=10.0.0.5:9443", true)] {
        let objects = render(&[value]).await;
        let configurations = of_kind(&objects, "ValidatingWebhookConfiguration");
        let names: Vec<&str> = configurations
            .iter()
            .map(|one| one["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["ringfence", "ringfence-bindings", "ringfence-policies"]);
        for one in &configurations {
            // Of AKS, which would put conditions of its own into each.
            assert_eq!(one["metadata"]["labels"]["admissions.enforcer/disabled"], "true");
        }
        for filled in &configurations[1..] {
            assert_eq!(filled["webhooks"], json!([]), "the operator's to fill");
        }
        let webhooks = configurations[0]["webhooks"].as_array().unwrap();
        let names: Vec<&str> = webhooks
            .iter()
            .map(|webhook| webhook["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "fence.ringfence.dev",
                "tokens.ringfence.dev",
                "token-secrets.ringfence.dev",
                "accounts.ringfence.dev",
                "services.ringfence.dev",
                "network-policies.ringfence.dev",
                "label.ringfence.dev",
                "label-enforced.ringfence.dev",
                "kinds.ringfence.dev",
                "modes.ringfence.dev"
            ]
        );
        for webhook in webhooks {
            assert_eq!(webhook["failurePolicy"], "Fail");
            assert_eq!(webhook["matchPolicy"], "Equivalent");
            assert_eq!(webhook["sideEffects"], "None");
            assert_eq!(webhook["timeoutSeconds"], 5);
            if webhook["name"] == "kinds.ringfence.dev" {
                assert_eq!(webhook.get("namespaceSelector"), None, "everywhere, exempt or not");
                // The operator believes nothing that is narrower, so it has to know this one.
                let metadata = json!({"uid": "x", "creationTimestamp": "2026-01-01T12:00:00Z"});
                let stored = json!({"metadata": metadata, "webhooks": [webhook]});
                assert!(
                    ringfence::plan::Registration::from_object(&stored).is_some(),
                    "{webhook}"
                );
            } else {
                let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array().unwrap();
                let names = expressions
                    .iter()
                    .find(|expression| expression["key"] == "kubernetes.io/metadata.name")
                    .unwrap();
                assert_eq!(
                    (names["operator"].as_str(), strings(&names["values"])),
                    (Some("NotIn"), exempt().to_vec())
                );
            }
            let own = &webhook["matchConditions"][0];
            assert_eq!(
                own["expression"],
                format!("request.userInfo.username != 'system:serviceaccount:{RELEASE}:ringfence'")
            );
            let client = &webhook["clientConfig"];
            assert!(client.get("caBundle").is_none());
            let path = match webhook["name"].as_str().unwrap() {
                "fence.ringfence.dev"
                | "tokens.ringfence.dev"
                | "token-secrets.ringfence.dev"
                | "accounts.ringfence.dev"
                | "services.ringfence.dev"
                | "network-policies.ringfence.dev" => "/admit/fence",
                "kinds.ringfence.dev" => "/admit/kinds",
                "modes.ringfence.dev" => "/admit/modes",
                _ => "/admit/label",
            };
            if by_url {
                assert_eq!(*client, json!({"url": format!("https://10.0.0.5:9443{path}")}));
            } else {
                let service = json!({"name": "ringfence-webhook", "namespace": RELEASE, "path": path, "port": 443});
                assert_eq!(*client, json!({"service": service}));
            }
        }
    }
}

/// What the operator registers for policies is reached and spared as the chart's own registrations are.
#[tokio::test]
async fn webhooks_of_policies_are_like_the_charts_own() {
    let spec = json!({
        "validationActions": ["Deny"],
        "matchConstraints": {"resourceRules": [
            {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]},
        ]},
        "rego": {"modules": [{"name": "a.rego", "source": "package a"}]},
    });
    let declared = Declared {
        name: "a".to_owned(),
        uid: "a".to_owned(),
        generation: 1,
        spec: serde_json::from_value(spec).unwrap(),
    };
    let policy = Registered::broken(declared, "of a test");
    let entries = Snapshot::new(vec![Arc::new(policy)]).entries();
    for (value, by_url) in [("replicaCount=1", false), ("webhook.url.host=10.0.0.5:9443", true)] {
        let objects = render(&[value]).await;
        let mut chart = of_kind(&objects, "ValidatingWebhookConfiguration")[0].clone();
        for webhook in chart["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = json!("Q0E=");
        }
        let webhooks = ringfence::plan::policy_webhooks(&entries, &chart, RELEASE).unwrap();
        let [policies] = &webhooks[..] else {
            panic!("{webhooks:?}")
        };
        let fence = &chart["webhooks"][0];
        let client = &policies["clientConfig"];
        let path = if by_url {
            &client["url"]
        } else {
            &client["service"]["path"]
        };
        let path = path
            .as_str()
            .unwrap()
            .strip_prefix(if by_url { "https://10.0.0.5:9443" } else { "" });
        assert!(path.unwrap().starts_with("/admit/policies/fail-"), "{client}");
        for field in ["name", "namespace", "port"] {
            let of_chart = &fence["clientConfig"]["service"][field];
            assert_eq!(client["service"][field], *of_chart, "{field}");
        }
        for field in [
            "failurePolicy",
            "matchPolicy",
            "sideEffects",
            "timeoutSeconds",
            "admissionReviewVersions",
        ] {
            assert_eq!(policies[field], fence[field], "{field}");
        }
        let expressions = fence["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        let spared = expressions
            .iter()
            .find(|one| one["key"] == "kubernetes.io/metadata.name");
        assert_eq!(policies["namespaceSelector"]["matchExpressions"][0], *spared.unwrap());
        let said = |webhook: &Value| -> BTreeMap<String, Vec<String>> {
            let conditions = webhook["matchConditions"].as_array().unwrap().iter();
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
            conditions
                .map(|one| {
                    (
                        one["name"].as_str().unwrap().to_owned(),
                        words(one["expression"].as_str().unwrap()),
                    )
                })
                .collect()
        };
        // Of workloads `fence` is asked about more.
        let mut all = chart["webhooks"].as_array().unwrap().iter();
        let like = all.find(|webhook| webhook["name"] == "network-policies.ringfence.dev");
        let (chart, mut policies) = (said(like.unwrap()), said(policies));
        assert!(policies.remove("may-be-asked-about").is_some());
        assert!(policies.remove("does-not-come-up").is_some());
        assert_eq!(policies, chart);
    }
}

#[tokio::test]
async fn guards_fail_closed_and_deny() {
    let objects = render(&[]).await;
    let policies = of_kind(&objects, "ValidatingAdmissionPolicy");
    let bindings = of_kind(&objects, "ValidatingAdmissionPolicyBinding");
    let mut names: Vec<&str> = policies
        .iter()
        .map(|policy| policy["metadata"]["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ringfence::plan::guards(),
        "the role of helm test and the operator read the same folder"
    );
    for policy in policies {
        let name = &policy["metadata"]["name"];
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{name}");
        for validation in policy["spec"]["validations"].as_array().unwrap() {
            assert_eq!(validation["reason"], "Forbidden", "{name}");
            assert!(validation["message"].as_str().unwrap().len() > 40, "{name}");
        }
        let bound: Vec<&&Value> = bindings
            .iter()
            .filter(|binding| binding["spec"]["policyName"] == *name)
            .collect();
        assert_eq!(bound.len(), 1, "{name}");
        assert_eq!(
            bound[0]["spec"],
            json!({"policyName": name, "validationActions": ["Deny"]}),
            "{name}"
        );
    }
}

/// Without a limit the downward API tells what the node has, which is no limit of this container.
#[tokio::test]
async fn the_pod_is_told_its_limit_on_memory_where_it_has_one() {
    for (values, expected) in [
        (&[][..], json!({"resourceFieldRef": {"resource": "limits.memory"}})),
        (&["resources.limits.memory=null"], Value::Null),
        (&["resources=null"], Value::Null),
    ] {
        let objects = render(values).await;
        let container = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
        let mut variables = container["env"].as_array().into_iter().flatten();
        let told = variables.find(|variable| variable["name"] == "RINGFENCE_MEMORY_LIMIT");
        assert_eq!(
            told.map_or(Value::Null, |told| told["valueFrom"].clone()),
            expected,
            "{values:?}"
        );
    }
}

#[tokio::test]
async fn sets_and_files_of_policies_are_named_to_the_pod() {
    let policies = |objects: &[Value]| -> Vec<String> {
        let container = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0].clone();
        strings(&container["args"])
            .into_iter()
            .filter(|flag| flag.starts_with("--policies"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(policies(&render(&[]).await), [""; 0]);
    let sets = render(&["policySets={ai-workflow,pod-security-baseline}"]).await;
    assert_eq!(
        policies(&sets),
        ["--policies=ai-workflow", "--policies=pod-security-baseline"]
    );
    let both = render(&[
        "policySets={ai-workflow}",
        "policyFiles.configMap=ours",
        "policyParameters.a.b=1",
    ])
    .await;
    assert_eq!(
        policies(&both),
        ["--policies=ai-workflow", "--policies=/etc/ringfence-policies"]
    );
    let pod = &of_kind(&both, "Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(
        pod["volumes"],
        json!([
            {"name": "policy-parameters", "configMap": {"name": "ringfence-policy-parameters"}},
            {"name": "policy-files", "configMap": {"name": "ours"}},
        ])
    );
    assert_eq!(
        pod["containers"][0]["volumeMounts"][1],
        json!({"name": "policy-files", "mountPath": "/etc/ringfence-policies", "readOnly": true})
    );
    let refusal = helm(&["template", "ringfence"], &["policyFiles.configMap=ours"])
        .await
        .expect_err("which sets stay");
    assert!(refusal.contains("say by policySets which of these stay"), "{refusal}");
}

#[tokio::test]
async fn the_pod_is_restricted_and_gets_the_flags() {
    let objects = render(&[
        "policyParameters.approved-namespaces.allowed[0]=a",
        "decisionInput=masked",
        "scan.period=10m",
        "webhook.url.host=[fd00::5]:9443",
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ])
    .await;
    let deployment = of_kind(&objects, "Deployment")[0];
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        pod["securityContext"],
        json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(
        container["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    assert!(container["resources"]["limits"].get("cpu").is_none());
    assert!(container["image"].as_str().unwrap().starts_with("ringfence@sha256:"));
    let flags = strings(&container["args"]);
    assert_eq!(flags[0], "run");
    for flag in [
        "--namespace=ringfence-system",
        "--service-account=ringfence",
        "--service-name=ringfence-webhook",
        "--webhook-host=fd00::5",
        "--listen=0.0.0.0:9443",
        "--metrics-listen=0.0.0.0:8080",
        "--webhook-configuration=ringfence",
        "--tls-secret=ringfence-webhook-tls",
        "--policy-parameters=/etc/ringfence/policy-parameters.yaml",
        "--decision-input=masked",
        "--log-format=json",
        "--scan-period=10m",
    ] {
        assert!(flags.contains(&flag), "{flag} is missing in {flags:?}");
    }
    let is_of_parameters = |object: &&Value| object["metadata"]["name"] == "ringfence-policy-parameters";
    let map = objects.iter().find(is_of_parameters).unwrap();
    let parameters = map["data"]["policy-parameters.yaml"].as_str().unwrap();
    assert_eq!(
        serde_saphyr::from_str::<Value>(parameters).unwrap(),
        json!({"approved-namespaces": {"allowed": ["a"]}})
    );

    let plain = render(&[]).await;
    assert!(!plain.iter().any(|object| is_of_parameters(&object)));
    let service = of_kind(&plain, "Service")[0];
    let deployment = of_kind(&plain, "Deployment")[0];
    assert_eq!(service["metadata"]["name"], "ringfence-webhook");
    assert_eq!(service["spec"]["ports"][0]["port"], 443);
    let ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
        .as_array()
        .unwrap();
    let target = ports
        .iter()
        .find(|port| port["name"] == service["spec"]["ports"][0]["targetPort"])
        .unwrap();
    assert_eq!(target["containerPort"], 9443);
    for (label, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(deployment["spec"]["template"]["metadata"]["labels"][label], *value);
    }
}

/// What the operator puts back is what the chart renders, and whose release it is.
#[tokio::test]
async fn the_registrations_and_guards_are_told_to_the_operator() {
    for values in [&[] as &[&str], &["webhook.url.host=a.example:9"]] {
        let objects = render(values).await;
        let maps = of_kind(&objects, "ConfigMap");
        let map = maps
            .iter()
            .find(|map| map["metadata"]["name"] == "ringfence-registrations")
            .unwrap();
        assert_eq!(map["metadata"]["namespace"], RELEASE);
        let kinds = [
            ("ValidatingWebhookConfiguration", ""),
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicy."),
            ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybinding."),
        ];
        let kept = kinds
            .iter()
            .flat_map(|(kind, key)| of_kind(&objects, kind).into_iter().map(move |object| (object, key)));
        let kept: Vec<(&Value, &&str)> = kept.collect();
        assert_eq!(map["data"].as_object().unwrap().len(), kept.len());
        for (registration, key) in kept {
            let name = registration["metadata"]["name"].as_str().unwrap();
            let mut told: Value = serde_json::from_str(map["data"][format!("{key}{name}")].as_str().unwrap()).unwrap();
            let annotations = told["metadata"].as_object_mut().unwrap().remove("annotations");
            let release = json!({"meta.helm.sh/release-name": "ringfence", "meta.helm.sh/release-namespace": RELEASE});
            assert_eq!(annotations, Some(release), "{name}");
            assert_eq!(told, *registration, "{name}");
        }
    }
}

fn arguments(objects: &[Value]) -> Vec<&str> {
    strings(&of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"])
}

#[tokio::test]
async fn somebody_elses_certificate_is_read_and_never_written() {
    let objects = render(&["webhook.certificate.secretName=given"]).await;
    let arguments = arguments(&objects);
    assert!(
        arguments.contains(&"--tls-secret=given") && arguments.contains(&"--tls-provided"),
        "{arguments:?}"
    );
    let rules = of_kind(&objects, "Role")
        .into_iter()
        .flat_map(|role| role["rules"].as_array().unwrap());
    let of_secrets: Vec<&Value> = rules
        .filter(|rule| strings(&rule["resources"]).contains(&"secrets"))
        .collect();
    let only = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["given"], "verbs": ["get", "list", "watch"]});
    assert_eq!(of_secrets, [&only]);
}

/// Each alone would let in everybody for whom that CA signs, or whoever comes.
#[tokio::test]
async fn a_ca_of_clients_and_their_names_go_together() {
    for (value, missing) in [
        ("caConfigMap=a", "needs allowedNames"),
        ("allowedNames={a}", "needs caConfigMap"),
    ] {
        let value = format!("webhook.clientAuthentication.{value}");
        let refusal = helm(&["template", "ringfence"], &[&value]).await.expect_err(&value);
        assert!(refusal.contains(missing), "{value}: {refusal}");
    }
}

#[tokio::test]
async fn the_ca_of_clients_is_mounted_and_their_names_are_said() {
    let authentication = "webhook.clientAuthentication";
    let (map, names) = (
        format!("{authentication}.caConfigMap=clients"),
        format!("{authentication}.allowedNames={{a,b}}"),
    );
    let objects = render(&[&map, &names]).await;
    let arguments = arguments(&objects);
    for wanted in [
        "--client-ca=/etc/ringfence-client-ca/ca.crt",
        "--client-name=a",
        "--client-name=b",
    ] {
        assert!(arguments.contains(&wanted), "{arguments:?}");
    }
    let pod = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(
        pod["volumes"],
        json!([{"name": "client-ca", "configMap": {"name": "clients"}}])
    );
    // A file by subPath would never change.
    let mount = json!([{"name": "client-ca", "mountPath": "/etc/ringfence-client-ca", "readOnly": true}]);
    assert_eq!(pod["containers"][0]["volumeMounts"], mount);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(
            pod["containers"][0][probe]["httpGet"]["port"], "metrics",
            "a kubelet has no certificate"
        );
    }
}
