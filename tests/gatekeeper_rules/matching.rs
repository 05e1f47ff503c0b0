//! Every feature of `match`, alone and two at a time, asked about requests of every kind of place.

use serde_json::{Value, json};
use support::gatekeeper::Gatekeeper;

use crate::compare;
use crate::documents::{
    FINDS_ALL, asked, cluster_role, config_map, constraint, deployment, merge, namespace, patched, pod, requests,
    template,
};

/// One feature each.
fn features() -> Vec<Value> {
    let expression = |key: &str, operator: &str, values: &[&str]| match values {
        [] => json!({"key": key, "operator": operator}),
        values => json!({"key": key, "operator": operator, "values": values}),
    };
    let mut features = vec![
        json!({}),
        json!({"kinds": []}),
        json!({"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}),
        json!({"kinds": [{"apiGroups": ["*"], "kinds": ["Namespace"]}]}),
        json!({"kinds": [{"apiGroups": [""], "kinds": ["Namespace"]}]}),
        json!({"kinds": [{"apiGroups": ["", "apps"], "kinds": ["Pod", "Deployment"]}]}),
        json!({"kinds": [{"apiGroups": ["apps"], "kinds": ["Pod"]}]}),
        json!({"kinds": [{"apiGroups": [""], "kinds": ["*"]}]}),
        json!({"kinds": [{"apiGroups": ["rbac.authorization.k8s.io"], "kinds": ["*"]}]}),
        json!({"kinds": [{"kinds": ["Pod"]}]}),
        json!({"kinds": [{"apiGroups": [""]}]}),
        json!({"kinds": [{}]}),
        json!({"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}, {"apiGroups": ["apps"], "kinds": ["Deployment"]}]}),
        json!({"kinds": [{"apiGroups": ["example.com"], "kinds": ["Namespace"]}]}),
        json!({"kinds": [{"apiGroups": [""], "kinds": ["pod"]}]}),
        json!({"scope": "*"}),
        json!({"scope": "Cluster"}),
        json!({"scope": "Namespaced"}),
        json!({"source": "All"}),
        json!({"source": "Original"}),
    ];
    for name in [
        "ai", "kube-ai", "a*", "*ai", "*a*", "kube-*", "*", "**", "none", "-*", "*-",
    ] {
        features.push(json!({"namespaces": [name]}));
        features.push(json!({"excludedNamespaces": [name]}));
    }
    features.push(json!({"namespaces": []}));
    features.push(json!({"namespaces": ["none", "kube-*"]}));
    features.push(json!({"excludedNamespaces": ["none", "a*", "*x*"]}));
    for name in ["web-1", "web-*", "*-1", "*e*", "*", "web", "ai", "*-", "w*", "web-"] {
        features.push(json!({"name": name}));
    }
    for selector in [
        json!({}),
        json!({"matchLabels": {"app": "web"}}),
        json!({"matchLabels": {"app": "web", "tier": "front"}}),
        json!({"matchLabels": {"app": ""}}),
        json!({"matchExpressions": [expression("app", "In", &["web", "x"])]}),
        json!({"matchExpressions": [expression("app", "NotIn", &["web"])]}),
        json!({"matchExpressions": [expression("tier", "Exists", &[])]}),
        json!({"matchExpressions": [expression("tier", "DoesNotExist", &[])]}),
        json!({"matchExpressions": [expression("team", "Exists", &[])]}),
        json!({"matchLabels": {"team": "ml"}, "matchExpressions": [expression("env", "NotIn", &["test"])]}),
        json!({"matchExpressions": [expression("team", "In", &["ml"]), expression("app", "DoesNotExist", &[])]}),
    ] {
        features.push(json!({"labelSelector": selector}));
        features.push(json!({"namespaceSelector": selector}));
    }
    features
}

/// Several constraints of one template are asked at once: each is matched alone.
fn constraints(matches: &[Value]) -> Vec<Value> {
    let mut documents = vec![template(FINDS_ALL)];
    for (number, matching) in matches.iter().enumerate() {
        documents.push(constraint(&format!("c{number}"), &json!({"match": matching})));
    }
    documents
}

#[test]
fn each_feature_means_the_same() {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    let features = features();
    let mut violations = 0;
    for features in features.chunks(40) {
        violations += compare(&mut gatekeeper, &constraints(features), &[], &requests());
    }
    // Neither all nor nothing: the features tell requests apart.
    let all = features.len() * requests().len();
    assert!(
        violations > all / 4 && violations < all * 3 / 4,
        "{violations} of {all}"
    );
}

#[test]
fn two_features_together_mean_the_same() {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    let features = features();
    let mut pairs = Vec::new();
    for (number, one) in features.iter().enumerate() {
        // Each with some others, and over the whole list all kinds with all kinds.
        for other in features.iter().skip(number % 17 + 1).step_by(17) {
            let mut both = one.clone();
            merge(&mut both, other);
            if one.as_object().map(|fields| fields.keys().next())
                != other.as_object().map(|fields| fields.keys().next())
            {
                pairs.push(both);
            }
        }
    }
    let mut violations = 0;
    for pairs in pairs.chunks(60) {
        violations += compare(&mut gatekeeper, &constraints(pairs), &[], &requests());
    }
    assert!(
        pairs.len() > 200 && violations > 500,
        "{} pairs, {violations} violations",
        pairs.len()
    );
}

#[test]
fn a_constraint_without_match_is_about_everything() {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    let documents = [template(FINDS_ALL), constraint("c", &json!({}))];
    assert_eq!(compare(&mut gatekeeper, &documents, &[], &requests()), requests().len());
}

#[test]
fn namespaces_of_the_config_are_exempt() {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    let mut violations = Vec::new();
    for (names, processes) in [
        (json!(["ai"]), json!(["*"])),
        (json!(["kube-*"]), json!(["webhook"])),
        (json!(["*"]), json!(["webhook"])),
        (json!(["ai"]), json!(["audit", "sync", "mutation-webhook"])),
    ] {
        let config = json!({"apiVersion": "config.gatekeeper.sh/v1alpha1", "kind": "Config",
            "metadata": {"name": "config", "namespace": "gatekeeper-system"},
            "spec": {"match": [{"excludedNamespaces": names, "processes": processes}]}});
        let documents = [template(FINDS_ALL), constraint("c", &json!({})), config];
        violations.push(compare(&mut gatekeeper, &documents, &[], &requests()));
    }
    let all = requests().len();
    assert!(
        violations[0] < violations[1] && violations[1] < all && violations[2] == 0 && violations[3] == all,
        "{violations:?}"
    );
}

#[test]
fn pods_of_workloads_are_judged_alike() {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    let rego = "package findsall\n\nviolation[{\"msg\": msg}] {\n  msg := sprintf(\"%v with %v\", [input.review.kind.kind, \
                object.get(input.review.object.metadata, \"labels\", {})])\n}\n";
    let expansion = |name: &str, kinds: &[&str], action: &str| {
        let mut template = json!({"apiVersion": "expansion.gatekeeper.sh/v1alpha1", "kind": "ExpansionTemplate",
            "metadata": {"name": name}, "spec": {"applyTo": [{"groups": ["apps"], "kinds": kinds, "versions": ["v1"]}],
                "templateSource": "spec.template", "generatedGVK": {"group": "", "version": "v1", "kind": "Pod"}}});
        if !action.is_empty() {
            template["spec"]["enforcementAction"] = action.into();
        }
        template
    };
    let stateful = patched(deployment(), &json!({"kind": "StatefulSet"}));
    let requests = [
        asked("CREATE", "pods", &pod(), &Value::Null),
        asked("CREATE", "deployments", &deployment(), &Value::Null),
        asked("CREATE", "statefulsets", &stateful, &Value::Null),
        asked("CREATE", "configmaps", &config_map(), &Value::Null),
        asked("CREATE", "clusterroles", &cluster_role(), &Value::Null),
        asked("CREATE", "namespaces", &namespace("ai"), &Value::Null),
    ];
    let mut violations = 0;
    for source in ["All", "Original", "Generated"] {
        for matching in [
            json!({}),
            json!({"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}),
            json!({"kinds": [{"apiGroups": ["", "apps"], "kinds": ["Pod", "StatefulSet"]}]}),
            json!({"namespaces": ["ai"]}),
            json!({"excludedNamespaces": ["ai"]}),
            json!({"scope": "Namespaced"}),
            json!({"name": "web-pod"}),
            json!({"name": "web-*"}),
            json!({"labelSelector": {"matchLabels": {"of": "template"}}}),
            json!({"labelSelector": {"matchExpressions": [{"key": "of", "operator": "DoesNotExist"}]}}),
            json!({"namespaceSelector": {"matchLabels": {"team": "ml"}}}),
        ] {
            for expansions in [
                vec![expansion("one", &["Deployment"], "")],
                vec![expansion("one", &["Deployment"], "warn")],
                vec![
                    expansion("one", &["Deployment", "StatefulSet"], ""),
                    expansion("two", &["StatefulSet"], "dryrun"),
                ],
            ] {
                let mut documents = vec![
                    template(rego),
                    constraint(
                        "c",
                        &json!({"match": patched(matching.clone(), &json!({"source": source}))}),
                    ),
                ];
                documents.extend(expansions);
                violations += compare(&mut gatekeeper, &documents, &[], &requests);
            }
        }
    }
    assert!(violations > 100, "{violations}");
}
