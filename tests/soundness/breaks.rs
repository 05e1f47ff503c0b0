//! The checker can fail: a state that keeps every promise, and for each promise what breaks it.

use rstest::rstest;
use serde_json::{Value, json};
use support::network::{Declared, Scene, declared, ports};

use crate::checker::{Seen, broken};
use crate::declarations::{class, twisted};
use crate::objects::workload;
use crate::operations::Twist;
use crate::past::{Declaration, Past, Span, Write, Writer};

/// 2026-01-01T00:00:00Z, when everything of this state is made.
const MADE: i64 = 1_767_225_600;

fn lasting<T>(is: T) -> Vec<Span<T>> {
    vec![Span {
        from: MADE - 100,
        until: None,
        is,
    }]
}

fn writer(user: &str) -> Writer {
    Writer {
        user: user.into(),
        account: None,
    }
}

fn spec() -> Value {
    json!({
        "launchers": [{"user": "lea"}, {"serviceAccount": {"namespace": "ci", "name": "launcher"}}],
        "images": ["registry.example.com/finance/**"],
        "permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["c"], "verbs": ["get"]}]},
        "secrets": [{"name": "model", "secretRef": {"name": "model", "keys": ["key"]}}],
        "network": {"egress": [{"name": "next", "to": {"workflow": {"name": "beta"}}, "ports": [{"port": 8080}]}]},
    })
}

fn made(kind: &str, mut object: Value, uid: &str) -> Value {
    object["kind"] = json!(kind);
    object["metadata"]["uid"] = json!(uid);
    object["metadata"]["namespace"] = json!("ai");
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    object
}

fn owned(kind: &str, name: &str, uid: &str, fields: &Value) -> Value {
    let mut object = made(kind, fields.clone(), uid);
    object["metadata"]["name"] = json!(name);
    object["metadata"]["annotations"] = json!({"ringfence.dev/owner-uid": "w-1"});
    object["metadata"]["ownerReferences"] =
        json!([{"kind": "AIWorkflow", "name": "alpha", "uid": "w-1", "controller": true}]);
    object
}

fn pod(twist: Twist) -> Value {
    made(
        "Pod",
        twisted(
            "p",
            "alpha",
            twist,
            &json!({"kind": "Secret", "uid": "s", "controller": true}),
        ),
        "p-1",
    )
}

/// A namespace in which all is well.
fn good() -> (Seen, Past) {
    let labels = json!({"ringfence.dev/enforce": "c"});
    let account = json!({"kind": "ServiceAccount", "namespace": "ai", "name": "alpha"});
    let ready = json!({"type": "Ready", "status": "True", "observedGeneration": 1});
    let mut workflow = made(
        "AIWorkflow",
        json!({"metadata": {"name": "alpha", "generation": 1}}),
        "w-1",
    );
    workflow["spec"] = spec();
    workflow["status"] = json!({"conditions": [ready]});
    let mut deny = made(
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}),
        "n-1",
    );
    deny["metadata"]["name"] = json!("ringfence");
    deny["metadata"]["annotations"] = json!({"ringfence.dev/owner-uid": "ns-1"});
    let rules = spec()["permissions"]["rules"].clone();
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "selector": {"a": "b"}}});
    let objects = vec![
        workflow,
        deny,
        owned("ServiceAccount", "alpha", "a-1", &json!({})),
        owned("Role", "r", "r-1", &json!({"rules": rules})),
        owned("RoleBinding", "b", "b-1", &json!({"subjects": [account]})),
        made("Service", service, "s-1"),
        made(
            "Job",
            workload("Job", &twisted("j", "alpha", Twist::Clean, &Value::Null)),
            "j-1",
        ),
        pod(Twist::Clean),
    ];
    let class_object = json!({"metadata": {"name": "c"}, "spec": class("beside", 0, true)});
    let scene = Scene {
        namespaces: [(
            "ai".to_owned(),
            [("ringfence.dev/enforce".to_owned(), "c".to_owned())].into(),
        )]
        .into(),
        pods: ["alpha", "beta"]
            .iter()
            .zip(1..)
            .map(|(name, last)| {
                support::network::Pod::new(
                    "ai",
                    name,
                    &[("ringfence.dev/workflow", *name)],
                    &format!("10.1.0.{last}"),
                )
            })
            .collect(),
        addresses: vec!["203.0.113.7".parse().unwrap()],
        ports: ports([443, 8080]),
    };
    let said = Declared {
        workflows: vec![objects[0].clone()],
        classes: vec![class_object.clone()],
        ..Declared::default()
    };
    let matrix = declared(&scene, &said);
    let seen = Seen {
        namespace: json!({"kind": "Namespace", "metadata": {"name": "ai", "uid": "ns-1", "labels": labels}}),
        left: (class_object["spec"].clone(), "c".to_owned()),
        class: class_object,
        objects,
        bindings: Vec::new(),
        findings: Vec::new(),
        network: (scene, matrix),
    };
    let write = |uid: &str, kind: &str| Write {
        at: MADE,
        by: writer("lea"),
        kind: kind.into(),
        uid: uid.into(),
        launches: true,
    };
    let past = Past {
        fenced: lasting(()),
        classes: lasting(seen.left.0.clone()),
        declarations: lasting(Declaration {
            name: "alpha".into(),
            spec: spec(),
        }),
        writes: vec![write("p-1", "Pod"), write("j-1", "Job")],
        refusals: vec!["ringfence refused this: … Fix: leave it".into()],
        wronged: Vec::new(),
    };
    (seen, past)
}

/// What the checker says once something is changed: the promise, and the words.
fn said(change: impl FnOnce(&mut Seen, &mut Past)) -> String {
    let (mut seen, mut past) = good();
    change(&mut seen, &mut past);
    broken(&seen, &past)
        .iter()
        .map(|broken| format!("{broken}\n"))
        .collect()
}

#[track_caller]
fn breaks(promise: u8, words: &str, change: impl FnOnce(&mut Seen, &mut Past)) {
    let said = said(change);
    let beginning = format!("promise {promise}: ");
    let mut lines = said.lines();
    assert!(
        lines.any(|line| line.starts_with(&beginning) && line.contains(words)),
        "{promise}: {words} is not said in: {said}"
    );
}

fn object<'a>(seen: &'a mut Seen, kind: &str) -> &'a mut Value {
    seen.objects.iter_mut().find(|object| object["kind"] == kind).unwrap()
}

fn replace_pod(seen: &mut Seen, pod: Value) {
    *object(seen, "Pod") = pod;
}

#[test]
fn where_all_is_well_nothing_is_broken() {
    assert_eq!(said(|_, _| {}), "");
}

#[rstest]
#[case::account(Twist::OtherAccount, "runs as")]
#[case::image(
    Twist::Image("container", "docker.io/library/miner"),
    "image docker.io/library/miner"
)]
#[case::init_image(Twist::Image("init", "docker.io/library/miner"), "image docker.io/library/miner")]
#[case::image_volume(Twist::Image("volume", "docker.io/library/miner"), "image docker.io/library/miner")]
#[case::network_of_the_node(Twist::Node("hostNetwork"), "hostNetwork")]
#[case::port_of_the_node(Twist::Node("hostPort"), "port of its node")]
#[case::files_of_the_node(Twist::Node("hostPath"), "a volume is a hostPath")]
#[case::secret(Twist::Secret("env", "payroll"), "\"payroll\" is not declared")]
#[case::whole_secret(Twist::Secret("volume", "model"), "\"model\" is not declared")]
#[case::pull_secret(Twist::Secret("pull", "model"), "it pulls with")]
#[case::audience(Twist::Audience, "a token for vault")]
#[case::interface(Twist::Interface, "k8s.v1.cni.cncf.io/networks")]
fn a_pod_that_does_not_fit_is_found(#[case] twist: Twist, #[case] words: &str) {
    breaks(1, words, |seen, _| replace_pod(seen, pod(twist)));
}

#[test]
fn a_pod_of_nobody_is_found() {
    breaks(1, "its label does not name alpha", |seen, _| {
        object(seen, "Pod")["metadata"]["labels"] = json!({});
    });
    breaks(1, "nothing was declared", |_, past| past.declarations.clear());
    breaks(1, "who is no launcher", |_, past| past.writes[0].by = writer("bob"));
    breaks(1, "nobody is known to have launched it", |_, past| past.writes.clear());
    breaks(1, "what controls it is not of its workflow", |seen, past| {
        past.writes.remove(0);
        object(seen, "Pod")["metadata"]["ownerReferences"] = json!([{"kind": "Job", "uid": "j-1", "controller": true}]);
        object(seen, "Job")["metadata"]["labels"] = json!({"ringfence.dev/workflow": "beta"});
    });
    // A name is no account: it must show its token.
    breaks(1, "who is no launcher", |_, past| {
        past.writes[0].by = writer("system:serviceaccount:ci:launcher")
    });
    let with_its_token = said(|_, past| {
        let by = &mut past.writes[0].by;
        *by = Writer {
            account: Some(("ci".into(), "launcher".into())),
            ..by.clone()
        };
    });
    assert_eq!(with_its_token, "");
    // What a controller makes of what a launcher made is the launcher's.
    let by_a_controller = said(|seen, past| {
        past.writes.remove(0);
        object(seen, "Pod")["metadata"]["ownerReferences"] = json!([{"kind": "Job", "uid": "j-1", "controller": true}]);
    });
    assert_eq!(by_a_controller, "");
}

#[test]
fn a_template_that_does_not_fit_is_found() {
    breaks(1, "Job j got in", |seen, _| {
        object(seen, "Job")["spec"]["template"]["spec"]["hostPID"] = json!(true);
    });
}

#[test]
fn what_stood_before_is_excused_where_a_scan_tells() {
    let older = |_: &mut Seen, past: &mut Past| past.fenced[0].from = MADE + 50;
    let twist = Twist::Image("container", "docker.io/library/miner");
    breaks(1, "nothing tells", |seen, past| {
        older(seen, past);
        replace_pod(seen, pod(twist));
    });
    let told = said(|seen, past| {
        older(seen, past);
        replace_pod(seen, pod(twist));
        seen.findings = vec![json!({"namespace": "ai", "name": "p"})];
    });
    assert_eq!(told, "");
    // What fitted, and does not any more, is let be and told too.
    breaks(1, "does not fit today's declaration", |_, past| {
        past.declarations[0].until = Some(MADE + 10);
    });
}

#[test]
fn a_way_in_or_out_is_found() {
    breaks(2, "default-deny", |seen, _| {
        seen.objects.retain(|object| object["kind"] != "NetworkPolicy")
    });
    breaks(2, "default-deny", |seen, _| {
        object(seen, "NetworkPolicy")["spec"]["ingress"] = json!([{}])
    });
    for (from, to, side) in [("ai/alpha", "203.0.113.7", "out"), ("ai/beta", "ai/alpha", "in")] {
        breaks(2, &format!("{from} -> {to}:443/SCTP is let {side}"), |seen, _| {
            let open = seen.network.1.get_mut(&(from.to_owned(), to.to_owned())).unwrap();
            let side = if side == "out" {
                &mut open.egress
            } else {
                &mut open.ingress
            };
            *side = side.replace('0', "1");
        });
    }
    for (domain, of) in [
        ("api.example.com", "w-1"),
        ("evil.example", "w-1"),
        ("api.example.com", "gone"),
    ] {
        breaks(2, &format!("\"{domain}\" is let out by the egress proxy"), |seen, _| {
            let told = json!({"rules": [{"name": "x", "domains": [domain], "ports": [{"port": 443}]}]}).to_string();
            let mut way = object(seen, "NetworkPolicy").clone();
            way["metadata"]["annotations"] =
                json!({"ringfence.dev/owner-uid": of, "ringfence.dev/egress-domains": told});
            way["metadata"]["name"] = json!("way");
            seen.objects.push(way);
        });
    }
    breaks(2, "Service s", |seen, _| {
        object(seen, "Service")["spec"]["type"] = json!("NodePort")
    });
    breaks(2, "Service s", |seen, _| {
        object(seen, "Service")["spec"]["externalIPs"] = json!(["203.0.113.7"])
    });
    breaks(2, "Service s", |seen, _| {
        object(seen, "Service")["spec"]["selector"] = json!({})
    });
    breaks(2, "who is behind a Service", |_, past| {
        let write = past.writes[0].clone();
        past.writes.push(Write {
            kind: "EndpointSlice".into(),
            ..write
        });
    });
    breaks(2, "nothing tells", |seen, past| {
        past.fenced[0].from = MADE + 50;
        let policy = made(
            "NetworkPolicy",
            json!({"metadata": {"name": "open"}, "spec": {"egress": [{}]}}),
            "n-2",
        );
        seen.objects.push(policy);
    });
}

#[test]
fn a_right_that_nobody_declared_is_found() {
    breaks(3, "alpha may delete", |seen, _| {
        object(seen, "Role")["rules"][0]["verbs"] = json!(["get", "delete"]);
    });
    breaks(3, "above its class", |seen, _| {
        seen.class["spec"]["permissions"] = json!([])
    });
    breaks(3, "may not", |seen, _| object(seen, "Role")["rules"] = json!([]));
    breaks(3, "is not its account", |seen, _| {
        seen.objects.retain(|object| object["kind"] != "ServiceAccount")
    });
    for subject in [
        json!({"kind": "ServiceAccount", "namespace": "ai", "name": "alpha"}),
        json!({"kind": "User", "name": "system:serviceaccount:ai:alpha"}),
        json!({"kind": "Group", "name": "system:serviceaccounts:ai"}),
    ] {
        let binding = made(
            "ClusterRoleBinding",
            json!({"metadata": {"name": "more"}, "subjects": [subject]}),
            "x",
        );
        let older = binding.clone();
        breaks(3, "younger than the fence", |seen, _| seen.bindings.push(binding));
        breaks(3, "nothing tells", |seen, past| {
            past.fenced[0].from = MADE + 50;
            seen.bindings.push(older);
        });
    }
    let elsewhere = said(|seen, _| {
        let subjects = json!([{"kind": "ServiceAccount", "namespace": "other", "name": "alpha"}]);
        seen.bindings.push(made(
            "RoleBinding",
            json!({"metadata": {"name": "b"}, "subjects": subjects}),
            "x",
        ));
    });
    assert_eq!(elsewhere, "");
    breaks(3, "holds a token", |seen, _| {
        let secret = json!({"metadata": {"name": "t"}, "type": "kubernetes.io/service-account-token"});
        seen.objects.push(made("Secret", secret, "t-1"));
    });
    breaks(3, "was given a token", |_, past| {
        let write = past.writes[0].clone();
        past.writes.push(Write {
            kind: "TokenRequest".into(),
            ..write
        });
    });
    breaks(3, "eks.amazonaws.com/role-arn", |seen, _| {
        object(seen, "ServiceAccount")["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] = json!("x");
    });
}

#[test]
fn a_fence_that_was_moved_is_found() {
    breaks(4, "ringfence.dev/enforce is \"weak\"", |seen, _| {
        seen.namespace["metadata"]["labels"]["ringfence.dev/enforce"] = json!("weak");
    });
    breaks(4, "ringfence.dev/warn", |seen, _| {
        seen.namespace["metadata"]["labels"]["ringfence.dev/warn"] = json!("c");
    });
    breaks(4, "the class is not as", |seen, _| {
        seen.class["spec"]["images"]["allowed"] = json!(["**"])
    });
    breaks(4, "owned by nothing", |seen, _| {
        object(seen, "Role")["metadata"]["ownerReferences"] = json!([])
    });
    breaks(4, "owned by nothing", |seen, _| {
        seen.objects.retain(|object| object["kind"] != "AIWorkflow")
    });
    breaks(4, "AIWorkflow alpha carries ringfence.dev/reviewed", |seen, _| {
        object(seen, "AIWorkflow")["metadata"]["annotations"] = json!({"ringfence.dev/reviewed": "1"});
    });
    breaks(4, "AIWorkflow alpha carries ringfence.dev/owner", |seen, _| {
        object(seen, "AIWorkflow")["metadata"]["labels"] = json!({"ringfence.dev/owner": "alpha"});
    });
    breaks(4, "carries ringfence.dev/aggregate-to-ceiling", |seen, _| {
        object(seen, "Role")["metadata"]["labels"] = json!({"ringfence.dev/aggregate-to-ceiling": "true"});
    });
}

#[test]
fn a_refusal_without_a_way_out_and_a_wrong_one_are_found() {
    breaks(5, "does not say what to do", |_, past| {
        past.refusals.push("ringfence refused this".into())
    });
    breaks(0, "lea", |_, past| past.wronged.push("lea makes a pod".into()));
}
