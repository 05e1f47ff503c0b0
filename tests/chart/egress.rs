//! The egress proxy, as the chart makes it: not there unless wanted, as closed as the rest, and found by what Ringfence opens to it.

use std::collections::BTreeSet;

use ringfence::api::{AIWorkflow, AIWorkflowClass};
use ringfence::egress;
use ringfence::plan::{Change, EGRESS_DNS_PORT, EGRESS_PROXY, EGRESS_PROXY_PORT, NamespaceFacts, Observed, plan};
use serde_json::{Value, json};
use support::network::{Pod, Scene, Simulator, open_paths};

use crate::chart::{RELEASE, helm, render};
use crate::rendered::{of_kind, strings};

const ON: &str = "egress.enabled=true";
const MONITORED: [&str; 2] = ["--api-versions", "monitoring.coreos.com/v1/ServiceMonitor"];

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Policies that Ringfence writes for a workflow with a domain and every address of the world, under a class that says this of its DNS.
fn planned(dns: &Value) -> Vec<Value> {
    let spec = json!({
        "images": {"allowed": ["**"]},
        "network": {"domains": ["*"], "cidrs": ["0.0.0.0/0", "::/0"]},
        "cluster": {"clusterCIDRs": ["10.1.0.0/16"], "dns": dns},
    });
    let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "c"}, "spec": spec});
    let egress = json!([
        {"name": "a", "to": {"domains": ["api.example.com"]}, "ports": [{"port": 443}]},
        {"name": "b", "to": {"cidrs": ["0.0.0.0/0", "::/0"]}, "ports": [{"port": 443}]},
    ]);
    let spec = json!({"launchers": [], "images": ["a.example/b"], "network": {"egress": egress}});
    let metadata = json!({"name": "asker", "namespace": "ai", "uid": "u"});
    let workflow =
        json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": metadata, "spec": spec});
    let workflow: AIWorkflow = serde_json::from_value(workflow).unwrap();
    let class: AIWorkflowClass = serde_json::from_value(class).unwrap();
    let observed = Observed {
        namespace: NamespaceFacts {
            name: "ai".to_owned(),
            uid: "n".to_owned(),
            labels: [("ringfence.dev/enforce".to_owned(), "c".to_owned())].into(),
            ..NamespaceFacts::default()
        },
        class: Some(class),
        egress_proxy: Some(RELEASE.to_owned()),
        ..Observed::default()
    };
    let plan = plan(&workflow, &observed);
    assert!(plan.acceptance.accepted, "{}", plan.acceptance.message);
    let made = plan.changes.into_iter().filter_map(|change| match change {
        Change::Create(_, object) if object["kind"] == "NetworkPolicy" => Some(object),
        _ => None,
    });
    made.collect()
}

#[tokio::test]
async fn it_is_there_only_where_it_is_wanted_and_the_operator_knows() {
    for (values, is_there) in [(&[] as &[&str], false), (&[ON], true)] {
        let objects = render(values).await;
        let of_it = |object: &&Value| {
            let name = object["metadata"]["name"].as_str().unwrap();
            name.starts_with(EGRESS_PROXY)
        };
        let mut kinds: Vec<_> = objects
            .iter()
            .filter(of_it)
            .map(|object| object["kind"].as_str().unwrap())
            .collect();
        kinds.sort_unstable();
        let expected = [
            "ClusterRole",
            "ClusterRoleBinding",
            "Deployment",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "Service",
            "ServiceAccount",
        ];
        assert_eq!(kinds, if is_there { &expected[..] } else { &[] });
        let operator = &named(&objects, "Deployment", "ringfence")["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(strings(&operator["args"]).contains(&"--egress-proxy"), is_there);
        let subjects = named(&objects, "FlowSchema", "ringfence")["spec"]["rules"][0]["subjects"]
            .as_array()
            .unwrap();
        assert_eq!(subjects.len(), 1 + usize::from(is_there));
    }
}

/// The right to write another engine's policies is there where somebody asked for it, and is one rule more.
#[tokio::test]
async fn the_operator_writes_policies_of_plugins_only_where_it_is_let() {
    const OWN: &str = "ringfence-own-cluster-network-policies";
    let cases = [
        (
            "egress.cilium.enabled=true",
            "--egress-cilium",
            "cilium.io",
            "ciliumnetworkpolicies",
        ),
        (
            "egress.clusterNetworkPolicy.enabled=true",
            "--egress-cluster-network-policy",
            "policy.networking.k8s.io",
            "clusternetworkpolicies",
        ),
    ];
    for (value, flag, group, resource) in cases {
        let wanted = json!({
            "apiGroups": [group], "resources": [resource],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
        });
        let mut rules = Vec::new();
        for (values, is_let) in [(&[] as &[&str], false), (&[value], true)] {
            let objects = render(values).await;
            let operator = &named(&objects, "Deployment", "ringfence")["spec"]["template"]["spec"]["containers"][0];
            assert_eq!(strings(&operator["args"]).contains(&flag), is_let);
            let role = named(&objects, "ClusterRole", "ringfence");
            rules.push(role["rules"].as_array().unwrap().clone());
            let proxy = objects
                .iter()
                .filter(|object| object["metadata"]["name"] == EGRESS_PROXY);
            assert_eq!(proxy.count(), 0, "one needs not the other");
            // What narrows the right comes with it, and Ringfence may not write that.
            let narrows = objects.iter().filter(|object| object["metadata"]["name"] == OWN);
            let is_narrowed = is_let && resource == "clusternetworkpolicies";
            assert_eq!(narrows.count(), if is_narrowed { 2 } else { 0 });
            assert!(!role["rules"].to_string().contains(OWN));
        }
        let [without, mut with] = <[_; 2]>::try_from(rules).unwrap();
        let before = with.len();
        with.retain(|rule| *rule != wanted);
        assert_eq!(with.len(), before - 1);
        assert_eq!(with, without);
    }
}

/// And the operator may read where it is: that one Service, and only where it is.
#[tokio::test]
async fn the_operator_reads_its_address_and_no_other_service() {
    let wanted =
        json!({"apiGroups": [""], "resources": ["services"], "resourceNames": [EGRESS_PROXY], "verbs": ["get"]});
    let mut rules = Vec::new();
    for values in [&[] as &[&str], &[ON]] {
        let objects = render(values).await;
        rules.push(
            named(&objects, "Role", "ringfence")["rules"]
                .as_array()
                .unwrap()
                .clone(),
        );
    }
    let [without, mut with] = <[_; 2]>::try_from(rules).unwrap();
    let before = with.len();
    with.retain(|rule| *rule != wanted);
    assert_eq!(with.len(), before - 1);
    assert_eq!(with, without);
}

/// Names are asked at the Service's usual port; the pods listen where no privilege is needed. A pod under ClusterOnly reaches that, and no other
/// DNS.
#[tokio::test]
async fn pods_ask_it_for_names_and_no_dns_beside_it() {
    let objects = render(&[ON]).await;
    let service = named(&objects, "Service", EGRESS_PROXY);
    let container = &named(&objects, "Deployment", EGRESS_PROXY)["spec"]["template"]["spec"]["containers"][0];
    for protocol in ["UDP", "TCP"] {
        let ports = service["spec"]["ports"].as_array().unwrap();
        let port = ports
            .iter()
            .find(|port| port["port"] == 53 && port["protocol"] == protocol)
            .unwrap();
        let ports = container["ports"].as_array().unwrap();
        let target = ports.iter().find(|own| own["name"] == port["targetPort"]).unwrap();
        assert_eq!(
            (&target["containerPort"], &target["protocol"]),
            (&json!(EGRESS_DNS_PORT), &json!(protocol))
        );
    }
    let labels = named(&objects, "Deployment", EGRESS_PROXY)["spec"]["template"]["metadata"]["labels"]
        .as_object()
        .unwrap();
    let mut proxy = Pod::new(RELEASE, "proxy", &[], "10.1.0.1");
    proxy.labels = labels
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let pods = vec![
        proxy,
        Pod::new("ai", "asker", &[("ringfence.dev/workflow", "asker")], "10.1.1.1"),
        Pod::new("shop", "web", &[], "10.1.3.1"),
        Pod::new("kube-system", "dns", &[("k8s-app", "kube-dns")], "10.1.2.1"),
    ];
    let scene = Scene::of(
        pods,
        &["169.254.20.10", "203.0.113.7"],
        [53, EGRESS_DNS_PORT, EGRESS_PROXY_PORT],
    );
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "ringfence", "namespace": "ai"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    });
    let mut policies: Vec<Value> = of_kind(&objects, "NetworkPolicy").into_iter().cloned().collect();
    policies.push(deny);
    policies.extend(planned(&json!({"mode": "ClusterOnly"})));
    let matrix = Simulator::start().unwrap().ask(&scene, &policies).unwrap();
    let open = open_paths(&scene, &matrix);
    let from = |pod: &str| -> BTreeSet<&str> {
        open.iter()
            .filter_map(|path| path.strip_prefix(pod)?.strip_prefix(" -> "))
            .collect()
    };
    let of_proxy = ["1053/TCP", "1053/UDP", "3128/TCP"].map(|port| format!("{RELEASE}/proxy:{port}"));
    assert_eq!(from("ai/asker"), of_proxy.iter().map(String::as_str).collect());
    // One socket hears all questions: who is no workflow's does not fill it.
    let of_stranger: Vec<&str> = from("shop/web")
        .into_iter()
        .filter(|path| path.starts_with(&format!("{RELEASE}/proxy:")))
        .collect();
    assert_eq!(of_stranger, [format!("{RELEASE}/proxy:3128/TCP")]);
    let of_dns = from("ringfence-system/proxy");
    assert!(
        of_dns.contains("kube-system/dns:53/UDP") && of_dns.contains("kube-system/dns:53/TCP"),
        "{of_dns:?}"
    );
}

/// What it may do is counted here, so that it cannot grow unseen.
#[tokio::test]
async fn it_reads_pods_policies_namespaces_and_classes_and_nothing_else() {
    let objects = render(&[ON]).await;
    let account = json!([{"kind": "ServiceAccount", "name": EGRESS_PROXY, "namespace": RELEASE}]);
    let bindings = objects
        .iter()
        .filter(|object| object["kind"].as_str().unwrap().ends_with("RoleBinding"));
    let own: Vec<&Value> = bindings.filter(|binding| binding["subjects"] == account).collect();
    let [binding] = own.as_slice() else { panic!("{own:?}") };
    assert_eq!(binding["roleRef"]["name"], EGRESS_PROXY);
    assert_eq!(binding["roleRef"]["kind"], "ClusterRole");
    let read = json!(["get", "list", "watch"]);
    assert_eq!(
        named(&objects, "ClusterRole", EGRESS_PROXY)["rules"],
        json!([
            {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": read},
            {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": read},
            {"apiGroups": ["ringfence.dev"], "resources": ["aiworkflowclasses"], "verbs": ["list", "watch"]},
        ])
    );
    // Whoever has tokens count lets it have them checked, and nothing else.
    let review = json!({"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]});
    let usual = named(&objects, "ClusterRole", EGRESS_PROXY)["rules"]
        .as_array()
        .unwrap()
        .clone();
    for (tokens, flag) in [("Checked", "--tokens=checked"), ("Required", "--tokens=required")] {
        let objects = render(&[ON, &format!("egress.tokens={tokens}")]).await;
        let rules = named(&objects, "ClusterRole", EGRESS_PROXY)["rules"]
            .as_array()
            .unwrap();
        assert_eq!(*rules, [&usual[..], std::slice::from_ref(&review)].concat());
        let container = &named(&objects, "Deployment", EGRESS_PROXY)["spec"]["template"]["spec"]["containers"][0];
        assert!(strings(&container["args"]).contains(&flag));
    }
    let labels = named(&objects, "ClusterRole", EGRESS_PROXY)["metadata"]["labels"]
        .as_object()
        .unwrap();
    assert!(
        labels.keys().all(|key| !key.contains("ringfence.dev/")),
        "it joins no ceiling: {labels:?}"
    );
}

/// As the operator's: neither image, nor rank, nor what a container may do is another.
#[tokio::test]
async fn its_pods_are_restricted_and_are_no_replicas_of_the_webhook() {
    let values = [
        ON,
        "egress.replicas=3",
        "egress.allowPrivateAnswers={10.9.0.0/16,fd00:9::/64}",
        "egress.refuseAnswers={203.0.113.0/24}",
        "egress.terminationGracePeriodSeconds=100",
        "egress.clusterIP=10.96.0.31",
        "clusterDomain=cluster.example",
        "egress.clusterDomains={clusterset.local,cluster.example}",
        "egress.nameservers={10.96.0.10,fd00::10,[fd00::11]:5353}",
        "imagePullSecrets[0].name=mirror",
        "image.registry=mirror.example.com",
        "podLabels.mesh=off",
        "podAnnotations.example\\.com/scrape=yes",
        "nodeSelector.pool=platform",
        "logFormat=text",
    ];
    let objects = render(&values).await;
    let (proxy, operator) = (
        named(&objects, "Deployment", EGRESS_PROXY),
        named(&objects, "Deployment", "ringfence"),
    );
    let (own, of_operator) = (
        &proxy["spec"]["template"]["spec"],
        &operator["spec"]["template"]["spec"],
    );
    for field in [
        "securityContext",
        "imagePullSecrets",
        "priorityClassName",
        "enableServiceLinks",
        "nodeSelector",
    ] {
        assert_eq!(own[field], of_operator[field], "{field}");
    }
    let (container, of_operator) = (&own["containers"][0], &of_operator["containers"][0]);
    for field in ["image", "imagePullPolicy", "securityContext"] {
        assert_eq!(container[field], of_operator[field], "{field}");
    }
    assert!(container["resources"]["limits"].get("cpu").is_none());
    assert_eq!(own["serviceAccountName"], EGRESS_PROXY);
    assert_eq!(proxy["spec"]["replicas"], 3);
    let names_domain = |argument: &&str| argument.starts_with("--cluster-domain");
    let of_operator: Vec<_> = strings(&of_operator["args"]).into_iter().filter(names_domain).collect();
    assert_eq!(
        of_operator,
        ["--cluster-domain=cluster.example", "--cluster-domain=clusterset.local"],
        "what the proxy takes for the cluster's is no domain to declare"
    );
    assert_eq!(
        strings(&container["args"]),
        [
            "egress",
            "--listen=[::]:3128",
            "--dns-listen=[::]:1053",
            "--metrics-listen=[::]:8080",
            "--cluster-domain=cluster.example",
            "--cluster-domain=clusterset.local",
            "--nameserver=10.96.0.10",
            "--nameserver=fd00::10",
            "--nameserver=[fd00::11]:5353",
            "--allow-private-answers=10.9.0.0/16",
            "--allow-private-answers=fd00:9::/64",
            "--refuse-answers=203.0.113.0/24",
            "--drain-timeout=85s",
            "--log-format=text",
        ]
    );
    let labels = &proxy["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        (&labels["mesh"], &labels["app.kubernetes.io/name"]),
        (&json!("off"), &json!(EGRESS_PROXY))
    );
    assert_eq!(
        proxy["spec"]["template"]["metadata"]["annotations"],
        json!({"example.com/scrape": "yes"})
    );
    let selects = |selector: &Value, labels: &Value| {
        selector
            .as_object()
            .unwrap()
            .iter()
            .all(|(key, value)| labels[key] == *value)
    };
    let webhook = named(&objects, "Service", "ringfence-webhook");
    assert!(
        !selects(&webhook["spec"]["selector"], labels),
        "it would be asked for reviews"
    );
    assert!(!selects(&operator["spec"]["selector"]["matchLabels"], labels));
    let service = named(&objects, "Service", EGRESS_PROXY);
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.31");
    assert_eq!(service["spec"]["ports"][0]["port"], EGRESS_PROXY_PORT);
    let budget = named(&objects, "PodDisruptionBudget", EGRESS_PROXY);
    let mut selectors = vec![
        &service["spec"]["selector"],
        &budget["spec"]["selector"]["matchLabels"],
        &proxy["spec"]["selector"]["matchLabels"],
        &named(&objects, "NetworkPolicy", EGRESS_PROXY)["spec"]["podSelector"]["matchLabels"],
    ];
    let spread = own["topologySpreadConstraints"].as_array().unwrap();
    selectors.extend(
        spread
            .iter()
            .map(|constraint| &constraint["labelSelector"]["matchLabels"]),
    );
    assert_eq!(selectors.len(), 6);
    for selector in selectors {
        assert!(selects(selector, labels), "{selector}");
        assert!(
            !selects(selector, &operator["spec"]["template"]["metadata"]["labels"]),
            "{selector}"
        );
    }
    let alone = render(&[ON, "egress.replicas=1"]).await;
    let budgets = alone.iter().filter(|object| object["kind"] == "PodDisruptionBudget");
    assert_eq!(budgets.count(), 1, "a drain would wait for ever");
}

/// Questions go by UDP, which nothing else of its policy opens to an address: without this a resolver that is named would never be asked.
#[tokio::test]
async fn the_way_to_each_resolver_that_is_named_is_open() {
    let opened = async |more: &[&str]| -> Vec<Value> {
        let objects = render(&[&[ON], more].concat()).await;
        let policy = named(&objects, "NetworkPolicy", EGRESS_PROXY);
        policy["spec"]["egress"].as_array().unwrap().clone()
    };
    let usual = opened(&[]).await;
    let with = opened(&["egress.nameservers={10.9.0.10,10.9.0.11:5300,[fd00::11]:5301}"]).await;
    let (same, added) = with.split_at(usual.len());
    assert_eq!(same, usual);
    let way = |cidr: &str, port: u16| {
        json!({
            "ports": [{"port": port, "protocol": "UDP"}, {"port": port, "protocol": "TCP"}],
            "to": [{"ipBlock": {"cidr": cidr}}],
        })
    };
    assert_eq!(
        added,
        [
            way("10.9.0.10/32", 53),
            way("10.9.0.11/32", 5300),
            way("fd00::11/128", 5301),
        ]
    );
}

#[tokio::test]
async fn its_values_are_checked() {
    for value in [
        "egress.nope=1",
        "egress.enabled=maybe",
        "egress.cilium=true",
        "egress.cilium.enabled=maybe",
        "egress.clusterNetworkPolicy.enabled=maybe",
        "egress.clusterNetworkPolicy.priority=1",
        "egress.replicas=0",
        "egress.clusterIP=None",
        "egress.clusterDomains=cluster.local",
        "egress.tokens=required",
        "egress.clusterDomains={local}",
        "egress.clusterDomains={.cluster.local}",
        "egress.nameservers=10.96.0.10",
        "egress.nameservers={dns.example.com}",
        "egress.nameservers={10.96.0.10/32}",
        "egress.nameservers={fd00::10]:53}",
        "egress.nameservers={10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4}",
        "egress.allowPrivateAnswers={10.9.0.0}",
        "egress.refuseAnswers={example.com}",
        "egress.terminationGracePeriodSeconds=19",
        "egress.resources.nope=1",
    ] {
        let refusal = helm(&["template", "ringfence"], &[value]).await.expect_err(value);
        assert!(
            refusal.contains("don't meet the specifications of the schema"),
            "{value}: {refusal}"
        );
    }
}

#[tokio::test]
async fn its_metrics_are_read_beside_the_operators() {
    let source = [&["template", "ringfence"][..], &MONITORED].concat();
    let objects = crate::chart::objects(&helm(&source, &[ON]).await.unwrap());
    let monitors = of_kind(&objects, "ServiceMonitor");
    assert_eq!(monitors.len(), 2);
    for monitor in monitors {
        let selector = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let services = of_kind(&objects, "Service").into_iter();
        let selected: Vec<_> = services
            .filter(|service| {
                selector
                    .iter()
                    .all(|(key, value)| service["metadata"]["labels"][key] == *value)
            })
            .map(|service| service["metadata"]["name"].as_str().unwrap())
            .collect();
        let name = monitor["metadata"]["name"].as_str().unwrap();
        assert_eq!(selected, [format!("{name}-metrics")]);
        let service = named(&objects, "Service", selected[0]);
        let deployment = named(&objects, "Deployment", name);
        for (key, value) in service["spec"]["selector"].as_object().unwrap() {
            assert_eq!(deployment["spec"]["template"]["metadata"]["labels"][key], *value);
        }
    }
}

/// A fenced pod reaches the proxy, and nothing else that its domains would need; the proxy reaches the world but for what hands out
/// credentials, here and in what a workflow declares by ranges alike.
#[tokio::test]
async fn pods_reach_it_and_it_reaches_the_world() {
    const API_SERVER: &str = "192.0.2.10";
    const ELSEWHERE: &str = "203.0.113.7";
    const METADATA: [&str; 4] = ["169.254.169.254", "169.254.170.2", "100.96.0.96", "fd00:ec2::254"];
    let objects = render(&[ON]).await;
    let labels = |name: &str| -> Vec<(String, String)> {
        let labels = named(&objects, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
            .as_object()
            .unwrap();
        labels
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
            .collect()
    };
    let pod = |name: &str, deployment: &str, ip: &str| {
        let mut pod = Pod::new(RELEASE, name, &[], ip);
        pod.labels = labels(deployment).into_iter().collect();
        pod
    };
    let pods = vec![
        pod("proxy", EGRESS_PROXY, "10.1.0.1"),
        pod("operator", "ringfence", "10.1.0.2"),
        Pod::new("ai", "asker", &[("ringfence.dev/workflow", "asker")], "10.1.1.1"),
        Pod::new("shop", "web", &[], "10.1.1.2"),
        Pod::new("kube-system", "dns", &[("k8s-app", "kube-dns")], "10.1.2.1"),
    ];
    let addresses = [&[API_SERVER, ELSEWHERE][..], &METADATA].concat();
    let scene = Scene::of(pods, &addresses, [53, 80, 443, 3128, 6443, 8080, 9443]);
    let written = planned(&Value::Null);
    let way = written
        .iter()
        .find(|policy| policy["metadata"]["annotations"].get(egress::ANNOTATION).is_some());
    let way = way.expect("a way to domains").clone();
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "ringfence", "namespace": "ai"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    });
    let mut policies: Vec<Value> = objects
        .iter()
        .filter(|object| object["kind"] == "NetworkPolicy")
        .cloned()
        .collect();
    policies.extend([way, deny]);
    let matrix = Simulator::start().unwrap().ask(&scene, &policies).unwrap();
    let open = open_paths(&scene, &matrix);
    let from = |pod: &str| -> BTreeSet<&str> {
        open.iter()
            .filter_map(|path| path.strip_prefix(pod)?.strip_prefix(" -> "))
            .collect()
    };
    assert_eq!(from("ai/asker"), BTreeSet::from(["ringfence-system/proxy:3128/TCP"]));
    assert!(
        from("shop/web").contains("ringfence-system/proxy:3128/TCP"),
        "who it is, is told by the pod that calls"
    );
    assert!(!from("shop/web").contains("ringfence-system/operator:3128/TCP"));
    let world = from("ringfence-system/proxy");
    for path in [
        format!("{ELSEWHERE}:80/TCP"),
        format!("{ELSEWHERE}:8080/TCP"),
        format!("{API_SERVER}:6443/TCP"),
        format!("{API_SERVER}:443/TCP"),
        "kube-system/dns:53/UDP".to_owned(),
    ] {
        assert!(world.contains(path.as_str()), "{path}: {world:?}");
    }
    for address in METADATA {
        for port in [80, 8080] {
            assert!(!world.contains(format!("{address}:{port}/TCP").as_str()), "{address}");
        }
    }
    assert!(
        world
            .iter()
            .all(|path| path.ends_with("/TCP") || *path == "kube-system/dns:53/UDP"),
        "{world:?}"
    );

    // What a workflow's own ranges leave out, the proxy's leave out.
    let excepts = |spec: &Value| -> BTreeSet<String> {
        let rules = spec["egress"].as_array().unwrap().iter();
        let peers = rules.flat_map(|rule| rule["to"].as_array().into_iter().flatten());
        let except = peers.flat_map(|peer| peer["ipBlock"]["except"].as_array().into_iter().flatten());
        except.map(|range| range.as_str().unwrap().to_owned()).collect()
    };
    let mut of_workflow: BTreeSet<String> = written.iter().flat_map(|policy| excepts(&policy["spec"])).collect();
    of_workflow.retain(|range| range != "10.1.0.0/16" && range != "64:ff9b::a01:0/112");
    assert_eq!(
        excepts(&named(&objects, "NetworkPolicy", EGRESS_PROXY)["spec"]),
        of_workflow
    );
}
