use rstest::rstest;
use serde_json::json;

use super::*;
use crate::{
    api::{AIWorkflowClass, Mode},
    plan::{self, NamespaceFacts},
};

fn container(image: &str) -> Value {
    json!({"name": "main", "image": image})
}

fn pod_spec(account: &str, image: &str) -> Value {
    json!({"serviceAccountName": account, "containers": [container(image)]})
}

fn pod(name: &str, labels: Value, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
}

fn owned_by(mut object: Value, kind: &str, name: &str) -> Value {
    object["metadata"]["ownerReferences"] = json!([{"kind": kind, "name": name, "controller": true}]);
    object
}

fn workload(api_version: &str, kind: &str, name: &str, labels: Value, spec: Value) -> Value {
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    let body = match kind {
        "CronJob" => json!({"jobTemplate": {"spec": {"template": template}}}),
        _ => json!({"template": template}),
    };
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": body})
}

fn deployment(name: &str, account: &str) -> Value {
    let spec = pod_spec(account, "registry.example.com/team/api:1.4");
    workload("apps/v1", "Deployment", name, json!({"app": name}), spec)
}

fn account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "ml"}})
}

fn binding(namespace: &str, name: &str, role: (&str, &str), account: &str) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    json!({
        "kind": kind, "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"kind": role.0, "name": role.1},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "ml"}],
    })
}

fn role(namespace: &str, name: &str, rules: Value) -> Value {
    let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
    json!({"kind": kind, "metadata": {"name": name, "namespace": namespace}, "rules": rules})
}

fn rule(resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": resources, "verbs": verbs})
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

fn seen(workloads: Vec<Value>) -> Seen {
    Seen {
        namespace: "ml".into(),
        workloads,
        ..Seen::default()
    }
}

/// One workflow with an account of its own.
fn one() -> Seen {
    let mut seen = seen(vec![deployment("api", "api")]);
    seen.accounts = vec![account("api")];
    seen
}

fn drafted(seen: &Seen) -> Draft {
    draft(seen, &Options::default())
}

fn only(seen: &Seen) -> Drafted {
    let mut draft = drafted(seen);
    assert_eq!(draft.workflows.len(), 1, "{draft:?}");
    draft.workflows.remove(0)
}

fn said(drafted: &Drafted) -> String {
    drafted
        .notes
        .0
        .values()
        .flatten()
        .cloned()
        .collect::<Vec<_>>()
        .join("\n")
}

/// A class that allows what a test declares, so that only what is wrong in itself is refused.
fn wide(workflow: &AIWorkflow) -> AIWorkflowClass {
    let mut class = plan::default_class();
    class.spec.permissions.extend(workflow.rules().iter().cloned());
    for entry in workflow.cross_namespace() {
        class
            .spec
            .cross_namespace_permissions
            .extend(entry.rules.iter().cloned());
    }
    let identity = crate::api::ClassIdentity {
        audiences: vec!["vault".into()],
        max_token_seconds: Some(86_400),
        annotations: workflow
            .spec
            .identity
            .iter()
            .flat_map(|identity| identity.annotations.keys().cloned())
            .collect(),
    };
    class.spec.identity = Some(identity);
    class.spec.cluster = serde_json::from_value(json!({"clusterCIDRs": ["10.0.0.0/8"]})).unwrap();
    class.spec.network = Some(crate::api::ClassNetwork {
        cidrs: vec!["203.0.0.0/16".into()],
        namespaces: ["web", "vectors", "team-a", "team-b"].map(str::to_owned).to_vec(),
        ..crate::api::ClassNetwork::default()
    });
    class
}

#[track_caller]
fn is_accepted(workflow: &AIWorkflow) {
    let facts = NamespaceFacts {
        name: "ml".into(),
        labels: [("ringfence.dev/enforce".to_owned(), "default".to_owned())].into(),
        ..NamespaceFacts::default()
    };
    assert_eq!(facts.mode(), Some(Mode::Enforce));
    let acceptance = plan::accept(workflow, &facts, Some("default"), Some(&wide(workflow)));
    assert!(acceptance.accepted, "{}", acceptance.message);
}

/// Everything at once, as one finds it.
fn brownfield() -> Seen {
    let replica_set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "api-7"}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "nightly-1"}});
    let mut api = pod_spec(
        "api",
        "registry.example.com/team/api@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    );
    api["initContainers"] = json!([container("busybox:1.36")]);
    api["volumes"] = json!([{"name": "a", "secret": {"secretName": "api-key"}}]);
    let mut seen = seen(vec![
        deployment("api", "api"),
        owned_by(replica_set, "Deployment", "api"),
        owned_by(pod("api-7-x", json!({"app": "api"}), api), "ReplicaSet", "api-7"),
        workload(
            "batch/v1",
            "CronJob",
            "nightly",
            json!({"app": "nightly"}),
            json!({"containers": [container("python:3.12")]}),
        ),
        owned_by(job, "CronJob", "nightly"),
        owned_by(
            pod(
                "nightly-1-x",
                json!({"app": "nightly"}),
                json!({"containers": [container("python:3.12")]}),
            ),
            "Job",
            "nightly-1",
        ),
        pod(
            "task",
            json!({"dag_id": "etl"}),
            pod_spec("etl.runner", "docker.io/apache/airflow:3"),
        ),
    ]);
    let mut api = account("api");
    api["metadata"]["annotations"] = json!({"eks.amazonaws.com/role-arn": "arn:x", "meta.helm.sh/release-name": "api", "ringfence.dev/adopt": "api"});
    api["imagePullSecrets"] = json!([{"name": "registry"}]);
    seen.accounts = vec![account("default"), api, account("etl.runner")];
    seen.role_bindings = vec![
        binding("ml", "api-reads", ("Role", "reader"), "api"),
        binding("vectors", "api-searches", ("Role", "search"), "api"),
        binding("ml", "etl-edits", ("ClusterRole", "edit"), "etl.runner"),
    ];
    seen.cluster_role_bindings = vec![binding(
        "",
        "etl-everywhere",
        ("ClusterRole", "cluster-admin"),
        "etl.runner",
    )];
    seen.roles = vec![
        role(
            "ml",
            "reader",
            json!([rule(&["configmaps", "secrets"], &["get", "list"])]),
        ),
        role(
            "vectors",
            "search",
            json!([rule(&["services"], &["get"]), rule(&["pods"], &["get", "create"])]),
        ),
        role(
            "",
            "edit",
            json!([rule(&["pods", "pods/exec"], &["get", "create"]), {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]),
        ),
        role(
            "",
            "cluster-admin",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
        ),
    ];
    seen.policies = vec![policy(
        "api",
        json!({
            "podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}}], "ports": [{"port": 8080}]},
                {"from": [{"namespaceSelector": {}}], "ports": [{"port": 8080}]},
            ],
            "egress": [
                {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
                {"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32"]}}], "ports": [{"port": 443}]},
            ],
        }),
    )];
    seen.services = vec![
        json!({"metadata": {"name": "api"}, "spec": {"selector": {"app": "api"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
    ];
    seen
}

#[test]
fn one_workflow_for_each_account_or_controller() {
    let draft = drafted(&brownfield());
    let found: Vec<_> = draft
        .workflows
        .iter()
        .map(|drafted| {
            (
                drafted.workflow.metadata.name.as_deref().unwrap(),
                drafted.workflow.service_account_name(),
                drafted.adopts,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("api", "api", true),
            ("etl-runner", "etl.runner", true),
            ("nightly", "nightly", false)
        ]
    );
    let images = |index: usize| draft.workflows[index].workflow.spec.images.clone();
    assert_eq!(
        images(0),
        ["docker.io/library/busybox", "registry.example.com/team/api"]
    );
    assert_eq!(images(2), ["docker.io/library/python"]);
    let engines: Vec<_> = draft
        .workflows
        .iter()
        .map(|drafted| drafted.workflow.spec.engine.as_deref())
        .collect();
    assert_eq!(engines, [None, Some("airflow"), Some("job")]);
}

#[test]
fn what_is_drafted_is_valid_and_is_what_its_text_says() {
    let seen = brownfield();
    let options = Options {
        launchers: vec![Launcher {
            user: Some("mia".into()),
            ..Launcher::default()
        }],
        ..Options::default()
    };
    let draft = draft(&seen, &options);
    let text = write(&draft, &["7 pods".into()], &["cannot list roles".into()]).unwrap();
    let read: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let read: Vec<AIWorkflow> = read
        .into_iter()
        .filter(Value::is_object)
        .map(|object| serde_json::from_value(object).unwrap())
        .collect();
    assert_eq!(read.len(), 3, "{text}");
    for (read, drafted) in read.iter().zip(&draft.workflows) {
        assert_eq!(
            (&read.spec, &read.metadata),
            (&drafted.workflow.spec, &drafted.workflow.metadata)
        );
        is_accepted(read);
    }
    assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
    for line in [
        "# Looked at: 7 pods.",
        "# - cannot list roles",
        "#     kubectl annotate serviceaccount api --namespace ml ringfence.dev/adopt=api",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[test]
fn the_same_objects_give_the_same_text_in_whatever_order() {
    let seen = brownfield();
    let mut turned = seen.clone();
    for list in [
        &mut turned.workloads,
        &mut turned.accounts,
        &mut turned.role_bindings,
        &mut turned.roles,
        &mut turned.policies,
    ] {
        list.reverse();
    }
    let text = |seen: &Seen| write(&drafted(seen), &[], &[]).unwrap();
    assert_eq!(text(&seen), text(&turned));
}

#[test]
fn rights_are_declared_as_far_as_they_may_be() {
    let draft = drafted(&brownfield());
    let (api, etl) = (&draft.workflows[0], &draft.workflows[1]);
    let declared = |drafted: &Drafted| serde_json::to_value(&drafted.workflow.spec.permissions).unwrap();
    assert_eq!(
        declared(api),
        json!({
            "rules": [rule(&["configmaps"], &["get", "list"])],
            "crossNamespace": [{"namespace": "vectors", "rules": [rule(&["pods"], &["get"]), rule(&["services"], &["get"])]}],
        })
    );
    for words in [
        "Not declared of Role reader (RoleBinding api-reads): secrets: is a resource that no workflow may touch.",
        "Not declared of Role search (RoleBinding api-searches of namespace vectors): create: on pods would make pods in another namespace.",
        "needs an AIWorkflowGrant",
    ] {
        assert!(said(api).contains(words), "{words}: {}", said(api));
    }
    assert_eq!(declared(etl), json!({"rules": [rule(&["pods"], &["create", "get"])]}));
    for words in [
        "pods/exec",
        "/metrics",
        "apiGroups *, resources *: is a wildcard",
        "Held in the whole cluster today by ClusterRole cluster-admin",
    ] {
        assert!(said(etl).contains(words), "{words}: {}", said(etl));
    }
}

#[rstest]
#[case::of_an_engine(json!([{"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}]), None, "")]
#[case::named_and_nameless(json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "list"]}]),
    Some(json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}]})), "list: cannot be narrowed by resourceNames")]
#[case::group_of_rights(json!([{"apiGroups": ["", "rbac.authorization.k8s.io"], "resources": ["configmaps"], "verbs": ["get"]}]),
    Some(json!({"rules": [rule(&["configmaps"], &["get"])]})), "rbac.authorization.k8s.io: is an API group that no workflow may touch")]
#[case::impersonation(json!([{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}]), None, "impersonate: is not a verb")]
#[case::nothing(json!([{"apiGroups": [], "resources": ["configmaps"], "verbs": ["get"]}]), None, "")]
#[case::twice(json!([rule(&["configmaps"], &["get"]), rule(&["configmaps"], &["get"])]), Some(json!({"rules": [rule(&["configmaps"], &["get"])]})), "")]
fn each_rule_is_taken_apart(#[case] rules: Value, #[case] expected: Option<Value>, #[case] words: &str) {
    let labels = json!({"workflows.argoproj.io/workflow": "x"});
    let mut seen = seen(vec![pod("x", labels, pod_spec("x", "a.example/b"))]);
    seen.role_bindings = vec![binding("ml", "b", ("Role", "r"), "x")];
    seen.roles = vec![role("ml", "r", rules)];
    let drafted = only(&seen);
    let found = drafted
        .workflow
        .spec
        .permissions
        .as_ref()
        .map(|permissions| serde_json::to_value(permissions).unwrap());
    assert_eq!(found, expected);
    assert!(said(&drafted).contains(words), "{words}: {}", said(&drafted));
    is_accepted(&drafted.workflow);
}

#[rstest]
#[case::by_its_user_name(json!({"kind": "User", "name": "system:serviceaccount:ml:api"}), true)]
#[case::without_namespace(json!({"kind": "ServiceAccount", "name": "api"}), true)]
#[case::of_another_namespace(json!({"kind": "ServiceAccount", "name": "api", "namespace": "web"}), false)]
#[case::another(json!({"kind": "ServiceAccount", "name": "web", "namespace": "ml"}), false)]
#[case::of_everybody(json!({"kind": "Group", "name": "system:serviceaccounts:ml"}), false)]
#[case::user_alike(json!({"kind": "User", "name": "system:serviceaccount:ml2:api"}), false)]
fn a_binding_names_an_account_in_two_ways(#[case] subject: Value, #[case] expected: bool) {
    let mut seen = one();
    let mut binding = binding("ml", "b", ("Role", "r"), "x");
    binding["subjects"] = json!([subject]);
    seen.role_bindings = vec![binding];
    seen.roles = vec![role("ml", "r", json!([rule(&["configmaps"], &["get"])]))];
    assert_eq!(only(&seen).workflow.spec.permissions.is_some(), expected);
}

#[test]
fn what_ringfence_made_is_no_news() {
    let mut seen = one();
    let mut binding = binding("ml", "b", ("Role", "r"), "api");
    binding["metadata"]["annotations"] = json!({"ringfence.dev/owner-uid": "1"});
    let mut policy = policy(
        "p",
        json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 1}]}]}),
    );
    policy["metadata"]["annotations"] = json!({"ringfence.dev/owner-uid": "1"});
    (seen.role_bindings, seen.policies) = (vec![binding], vec![policy]);
    seen.roles = vec![role("ml", "r", json!([rule(&["configmaps"], &["get"])]))];
    let spec = only(&seen).workflow.spec;
    assert_eq!((spec.permissions, spec.network), (None, None));
    assert!(roles_of(&seen).is_empty());
}

#[test]
fn policies_become_peers() {
    let draft = drafted(&brownfield());
    let api = &draft.workflows[0];
    assert_eq!(
        serde_json::to_value(&api.workflow.spec.network).unwrap(),
        json!({
            "ingress": [{"name": "api-1", "from": {"pods": {"namespace": "web", "selector": {"matchLabels": {"app": "web"}}}}, "ports": [{"port": 8080}]}],
            "egress": [
                {"name": "api-server", "to": {"apiServer": {}}},
                {"name": "api-1", "to": {"cidrs": ["203.0.113.0/24"], "except": ["203.0.113.7/32"]}, "ports": [{"port": 443}]},
            ],
        })
    );
    for words in [
        "ingress 2: every namespace: name them",
        "The cluster's DNS is open",
        "Services send to it: api (port 8080)",
    ] {
        assert!(said(api).contains(words), "{words}: {}", said(api));
    }
    let nightly = said(&draft.workflows[2]);
    assert!(
        nightly.contains("No NetworkPolicy limits what reaches it today"),
        "{nightly}"
    );
    assert!(
        nightly.contains("No NetworkPolicy limits where it talks today"),
        "{nightly}"
    );
}

#[rstest]
#[case::all_pods(json!({"podSelector": {}}), json!([{"port": 1}]), 0, "every pod of ml: name the pods by label")]
#[case::all_pods_but_some(json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}}), json!([{"port": 1}]), 0, "says only which labels the pods must not have")]
#[case::all_pods_of_a_namespace(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}}), json!([{"port": 1}]), 0, "every pod of web")]
#[case::namespaces_by_label(json!({"namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {"matchLabels": {"a": "b"}}}), json!([{"port": 1}]), 2, "which selects team-a, team-b today")]
#[case::no_such_namespace(json!({"namespaceSelector": {"matchLabels": {"team": "y"}}, "podSelector": {"matchLabels": {"a": "b"}}}), json!([{"port": 1}]), 0, "selects none today")]
#[case::namespaces_by_name(json!({"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["web", "vectors"]}]}, "podSelector": {"matchLabels": {"a": "b"}}}), json!([{"port": 1}]), 2, "")]
#[case::named_port(json!({"ipBlock": {"cidr": "203.0.113.0/24"}}), json!([{"port": "http"}]), 1, "")]
#[case::unknown_port(json!({"ipBlock": {"cidr": "203.0.113.0/24"}}), json!([{"port": "grpc"}]), 0, "the port named \"grpc\": give its number")]
#[case::all_ports(json!({"ipBlock": {"cidr": "203.0.113.0/24"}}), json!([]), 0, "every port: name the ports")]
#[case::all_of_a_protocol(json!({"ipBlock": {"cidr": "203.0.113.0/24"}}), json!([{"protocol": "UDP"}]), 0, "every port of UDP")]
#[case::range(json!({"ipBlock": {"cidr": "203.0.113.0/24"}}), json!([{"port": 1, "endPort": 9, "protocol": "SCTP"}]), 1, "")]
#[case::metadata_service(json!({"ipBlock": {"cidr": "169.254.169.254/32"}}), json!([{"port": 80}]), 0, "is a metadata service")]
#[case::host_bits(json!({"ipBlock": {"cidr": "203.0.113.9/24"}}), json!([{"port": 80}]), 0, "has bits set behind its prefix")]
fn each_peer_is_declared_or_said(
    #[case] peer: Value,
    #[case] ports: Value,
    #[case] expected: usize,
    #[case] words: &str,
) {
    let mut seen = one();
    seen.workloads[0]["spec"]["template"]["spec"]["containers"][0]["ports"] =
        json!([{"name": "http", "containerPort": 8080}]);
    let labelled = |name: &str, team: &str| (name.to_owned(), [("team".to_owned(), team.to_owned())].into());
    seen.namespaces = Some([labelled("team-a", "x"), labelled("team-b", "x"), labelled("web", "z")].into());
    seen.policies = vec![policy(
        "p",
        json!({"podSelector": {}, "ingress": [{"from": [peer], "ports": ports}]}),
    )];
    let drafted = only(&seen);
    let ingress = drafted.workflow.spec.network.clone().unwrap_or_default().ingress;
    assert_eq!(ingress.len(), expected, "{}", said(&drafted));
    assert!(said(&drafted).contains(words), "{words}: {}", said(&drafted));
    is_accepted(&drafted.workflow);
}

#[test]
fn a_rule_without_peers_opens_nothing() {
    let mut seen = one();
    seen.policies = vec![policy(
        "p",
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": 1}]}, {}], "egress": [{}]}),
    )];
    let drafted = only(&seen);
    assert_eq!(drafted.workflow.spec.network, None);
    let said = said(&drafted);
    assert!(said.contains("ingress 1: everybody: name who may reach it"), "{said}");
    assert!(said.contains("egress 1: every port"), "{said}");
}

#[test]
fn an_account_says_who_it_is_elsewhere() {
    let draft = drafted(&brownfield());
    let api = &draft.workflows[0];
    assert_eq!(
        serde_json::to_value(&api.workflow.spec.identity).unwrap(),
        json!({"serviceAccountName": "api", "annotations": {"eks.amazonaws.com/role-arn": "arn:x"}, "imagePullSecrets": [{"name": "registry"}]})
    );
    assert!(
        said(api).contains("Not declared: annotations meta.helm.sh/release-name. Declare them"),
        "{}",
        said(api)
    );
    assert_eq!(
        serde_json::to_value(&api.workflow.spec.secrets).unwrap(),
        json!([{"name": "api-key", "secretRef": {"name": "api-key"}}])
    );
    assert!(
        said(api).contains("Without keys an entry is the whole Secret"),
        "{}",
        said(api)
    );
}

/// The API's account, whose pods take what these containers and volumes say.
fn taking(env: Value, volumes: Value) -> Seen {
    let mut seen = one();
    let spec = &mut seen.workloads[0]["spec"]["template"]["spec"];
    spec["containers"][0]["env"] = env;
    spec["volumes"] = volumes;
    seen
}

fn key(secret: &str, key: &str) -> Value {
    json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
}

#[test]
fn secrets_are_declared_by_key_where_only_keys_are_taken() {
    let items = json!([{"key": "C", "path": "c"}]);
    let volumes = json!([
        {"name": "a", "secret": {"secretName": "openai", "items": items}},
        {"name": "b", "projected": {"sources": [{"secret": {"name": "bundle"}}]}},
        {"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "login"}}},
    ]);
    let env = json!([
        key("openai", "B"),
        key("openai", "A"),
        key("openai", "B"),
        key("bundle", "X")
    ]);
    let only = only(&taking(env, volumes));
    assert_eq!(
        serde_json::to_value(&only.workflow.spec.secrets).unwrap(),
        json!([
            {"name": "bundle", "secretRef": {"name": "bundle"}},
            {"name": "login", "secretRef": {"name": "login"}},
            {"name": "openai", "secretRef": {"name": "openai", "keys": ["A", "B", "C"]}},
        ])
    );
    is_accepted(&only.workflow);
    let seen = taking(json!([key("openai", "A")]), json!([]));
    let draft = write(&drafted(&seen), &[], &[]).unwrap();
    assert!(
        draft.contains("  secrets:\n  - name: openai\n    secretRef:\n      keys:\n      - A\n      name: openai\n"),
        "{draft}"
    );
}

#[test]
fn what_cannot_be_declared_of_secrets_is_said() {
    let many = (0..40).map(|index| key(&format!("s{index:02}"), "A"));
    let odd = [key("No_Secret", "A")].into_iter();
    let keys = (0..40).map(|index| key("a-much", &format!("k{index}")));
    let env: Vec<_> = many.chain(odd).chain(keys).collect();
    let drafted = only(&taking(json!(env), json!([])));
    assert_eq!(drafted.workflow.spec.secrets.len(), 32);
    let said = said(&drafted);
    assert!(said.contains("Secrets No_Secret, s29, s30, s31, s32,"), "{said}");
    let much = drafted.workflow.spec.secrets.iter();
    let much = much.filter(|entry| entry.secret_ref.name == "a-much");
    let much: Vec<_> = much
        .map(|entry| (entry.name.as_str(), entry.secret_ref.keys.iter().flatten().count()))
        .collect();
    assert_eq!(much, [("a-much", 16), ("a-much-2", 16), ("a-much-3", 8)]);
    is_accepted(&drafted.workflow);

    let long = "x".repeat(70);
    let two = [key(&format!("{long}a"), "A"), key(&format!("{long}b"), "A")];
    let drafted = only(&taking(json!(two), json!([])));
    let names: Vec<_> = drafted
        .workflow
        .spec
        .secrets
        .iter()
        .map(|entry| entry.name.clone())
        .collect();
    assert_eq!(names, ["x".repeat(63), format!("{}-2", "x".repeat(61))]);
    is_accepted(&drafted.workflow);
}

#[test]
fn pods_that_pull_by_themselves_have_their_account_do_it() {
    let mut seen = one();
    seen.workloads[0]["spec"]["template"]["spec"]["imagePullSecrets"] =
        json!([{"name": "registry"}, {"name": "mirror"}]);
    seen.accounts[0]["imagePullSecrets"] = json!([{"name": "registry"}]);
    let drafted = only(&seen);
    let identity = drafted.workflow.spec.identity.clone().unwrap();
    let names: Vec<_> = identity
        .image_pull_secrets
        .iter()
        .map(|secret| secret.name.as_str())
        .collect();
    assert_eq!(names, ["mirror", "registry"]);
    assert!(
        said(&drafted).contains("pull secrets mirror themselves. Put them into imagePullSecrets of the account"),
        "{}",
        said(&drafted)
    );
    assert_eq!(drafted.workflow.spec.secrets, [], "to pull with is not to read");
    is_accepted(&drafted.workflow);
}

#[test]
fn tokens_for_others_and_what_keeps_an_account_from_joining_are_said() {
    let mut seen = one();
    let token = |audience: &str, seconds: Value| json!({"serviceAccountToken": {"audience": audience, "expirationSeconds": seconds, "path": "t"}});
    let sources = [
        token("vault", json!(600)),
        token("vault", json!(7200)),
        token("", json!(3600)),
    ];
    seen.workloads[0]["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "tokens", "projected": {"sources": sources}}]);
    seen.accounts[0]["secrets"] = json!([{"name": "api-token-x"}]);
    seen.accounts[0]["metadata"]["ownerReferences"] = json!([{"kind": "Release"}]);
    let drafted = only(&seen);
    let identity = serde_json::to_value(&drafted.workflow.spec.identity).unwrap();
    assert_eq!(
        identity["audiences"],
        json!([{"audience": "vault", "maxExpirationSeconds": 7200}])
    );
    for words in [
        "Secrets api-token-x: tokens without an end",
        "The account has ownerReferences",
    ] {
        assert!(said(&drafted).contains(words), "{words}: {}", said(&drafted));
    }
    is_accepted(&drafted.workflow);
}

#[test]
fn pods_are_put_together_as_asked_and_no_account_is_shared() {
    let labelled = |name: &str, account: &str, part: &str| {
        let spec = pod_spec(account, "a.example/b");
        workload("apps/v1", "Deployment", name, json!({"part-of": part}), spec)
    };
    let mut seen = seen(vec![
        labelled("one", "shared", "rag"),
        labelled("two", "default", "rag"),
        labelled("three", "shared", "chat"),
        labelled("four", "shared", "other"),
    ]);
    seen.accounts = vec![account("shared"), account("rag")];
    let group = |value: &str| ("part-of".to_owned(), value.to_owned());
    let options = Options {
        groups: vec![group("rag"), group("chat"), group("nobody")],
        ..Options::default()
    };
    let draft = draft(&seen, &options);
    let found: Vec<_> = draft
        .workflows
        .iter()
        .map(|drafted| {
            (
                drafted.workflow.metadata.name.clone().unwrap(),
                drafted.workflow.service_account_name().to_owned(),
            )
        })
        .collect();
    let expected = [("chat", "shared"), ("rag", "rag-2"), ("shared", "shared-2")];
    assert_eq!(
        found,
        expected.map(|(name, account)| (name.to_owned(), account.to_owned()))
    );
    assert!(
        said(&draft.workflows[1]).contains("run as ServiceAccount default, shared today"),
        "{}",
        said(&draft.workflows[1])
    );
    assert!(
        draft.left_out.iter().any(|line| line.contains("part-of=nobody")),
        "{:?}",
        draft.left_out
    );
}

#[test]
fn what_is_declared_already_is_left_out() {
    let mut seen = seen(vec![
        deployment("api", "api"),
        pod(
            "x",
            json!({"ringfence.dev/workflow": "other"}),
            pod_spec("x", "a.example/b"),
        ),
    ]);
    let there = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "api"}, "spec": {"launchers": [], "images": ["a.example/b"]}});
    seen.workflows = vec![serde_json::from_value(there).unwrap()];
    let draft = drafted(&seen);
    assert_eq!((draft.workflows.len(), draft.left_out.len()), (0, 2), "{draft:?}");
    let text = write(&draft, &[], &[]).unwrap();
    assert!(text.contains("# There is nothing to declare."), "{text}");
}

#[test]
fn names_are_short_plain_and_nobody_elses() {
    let long = "a.".repeat(30) + "b";
    let mut seen = seen(vec![
        deployment("x", &long),
        deployment("y", &long.replace('.', "-")),
        deployment("z", "z"),
    ]);
    let there = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "z"},
        "spec": {"launchers": [], "images": ["a.example/b"], "identity": {"serviceAccountName": "other"}}});
    seen.workflows = vec![serde_json::from_value(there).unwrap()];
    let draft = drafted(&seen);
    let names: Vec<_> = draft
        .workflows
        .iter()
        .map(|drafted| drafted.workflow.metadata.name.clone().unwrap())
        .collect();
    assert_eq!((names.len(), names[2].as_str()), (3, "z-2"), "{names:?}");
    assert!(
        names[0] != names[1] && names.iter().all(|name| name.len() <= 40),
        "{names:?}"
    );
    for drafted in &draft.workflows {
        is_accepted(&drafted.workflow);
    }
}

#[test]
fn bounds_are_said_aloud() {
    let mut seen = seen((0..100).map(|n| deployment(&format!("d{n}"), "default")).collect());
    let draft = drafted(&seen);
    assert_eq!(draft.workflows.len(), MAX_WORKFLOWS);
    assert!(
        draft.left_out[0].starts_with("36 of 100 workflows"),
        "{:?}",
        draft.left_out
    );

    seen.workloads = (0..100)
        .map(|n| {
            pod(
                &format!("p{n}"),
                json!({}),
                pod_spec("x", &format!("a.example/i{n:03}")),
            )
        })
        .collect();
    seen.role_bindings = vec![binding("ml", "b", ("Role", "r"), "x")];
    seen.roles = vec![role(
        "ml",
        "r",
        (0..50).map(|n| rule(&[&format!("r{n:02}")], &["get"])).collect(),
    )];
    let opening = |n: i32| json!({"from": [{"ipBlock": {"cidr": format!("203.0.{n}.0/24")}}], "ports": (1..=40).map(|port| json!({"port": port})).collect::<Value>()});
    seen.policies = vec![policy(
        "p",
        json!({"podSelector": {}, "ingress": (0..50).map(opening).collect::<Value>()}),
    )];
    let drafted = only(&seen);
    let spec = &drafted.workflow.spec;
    assert_eq!(
        (spec.images.len(), spec.permissions.as_ref().unwrap().rules.len()),
        (64, 32)
    );
    assert_eq!(spec.network.as_ref().unwrap().ingress.len(), 64);
    for words in [
        "64 is the most",
        "18 more rules",
        "64 rules are the most",
        "in rules of 32 each",
    ] {
        assert!(said(&drafted).contains(words), "{words}: {}", said(&drafted));
    }
    is_accepted(&drafted.workflow);
}

#[test]
fn an_image_that_cannot_be_read_is_said_and_none_is_not_all() {
    let drafted = only(&seen(vec![
        deployment("api", "api"),
        pod("p", json!({}), pod_spec("api", "Registry.Example.com/API")),
    ]));
    assert_eq!(drafted.workflow.spec.images, ["registry.example.com/team/api"]);
    assert!(
        said(&drafted).contains("Registry.Example.com/API: upper case"),
        "{}",
        said(&drafted)
    );
    let drafted = only(&seen(vec![pod("p", json!({}), pod_spec("api", ""))]));
    assert_eq!(drafted.workflow.spec.images, ["registry.invalid/name-the-image"]);
    is_accepted(&drafted.workflow);
}

#[test]
fn no_name_ends_a_comment() {
    let mut seen = one();
    seen.workloads[0]["metadata"]["name"] = json!("x\nkind: Secret\u{2028}\u{85}y");
    seen.accounts[0]["metadata"]["annotations"] = json!({"a\n---\nb": "c"});
    let text = write(&drafted(&seen), &["a\nb: c".into()], &["d\r\ne: f".into()]).unwrap();
    let read: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    assert_eq!(read.iter().filter(|object| object.is_object()).count(), 1, "{text}");
    for line in text.lines() {
        assert!(
            !line.starts_with("kind: Secret") && !line.starts_with("b: c") && !line.starts_with("e: f"),
            "{text}"
        );
    }
}

/// Whoever drafts again after applying the draft must not get every workflow twice.
#[test]
fn what_was_drafted_before_is_not_drafted_again_under_another_name() {
    let before = seen(vec![deployment("api", "default")]);
    let first = only(&before);
    assert_eq!(first.workflow.metadata.name.as_deref(), Some("api"));
    let after = Seen {
        workflows: vec![first.workflow],
        ..before
    };
    let again = drafted(&after);
    assert!(again.workflows.is_empty(), "{again:?}");
    let told = again.left_out.join("\n");
    assert!(
        told.contains("Deployment/api: AIWorkflow api is declared already"),
        "{told}"
    );
}
