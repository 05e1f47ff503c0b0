//! Policies that judge other objects than pods, asked as RegoPolicies are: what an attacker would send is matched, and refused by the
//! policy that is about it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ringfence::fence::template_of;
use ringfence::policy::{Occasion, PolicyInput, Question, Registered, Snapshot, Target, library};
use ringfence::review::Review;
use rstest::rstest;
use serde_json::{Value, json};

use crate::shipped::joined;

static OBJECTS: LazyLock<Snapshot> = LazyLock::new(|| {
    let sources = library::sources_of(&[library::DEFAULT_SET]).expect("the set is there");
    let parameters = json!({"encrypted-storage": {"storageClasses": ["encrypted"]}});
    let parameters: BTreeMap<String, Value> = serde_json::from_value(parameters).expect("parameters");
    let declared = library::objects(&sources, &parameters).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
    let compile = |declared| match Registered::compile(declared) {
        Ok(policy) => Arc::new(policy),
        Err(errors) => panic!("{}", joined(&errors)),
    };
    Snapshot::new(declared.iter().map(compile).collect())
});

const RBAC: &str = "rbac.authorization.k8s.io/v1/";

/// What is asked about: `group/version/Kind`, or `version/Kind`, in the plural of its resource.
fn request(what: &str, resource: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let parts: Vec<&str> = what.split('/').collect();
    let (group, version, kind) = match parts.as_slice() {
        [group, version, kind] => (*group, *version, *kind),
        [version, kind] => ("", *version, *kind),
        _ => panic!("{what} is no kind"),
    };
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let mut request = json!({
        "uid": "u", "operation": operation, "name": "x", "dryRun": false,
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": if subresource.is_empty() { group } else { "" }, "version": "v1", "resource": resource},
        "subResource": subresource, "userInfo": {"username": "mallory", "groups": ["system:authenticated"]},
        "object": object, "oldObject": old,
    });
    if version != "v1" {
        request["resource"]["version"] = version.into();
    }
    if !kind.starts_with("Cluster") {
        request["namespace"] = "ai-secure".into();
    }
    request
}

/// Names of the policies that refuse, and of those that cannot tell.
fn refusing(request: &Value, labels: &Value) -> Vec<String> {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let review = Review::parse(&serde_json::to_vec(&review).expect("json")).expect("a review");
    let object = review.object().cloned().unwrap_or_default();
    let template = template_of(&review.kind.group, &review.kind.kind, &object);
    let occasion = Occasion {
        review: &review,
        template,
        changes_template: template.is_some(),
    };
    let of_namespace = review.namespace.is_some().then_some(Some(labels));
    let mut matches = OBJECTS.matching(None, &occasion);
    matches.retain(|one| one.is_in_namespace(of_namespace));
    let class = json!({"metadata": {"name": "default"}, "spec": {"identity": {"maxTokenSeconds": 1800}}});
    let namespace = json!({"metadata": {"name": "ai-secure", "labels": labels}});
    let input = PolicyInput {
        target: Target::Object,
        request,
        pod: template,
        workflow: None,
        class: Some(&class),
        engine: None,
        namespace: Some(&namespace),
    };
    let question = Question::new(matches, &input, &occasion, |_| Err("there is none".to_owned()));
    let judge = |number| question.judge(number, Duration::from_secs(20)).expect("it is asked");
    let verdicts = (0..question.matches().len()).map(judge);
    let refuses = verdicts.filter(|verdict| {
        let found = verdict.outcome.as_ref();
        found.map_or_else(
            |error| panic!("{}: {error}", verdict.policy),
            |found| !found.deny.is_empty(),
        )
    });
    refuses.map(|verdict| verdict.policy).collect()
}

fn fenced() -> Value {
    json!({"ringfence.dev/enforce": "default"})
}

fn binding(role: &str, subject: Value) -> Value {
    json!({"metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [subject]})
}

fn rules(rule: Value) -> Value {
    json!({"metadata": {"name": "x"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}, rule]})
}

/// What an attacker tries, and what they try next.
fn attacks() -> Vec<(&'static str, Value)> {
    let role = |rule| {
        (
            "no-wildcard-rbac",
            request(&format!("{RBAC}Role"), "roles", "CREATE", &rules(rule), &Value::Null),
        )
    };
    let cluster = |object: Value| {
        let request = request(
            &format!("{RBAC}ClusterRole"),
            "clusterroles",
            "CREATE",
            &object,
            &Value::Null,
        );
        ("no-wildcard-rbac", request)
    };
    let bound = |role, subject| {
        let object = binding(role, subject);
        let request = request(
            &format!("{RBAC}RoleBinding"),
            "rolebindings",
            "CREATE",
            &object,
            &Value::Null,
        );
        ("no-cluster-admin-binding", request)
    };
    let service = |spec: Value| {
        let object = json!({"metadata": {"name": "x"}, "spec": spec});
        (
            "no-exposed-services",
            request("v1/Service", "services", "CREATE", &object, &Value::Null),
        )
    };
    let ingress = |spec: Value| {
        let object = json!({"metadata": {"name": "x"}, "spec": spec});
        let request = request(
            "networking.k8s.io/v1/Ingress",
            "ingresses",
            "CREATE",
            &object,
            &Value::Null,
        );
        ("tls-only-ingress", request)
    };
    let claim = |object: Value| {
        let request = request(
            "v1/PersistentVolumeClaim",
            "persistentvolumeclaims",
            "CREATE",
            &object,
            &Value::Null,
        );
        ("encrypted-storage", request)
    };
    let settings = |object: Value| {
        (
            "no-literal-secrets-in-configmaps",
            request("v1/ConfigMap", "configmaps", "CREATE", &object, &Value::Null),
        )
    };
    let token = |spec: Value| {
        let object = json!({"spec": spec});
        let what = "authentication.k8s.io/v1/TokenRequest";
        (
            "short-lived-tokens",
            request(what, "serviceaccounts/token", "CREATE", &object, &Value::Null),
        )
    };
    let account = json!({"kind": "ServiceAccount", "name": "triage", "namespace": "ai-secure"});
    let ephemeral = json!({"spec": {
        "containers": [{"name": "main"}],
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "plain"}}}}],
    }});
    let of_set =
        json!({"spec": {"template": {"spec": {}}, "volumeClaimTemplates": [{"spec": {"storageClassName": "plain"}}]}});
    let of_cron_job = json!({"spec": {"jobTemplate": {"spec": {"template": ephemeral}}}});
    let gateway =
        json!({"spec": {"listeners": [{"name": "a", "protocol": "HTTPS"}, {"name": "b", "protocol": "HTTP"}]}});
    let gateways = "gateway.networking.k8s.io";
    let create = |what: &str, resource: &str, object: &Value| request(what, resource, "CREATE", object, &Value::Null);
    let encoded = "QUtJQUlPU0ZPRE5ON0VYQU1QTEU=";
    vec![
        role(json!({"apiGroups": ["*"], "resources": ["deployments"], "verbs": ["get"]})),
        role(json!({"apiGroups": [""], "resources": ["pods", "*"], "verbs": ["get"]})),
        role(json!({"apiGroups": [""], "resources": ["*/exec"], "verbs": ["create"]})),
        role(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "*"]})),
        role(json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]})),
        role(
            json!({"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["default"], "verbs": ["impersonate"]}),
        ),
        cluster(rules(json!({"nonResourceURLs": ["/*"], "verbs": ["get"]}))),
        cluster(
            json!({"metadata": {"name": "x"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}, {}]}}),
        ),
        cluster(json!({"aggregationRule": {"clusterRoleSelectors": [
            {"matchLabels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        ]}})),
        bound("cluster-admin", account.clone()),
        bound("system:controller:clusterrole-aggregation-controller", account.clone()),
        bound("view", json!({"kind": "Group", "name": "system:authenticated"})),
        bound("view", json!({"kind": "User", "name": "system:anonymous"})),
        (
            "no-cluster-admin-binding",
            create(
                &format!("{RBAC}ClusterRoleBinding"),
                "clusterrolebindings",
                &binding("cluster-admin", account),
            ),
        ),
        service(json!({"type": "NodePort", "ports": [{"port": 80}]})),
        service(json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false})),
        service(json!({"type": "ExternalName", "externalName": "a.example", "externalIPs": ["192.0.2.1"]})),
        service(json!({"type": "ClusterIP", "ports": [{"port": 80}, {"port": 81, "nodePort": 30081}]})),
        ingress(json!({"tls": [{"hosts": ["a.example"]}], "rules": [{"host": "a.example"}, {"host": "b.example"}]})),
        ingress(json!({"tls": [{"hosts": ["a.example"]}], "rules": [{"http": {"paths": []}}]})),
        ingress(json!({"tls": [{"hosts": ["a.example"]}], "rules": [{"host": "*.example"}]})),
        ingress(json!({"tls": [{"hosts": ["а.example"]}], "rules": [{"host": "a.example"}]})),
        (
            "tls-only-ingress",
            create(&format!("{gateways}/v1/Gateway"), "gateways", &gateway),
        ),
        (
            "tls-only-ingress",
            create(&format!("{gateways}/v1beta1/Gateway"), "gateways", &gateway),
        ),
        claim(json!({"spec": {"storageClassName": "plain"}})),
        claim(json!({"spec": {"storageClassName": "", "volumeName": "theirs"}})),
        claim(json!({"spec": {}})),
        claim(json!({
            "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "plain"}}, "spec": {"storageClassName": "encrypted"},
        })),
        ("encrypted-storage", create("v1/Pod", "pods", &ephemeral)),
        (
            "encrypted-storage",
            create("apps/v1/StatefulSet", "statefulsets", &of_set),
        ),
        (
            "encrypted-storage",
            create(
                "apps/v1/DaemonSet",
                "daemonsets",
                &json!({"spec": {"template": ephemeral}}),
            ),
        ),
        (
            "encrypted-storage",
            create("batch/v1/CronJob", "cronjobs", &of_cron_job),
        ),
        settings(json!({"data": {"a": "b", "settings.env": "LEVEL=info\nDB_PASSWORD=hunter2\n"}})),
        settings(json!({"data": {"api-key": "hunter2"}})),
        settings(json!({"binaryData": {"a": encoded}})),
        settings(json!({"metadata": {"annotations": {"a": "postgres://app:hunter2@db/app"}}})),
        token(json!({"expirationSeconds": 1801})),
        token(json!({})),
        token(json!({"expirationSeconds": 86400, "boundObjectRef": {"kind": "Pod", "name": "x"}})),
    ]
}

#[test]
fn each_attack_is_refused_by_its_policy() {
    for (policy, request) in attacks() {
        assert_eq!(refusing(&request, &fenced()), [policy], "{request:#}");
    }
}

/// An object that was good is no way in.
#[test]
fn each_attack_is_refused_as_an_update_too() {
    for (policy, mut request) in attacks() {
        // Tokens are only asked for, and a pod's volumes never change.
        if policy == "short-lived-tokens" || request["kind"]["kind"] == "Pod" {
            continue;
        }
        request["operation"] = "UPDATE".into();
        request["oldObject"] = json!({"metadata": {"name": "x"}, "spec": {}});
        if policy == "encrypted-storage" {
            request["oldObject"]["spec"]["storageClassName"] = "encrypted".into();
        }
        assert_eq!(refusing(&request, &fenced()), [policy], "{request:#}");
    }
}

/// What stood before can be labelled, and its finalizers taken away.
#[test]
fn an_update_that_leaves_what_is_judged_passes() {
    for (_, mut request) in attacks() {
        request["operation"] = "UPDATE".into();
        request["oldObject"] = request["object"].clone();
        request["object"]["metadata"]["finalizers"] = json!([]);
        assert_eq!(refusing(&request, &fenced()), [] as [&str; 0], "{request:#}");
    }
}

#[test]
fn deleting_is_never_judged() {
    for (_, mut request) in attacks() {
        request["operation"] = "DELETE".into();
        request["oldObject"] = request["object"].take();
        assert_eq!(refusing(&request, &fenced()), [] as [&str; 0], "{request:#}");
    }
}

/// Outside of fenced namespaces only what grants something in all of them is judged.
#[rstest]
#[case::no_label(json!({}))]
#[case::a_weaker_mode(json!({"ringfence.dev/warn": "default"}))]
fn other_namespaces_are_left_alone(#[case] labels: Value) {
    for (policy, request) in attacks() {
        let of_cluster = request.get("namespace").is_none();
        let expected: &[&str] = if of_cluster { &[policy] } else { &[] };
        assert_eq!(refusing(&request, &labels), expected, "{request:#}");
    }
}

/// What the control plane writes in every namespace, and of the cluster.
#[test]
fn controllers_are_not_in_the_way() {
    let certificate = "-----BEGIN CERTIFICATE-----\nMIIDBTCCAe2gAwIBAgIIQ7Zp2Kd9Xw4wDQYJKoZIhvcNAQELBQAwFTETMBEGA1UEAxMK\n-----END CERTIFICATE-----\n";
    let root = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": certificate}});
    let everything = json!({"metadata": {"name": "cluster-admin"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let of_masters = binding("cluster-admin", json!({"kind": "Group", "name": "system:masters"}));
    let of_pod =
        json!({"spec": {"expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "name": "x", "uid": "u"}}});
    let own = "system:serviceaccount:kube-system:";
    let bootstrap = "system:apiserver".to_owned();
    for (user, what, resource, object) in [
        (
            format!("{own}root-ca-cert-publisher"),
            "v1/ConfigMap".to_owned(),
            "configmaps",
            &root,
        ),
        (
            format!("{own}clusterrole-aggregation-controller"),
            format!("{RBAC}ClusterRole"),
            "clusterroles",
            &everything,
        ),
        (
            bootstrap.clone(),
            format!("{RBAC}ClusterRole"),
            "clusterroles",
            &everything,
        ),
        (
            bootstrap,
            format!("{RBAC}ClusterRoleBinding"),
            "clusterrolebindings",
            &of_masters,
        ),
        (
            "system:node:worker".to_owned(),
            "authentication.k8s.io/v1/TokenRequest".to_owned(),
            "serviceaccounts/token",
            &of_pod,
        ),
    ] {
        let mut request = request(&what, resource, "CREATE", object, &Value::Null);
        request["userInfo"] = json!({"username": user, "groups": ["system:nodes", "system:authenticated"]});
        assert_eq!(refusing(&request, &fenced()), [] as [&str; 0], "{user}: {what}");
    }
}
