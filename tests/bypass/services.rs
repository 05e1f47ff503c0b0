//! Door: traffic into a fenced namespace, or names in it that lead out, beside its NetworkPolicies.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::network::{Pod, Scene, Simulator, open_paths};
use support::{eventually, unique};

use crate::attackers::{forbidden, scan_report, told};
use crate::world::{SOON, World, all, one, own, workflow};

fn services(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services")
}

fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

fn service(spec: Value) -> Value {
    let mut whole = json!({"selector": {"ringfence.dev/workflow": "triage"}, "ports": [{"port": 80}]});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"metadata": {"name": unique("service")}, "spec": whole})
}

fn slice(service: &str) -> Value {
    json!({
        "metadata": {"name": unique("slice"), "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["203.0.113.7"]}], "ports": [{"port": 80}],
    })
}

/// Made so, or turned into it.
///
/// Held by: `closed-service`
#[tokio::test]
async fn a_tenant_opens_the_workflow_by_a_service() {
    let world = World::shared().await;
    let ns = &world.enforced("opened").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let made = world.tess.post(&services(ns), &service(json!({}))).await.ok();
    let path = format!("{}/{}", services(ns), made["metadata"]["name"].as_str().unwrap());
    for attacker in [&edith, &world.tess, &world.admin] {
        for (spec, field) in [
            (json!({"type": "NodePort"}), "spec.type = \"NodePort\""),
            (json!({"type": "LoadBalancer"}), "spec.type = \"LoadBalancer\""),
            (
                json!({"externalIPs": ["203.0.113.7"]}),
                "spec.externalIPs = \"203.0.113.7\"",
            ),
            (json!({"selector": null}), "spec.selector"),
            // Beside a type that has no use for it, and for whoever believes it.
            (
                json!({"externalName": "evil.example"}),
                "spec.externalName = \"evil.example\"",
            ),
        ] {
            let answer = attacker.post(&services(ns), &service(spec.clone())).await;
            let message = answer.refused_by("closed-service");
            assert!(message.contains(field), "{field} is missing in: {message}");
            attacker
                .patch(&path, &json!({"spec": spec}))
                .await
                .refused_by("closed-service");
        }
        let elsewhere = json!({"metadata": {"name": unique("name")}, "spec": {"type": "ExternalName", "externalName": "evil.example"}});
        attacker
            .post(&services(ns), &elsewhere)
            .await
            .refused_by("closed-service");
        let turned = json!({"spec": {"type": "ExternalName", "externalName": "evil.example", "clusterIP": null, "clusterIPs": null}});
        attacker.patch(&path, &turned).await.refused_by("closed-service");
    }
    // What a workflow needs: an address of its own, with or without one in the cluster, and changes of its ports.
    world
        .tess
        .post(&services(ns), &service(json!({"clusterIP": "None"})))
        .await
        .ok();
    world
        .tess
        .patch(&path, &json!({"spec": {"ports": [{"port": 81}]}}))
        .await
        .ok();
    let plain = &world.namespace("plain", &json!({})).await;
    world
        .tess
        .post(
            &services(plain),
            &service(json!({"type": "NodePort", "selector": null})),
        )
        .await
        .ok();
}

/// Held by: `foreign-endpoints`, `RBAC`
#[tokio::test]
async fn a_tenant_puts_an_address_of_theirs_behind_the_workflows_service() {
    let world = World::shared().await;
    let ns = &world.enforced("behind").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let made = world.tess.post(&services(ns), &service(json!({}))).await.ok();
    let name = made["metadata"]["name"].as_str().unwrap();
    // The controllers do their work.
    let of_service = format!("{}?labelSelector=kubernetes.io/service-name={name}", slices(ns));
    let written = eventually(SOON, || async {
        let found = world.admin.items(&of_service).await?;
        ensure!(found.len() == 1, "{} slices", found.len());
        Ok(found[0].clone())
    })
    .await;
    world
        .admin
        .post(&slices(ns), &slice(name))
        .await
        .refused_by("foreign-endpoints");
    forbidden(&world.tess.post(&slices(ns), &slice(name)).await);
    // Not `edit` either: Kubernetes gives it neither since 1.22.
    forbidden(&edith.post(&slices(ns), &slice(name)).await);
    let path = format!("{}/{}", slices(ns), written["metadata"]["name"].as_str().unwrap());
    let added = json!({"endpoints": [{"addresses": ["203.0.113.7"]}]});
    world.admin.patch(&path, &added).await.refused_by("foreign-endpoints");
    let endpoints = json!({"metadata": {"name": name}, "subsets": [{"addresses": [{"ip": "203.0.113.7"}], "ports": [{"port": 80}]}]});
    let answer = world
        .admin
        .patch(&format!("/api/v1/namespaces/{ns}/endpoints/{name}"), &endpoints)
        .await;
    answer.refused_by("foreign-endpoints");
}

/// Held by: `debug-window`, `RBAC`
#[tokio::test]
async fn a_tenant_goes_through_the_api_servers_proxy() {
    let world = World::shared().await;
    let ns = &world.enforced("proxied").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let made = world.tess.post(&services(ns), &service(json!({}))).await.ok();
    let path = format!("{}/{}/proxy/", services(ns), made["metadata"]["name"].as_str().unwrap());
    for attacker in [&edith, &world.admin] {
        for answer in [attacker.get(&path).await, attacker.post(&path, &json!({})).await] {
            assert!(answer.refused_by("debug-window").contains("services/proxy"));
        }
    }
    forbidden(&world.tess.get(&path).await);
}

/// What a load balancer has is what the API server lets a LoadBalancer have, and there is none here.
///
/// Held by: `API server`, `RBAC`
#[tokio::test]
async fn somebody_gives_a_service_the_address_of_a_load_balancer() {
    let world = World::shared().await;
    let ns = &world.enforced("status").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let made = world.tess.post(&services(ns), &service(json!({}))).await.ok();
    let path = format!("{}/{}", services(ns), made["metadata"]["name"].as_str().unwrap());
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
    for attacker in [&world.tess, &edith] {
        forbidden(&attacker.patch(&format!("{path}/status"), &address).await);
    }
    let answer = world.admin.patch(&format!("{path}/status"), &address).await;
    assert!(
        answer.code == 422 && answer.message().contains("may only be used when `spec.type` is"),
        "{}",
        answer.body
    );
    // The main resource takes no status with it.
    edith.patch(&path, &address).await.ok();
    assert_eq!(
        world.admin.read(&path).await.unwrap()["status"]["loadBalancer"],
        json!({})
    );
}

/// `rule Kind/name`, of what the scan finds in a namespace.
async fn scanned(world: &World, ns: &str) -> Vec<String> {
    let report = scan_report(world, &["--namespace", ns]).await;
    assert_eq!(report["summary"]["complete"], true, "{report}");
    told(&report)
}

/// The proxy that obeys them reaches a pod only where the AIWorkflow declares that proxy, and the scan tells of each.
///
/// Held by: `NetworkPolicy`, `operator`
#[tokio::test]
async fn a_tenant_leads_a_route_into_the_fence() {
    let world = World::shared().await;
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "network": {"namespaces": ["ingress-nginx"]}}))
        .await;
    let ns = &world
        .namespace("routes", &json!({"ringfence.dev/enforce": class}))
        .await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    world.tess.post(&services(ns), &service(json!({}))).await.ok();
    let backend = json!({"service": {"name": "triage", "port": {"number": 80}}});
    let path = format!("/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses");
    for (attacker, name) in [(&world.tess, "by-tess"), (&edith, "by-edith")] {
        let ingress = json!({"metadata": {"name": name}, "spec": {"defaultBackend": backend}});
        attacker.post(&path, &ingress).await.ok();
    }
    let definition = json!({
        "metadata": {"name": "httproutes.gateway.networking.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {
            "group": "gateway.networking.k8s.io", "scope": "Namespaced", "names": {"kind": "HTTPRoute", "plural": "httproutes"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.admin.post(definitions, &definition).await.ok();
    let routes = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{ns}/httproutes");
    eventually(SOON, || async { world.admin.read(&routes).await }).await;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "route"},
        "spec": {"rules": [{"backendRefs": [{"name": "triage", "port": 80}]}]},
    });
    world.admin.post(&routes, &route).await.ok();

    let found = scanned(&world, ns).await;
    for told in [
        "exposed-route Ingress/by-tess",
        "exposed-route Ingress/by-edith",
        "exposed-route HTTPRoute/route",
    ] {
        assert!(found.contains(&told.to_owned()), "{told} is not among {found:?}");
    }
    let scene = Scene::of(
        vec![
            Pod::new(ns, "triage", &[("ringfence.dev/workflow", "triage")], "10.0.0.1"),
            Pod::new("ingress-nginx", "proxy", &[("app", "nginx")], "10.0.0.2"),
            Pod::new("ingress-nginx", "other", &[], "10.0.0.3"),
        ],
        &["203.0.113.7"],
        [80, 8080],
    );
    let into = async || {
        let policies = world.admin.items(&all("NetworkPolicy", ns)).await?;
        let matrix = Simulator::start()?.ask(&scene, &policies)?;
        let mut open = open_paths(&scene, &matrix).into_iter().collect::<Vec<_>>();
        open.retain(|path| path.contains(&format!(" -> {ns}/")));
        anyhow::Ok(open)
    };
    assert_eq!(into().await.unwrap(), [""; 0], "the proxy knocks in vain");
    let proxy = json!({"pods": {"namespace": "ingress-nginx", "selector": {"matchLabels": {"app": "nginx"}}}});
    let declared =
        json!({"spec": {"network": {"ingress": [{"name": "proxy", "from": proxy, "ports": [{"port": 8080}]}]}}});
    world.tess.patch(&one("AIWorkflow", ns, "triage"), &declared).await.ok();
    eventually(SOON, || async {
        let open = into().await?;
        ensure!(
            open == [format!("ingress-nginx/proxy -> {ns}/triage:8080/TCP")],
            "{open:?}"
        );
        Ok(())
    })
    .await;
}

/// They stay until somebody changes them, and nobody is killed: the scan names each, and what closes one passes.
///
/// Held by: `operator`, `closed-service`
#[tokio::test]
async fn a_service_stands_open_from_before_the_fence() {
    let world = World::shared().await;
    let ns = &world.namespace("before", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let mut paths = Vec::new();
    for spec in [
        json!({"type": "NodePort"}),
        json!({"type": "LoadBalancer"}),
        json!({"externalIPs": ["203.0.113.7"]}),
        json!({"selector": null}),
        json!({"type": "ExternalName", "externalName": "evil.example", "selector": null, "ports": null}),
        json!({"externalName": "evil.example"}),
    ] {
        let made = edith.post(&services(ns), &service(spec)).await.ok();
        paths.push(made["metadata"]["name"].as_str().unwrap().to_owned());
    }
    let slice = slice(&paths[0]);
    world.admin.post(&slices(ns), &slice).await.ok();
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    let namespace = format!("{}/{ns}", crate::world::NAMESPACES);
    let set = world.admin.patch(&namespace, &enforce).await;
    let warned = set.warnings.join(" ");
    assert!(
        warned.contains("[closed-service]"),
        "who sets the mode is told: {warned}"
    );
    set.ok();
    world.ready(ns, "triage", &json!({})).await;
    let found = scanned(&world, ns).await;
    for name in &paths {
        let told = format!("closed-service Service/{name}");
        assert!(found.contains(&told), "{told} is not among {found:?}");
    }
    let by_hand = format!(
        "foreign-endpoints EndpointSlice/{}",
        slice["metadata"]["name"].as_str().unwrap()
    );
    assert!(found.contains(&by_hand), "{by_hand} is not among {found:?}");

    let path = |name: &str| format!("{}/{name}", services(ns));
    let more = json!({"spec": {"externalIPs": ["203.0.113.8"]}});
    edith.patch(&path(&paths[2]), &more).await.refused_by("closed-service");
    // What is open may not come to lead elsewhere either.
    let aimed = json!({"spec": {"selector": {"ringfence.dev/workflow": "triage"}, "ports": [{"port": 9999, "targetPort": 6379}]}});
    let renamed = json!({"spec": {"externalName": "worse.example"}});
    for (name, change) in [
        (&paths[0], &aimed),
        (&paths[1], &aimed),
        (&paths[2], &aimed),
        (&paths[4], &renamed),
        (&paths[5], &renamed),
    ] {
        for attacker in [&edith, &world.tess] {
            attacker.patch(&path(name), change).await.refused_by("closed-service");
        }
    }
    let closed = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": null}]}});
    edith.patch(&path(&paths[0]), &closed).await.ok();
    let nameless = json!({"spec": {"externalName": null}});
    edith.patch(&path(&paths[5]), &nameless).await.ok();
    for name in &paths[1..5] {
        edith.delete(&path(name)).await.ok();
    }
    let slice_path = format!("{}/{}", slices(ns), slice["metadata"]["name"].as_str().unwrap());
    world.admin.delete(&slice_path).await.ok();
    let found = scanned(&world, ns).await;
    assert_eq!(found, [""; 0]);
}

/// The label says that a controller keeps it, and the controller heeds only those of a Service that chooses its pods: what it does not
/// heed, the scan tells of.
///
/// Held by: `operator`, `API server`
#[tokio::test]
async fn somebody_signs_a_slice_of_endpoints_with_a_controllers_name_before_the_fence() {
    let world = World::shared().await;
    let ns = &world.namespace("signed", &json!({})).await;
    let named = |name: &str, spec: Value| {
        let mut service = service(spec);
        service["metadata"]["name"] = json!(name);
        service
    };
    for (name, selector) in [("plain", json!({"app": "x"})), ("blind", Value::Null)] {
        let made = named(name, json!({"selector": selector}));
        world.admin.post(&services(ns), &made).await.ok();
    }
    let signed = |name: &str, service: &str| {
        let mut signed = slice(service);
        signed["metadata"]["name"] = json!(name);
        signed["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] =
            json!("endpointslice-controller.k8s.io");
        signed
    };
    for (name, service) in [("of-plain", "plain"), ("of-blind", "blind"), ("of-nothing", "gone")] {
        world.admin.post(&slices(ns), &signed(name, service)).await.ok();
    }
    // This one is put right: it is the controller's, and says what the pods are.
    eventually(SOON, || async {
        let now = world.admin.get(&format!("{}/of-plain", slices(ns))).await;
        let is_right = now.code == 404 || !now.body.to_string().contains("203.0.113.7");
        ensure!(is_right, "{}", now.body);
        Ok(())
    })
    .await;
    world.enforce(ns).await;
    let mut found = scanned(&world, ns).await;
    found.retain(|told| told.contains("EndpointSlice"));
    found.sort();
    let expected = ["of-blind", "of-nothing"].map(|name| format!("foreign-endpoints EndpointSlice/{name}"));
    assert_eq!(found, expected);
    for name in ["of-blind", "of-nothing"] {
        let path = format!("{}/{name}", slices(ns));
        let still = world.admin.read(&path).await.unwrap();
        assert!(
            still.to_string().contains("203.0.113.7"),
            "no controller heeds it: {still}"
        );
        world.admin.delete(&path).await.ok();
    }
}

/// Whoever administers namespace `default` gives the API server's Service a port of their own, and pods of theirs behind it. What workflows
/// that may reach the API server can reach stays that.
///
/// Held by: `operator`
#[tokio::test]
async fn somebody_puts_a_port_and_pods_behind_the_api_servers_service() {
    let (_cluster, _ringfence, admin) = own(&["--scan-period=0"]).await;
    let ns = &crate::world::namespace(&admin, "calls", &json!({"ringfence.dev/enforce": "default"})).await;
    let path = format!("{}/kubernetes", services("default"));
    let address = admin.get(&path).await.ok()["spec"]["clusterIP"].clone();
    let address = format!("{}/32", address.as_str().expect("an address"));
    // What a new workflow reaches at that address.
    let reaches = async |name: &str| {
        let spec = json!({"network": {"egress": [{"name": "api", "to": {"apiServer": {}}}]}});
        admin.post(&all("AIWorkflow", ns), &workflow(name, &spec)).await.ok();
        let allow = one("NetworkPolicy", ns, &owned_name(ns, name, "allow"));
        let allow = eventually(SOON, || async { admin.read(&allow).await }).await;
        let rules = allow["spec"]["egress"].as_array().cloned().unwrap_or_default();
        let there = rules.iter().filter(|rule| rule["to"][0]["ipBlock"]["cidr"] == address);
        let ports = there.flat_map(|rule| rule["ports"].as_array().into_iter().flatten());
        ports
            .map(|port| port["port"].as_i64().expect("a number"))
            .collect::<Vec<_>>()
    };
    assert_eq!(reaches("before").await, [443]);
    let port = json!({"spec": {"ports": [{"name": "x", "port": 8443, "protocol": "TCP"}]}});
    let changed = admin.strategic(&path, &port).await.ok();
    assert_eq!(changed["spec"]["ports"].as_array().map(Vec::len), Some(2), "{changed}");
    assert_eq!(reaches("with-a-port").await, [443]);
    let pods = json!({"spec": {"selector": {"app": "theirs"}}});
    admin.patch(&path, &pods).await.ok();
    assert_eq!(reaches("with-pods").await, [0_i64; 0]);
    admin.patch(&path, &json!({"spec": {"selector": null}})).await.ok();
    assert_eq!(reaches("after").await, [443]);
}

/// A kubelet tells each new container where the Services of its namespace are, and the API server's by the same variables.
///
/// Held by: `closed-service`
#[tokio::test]
async fn a_tenant_takes_the_name_of_the_api_servers_service() {
    let world = World::shared().await;
    let ns = &world.enforced("named").await;
    world.ready(ns, "triage", &json!({})).await;
    let mut made = service(json!({}));
    world.tess.post(&services(ns), &made).await.ok();
    for name in ["kubernetes", "kubernetes-service"] {
        made["metadata"]["name"] = json!(name);
        let answer = world.tess.post(&services(ns), &made).await;
        assert!(
            answer
                .refused_by("closed-service")
                .contains("takes the place of the API server")
        );
    }
}
