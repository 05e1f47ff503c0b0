//! The rules of the fence: no object makes them panic; and a pod that fits is refused as soon as one field of it does not, wherever that
//! field is and whatever harmless surrounds it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use ringfence::api::Mode;
use ringfence::fence::{Binding, Case, Door, Facts, Subject, debug, modes};
use ringfence::plan::{NamespaceFacts, default_deny};
use ringfence::review::{Review, Violation};
use serde_json::{Value, json};

use crate::json::{any_object, stored};
use crate::{corpus, runner};

/// Group, kind, resource with subresource.
const ASKED: [(&str, &str, &str); 22] = [
    ("", "Pod", "pods"),
    ("", "Pod", "pods/ephemeralcontainers"),
    ("", "Pod", "pods/resize"),
    ("", "Pod", "pods/status"),
    ("", "PodExecOptions", "pods/exec"),
    ("", "Binding", "pods/binding"),
    ("", "PodTemplate", "podtemplates"),
    ("", "ReplicationController", "replicationcontrollers"),
    ("", "ServiceAccount", "serviceaccounts"),
    ("authentication.k8s.io", "TokenRequest", "serviceaccounts/token"),
    ("", "Secret", "secrets"),
    ("", "Service", "services"),
    ("", "Namespace", "namespaces"),
    ("", "Endpoints", "endpoints"),
    ("discovery.k8s.io", "EndpointSlice", "endpointslices"),
    ("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
    ("cilium.io", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
    ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
    ("apps", "Deployment", "deployments"),
    ("apps", "ControllerRevision", "controllerrevisions"),
    ("batch", "CronJob", "cronjobs"),
    ("argoproj.io", "Workflow", "workflows"),
];
const USERS: [&str; 4] = [
    "ann",
    "bob",
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:job-controller",
];

fn review(
    operation: &str,
    (group, kind, resource): (&str, &str, &str),
    user: &str,
    object: &Value,
    old: &Value,
) -> Review {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    // Token requests are of the group of accounts, by their resource.
    let of = if resource == "serviceaccounts" { "" } else { group };
    let request = json!({
        "uid": "u", "operation": operation, "namespace": "ai", "name": "o", "object": object, "oldObject": old,
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": of, "version": "v1", "resource": resource}, "subResource": subresource,
        "userInfo": {"username": user, "uid": "1", "groups": ["data"], "extra": {"authentication.kubernetes.io/credential-id": ["JTI=c"]}},
    });
    Review::from_value(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}))
        .expect("a review")
}

/// What is there where all is well.
fn facts() -> Facts {
    let labels = json!({"ringfence.dev/enforce": "default", "pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": labels}});
    let known = NamespaceFacts::from_object(&namespace, |_| false).expect("a namespace");
    let workflow = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow",
        "metadata": {"name": "triage", "namespace": "ai", "uid": "w-uid"},
        "spec": {
            "images": ["registry.example.com/finance/**"], "launchers": [{"user": "ann"}],
            "secrets": [{"name": "model", "secretRef": {"name": "model", "keys": ["key"]}}],
            "identity": {"audiences": [{"audience": "vault", "maxExpirationSeconds": 600}]},
        },
    });
    let class = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "default"},
        "spec": {
            "images": {"allowed": ["registry.example.com/**"]}, "podAnnotations": ["kubectl.kubernetes.io/"],
            "identity": {"audiences": ["vault"], "maxTokenSeconds": 3600},
            "volumes": {"types": ["configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim"]},
        },
    });
    let account =
        json!({"metadata": {"name": "triage", "uid": "sa-uid", "annotations": {"ringfence.dev/owner-uid": "w-uid"}}});
    Facts {
        default_deny: Some(default_deny(&known)),
        namespace: Some(namespace),
        workflow: Some(workflow),
        account: Some(account),
        classes: [("default".to_owned(), Some(class))].into(),
        ..Facts::default()
    }
}

/// The rules by which the fence refuses a request, by each of its ways in. `None`: it has nothing to say.
fn judged(review: &Review, facts: &Facts) -> Option<Vec<String>> {
    let mut found: Option<Vec<String>> = None;
    let mut add = |rules: Vec<String>| found.get_or_insert_default().extend(rules);
    let rules = |violations: Vec<Violation>| violations.into_iter().map(|violation| violation.policy).collect();
    match Subject::of(review) {
        Ok(Some(subject)) => {
            let case = Case::new(&subject, facts, |_| false);
            add(rules(case.refusals()));
            add(rules(case.violations(Mode::Enforce, "default")));
        }
        Ok(None) => {}
        Err(why) => add(vec![why.to_owned()]),
    }
    match Door::of(review) {
        Ok(Some(door)) => add(rules(door.check(facts, "default"))),
        Ok(None) => {}
        Err(why) => add(vec![why.to_owned()]),
    }
    found
}

#[test]
fn no_object_makes_a_rule_panic() {
    let facts = facts();
    let try_all = |operation: &str, asked: (&str, &str, &str), user: &str, object: &Value, old: &Value| {
        let review = review(operation, asked, user, object, old);
        let _ = judged(&review, &facts);
        let odd = Facts {
            workflow: Some(old.clone()),
            account: Some(object.clone()),
            ..facts.clone()
        };
        let _ = judged(&review, &odd);
        let _ = Binding::of(&review).map(|binding| binding.map(|binding| binding.namespaces().map_err(|_| ())));
        let _ = modes::settings(&review);
        let _ = debug::Session::of(&review);
    };
    for (_, bytes) in corpus("objects") {
        let object: Value = serde_json::from_slice(&bytes).expect("JSON");
        for asked in ASKED {
            for (operation, old) in [
                ("CREATE", &Value::Null),
                ("UPDATE", &object),
                ("UPDATE", &Value::Null),
                ("CONNECT", &Value::Null),
            ] {
                try_all(operation, asked, "ann", &object, old);
            }
        }
    }
    let object = || prop_oneof![stored().boxed(), any_object().boxed()];
    let operation = select(vec!["CREATE", "UPDATE", "DELETE", "CONNECT"]);
    let strategy = (
        operation,
        select(ASKED.to_vec()),
        select(USERS.to_vec()),
        object(),
        object(),
    );
    let run = runner(2000).run(&strategy, |(operation, asked, user, object, old)| {
        try_all(operation, asked, user, &object, &old);
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

/// Something that every pod may have.
fn harmless() -> impl Strategy<Value = fn(&mut Value)> {
    let all: Vec<fn(&mut Value)> = vec![
        |pod| pod["metadata"]["labels"]["app"] = json!("x"),
        |pod| pod["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!("now"),
        |pod| push(pod, "/spec/containers", container("second")),
        |pod| push(pod, "/spec/initContainers", container("first")),
        |pod| push(pod, "/spec/volumes", json!({"name": "tmp", "emptyDir": {}})),
        |pod| {
            push(
                pod,
                "/spec/volumes",
                json!({"name": "m", "secret": {"secretName": "model", "items": [{"key": "key", "path": "k"}]}}),
            )
        },
        |pod| {
            let token = json!({"serviceAccountToken": {"audience": "vault", "path": "t", "expirationSeconds": 600}});
            push(
                pod,
                "/spec/volumes",
                json!({"name": "t", "projected": {"sources": [{"configMap": {"name": "c"}}, token]}}),
            );
        },
        |pod| pod["spec"]["terminationGracePeriodSeconds"] = json!(5),
        |pod| pod["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]),
    ];
    select(all)
}

/// Something that no pod of this workflow may have. The index is where, among what may be in several places.
type Hostile = fn(&mut Value, usize);

/// Each with a name, for a person who reads why it was not refused.
const HOSTILE: [(&str, Hostile); 24] = [
    ("another account", |pod, _| {
        pod["spec"]["serviceAccountName"] = json!("default")
    }),
    ("no account", |pod, _| remove(pod, "/spec", "serviceAccountName")),
    ("no label", |pod, _| {
        remove(pod, "/metadata/labels", "ringfence.dev/workflow")
    }),
    ("a label that is no text", |pod, _| {
        pod["metadata"]["labels"]["ringfence.dev/workflow"] = json!(1)
    }),
    ("an image", |pod, at| {
        any_container(pod, at)["image"] = json!("docker.io/library/miner")
    }),
    ("no image", |pod, at| remove_image(pod, at)),
    ("an image that is no text", |pod, at| {
        any_container(pod, at)["image"] = json!(["registry.example.com/finance/a"])
    }),
    ("an image of a host that begins alike", |pod, at| {
        any_container(pod, at)["image"] = json!("registry.example.com.evil.example/finance/a")
    }),
    ("a container for debugging", |pod, _| {
        push(
            pod,
            "/spec/ephemeralContainers",
            json!({"name": "d", "image": "docker.io/library/busybox"}),
        )
    }),
    ("containers that are no list", |pod, _| {
        pod["spec"]["containers"] = json!({"0": container("main")})
    }),
    ("an image as a volume", |pod, _| {
        volume(pod, json!({"image": {"reference": "docker.io/library/miner"}}))
    }),
    ("files of the node", |pod, _| {
        volume(pod, json!({"hostPath": {"path": "/"}}))
    }),
    ("files over the network", |pod, _| {
        volume(pod, json!({"nfs": {"server": "203.0.113.7", "path": "/"}}))
    }),
    ("a driver", |pod, _| {
        volume(pod, json!({"csi": {"driver": "evil.example"}}))
    }),
    ("a type of volume that is newer than us", |pod, _| {
        volume(pod, json!({"newerThanUs": {}}))
    }),
    ("two types at once", |pod, _| {
        volume(pod, json!({"emptyDir": {}, "hostPath": {"path": "/"}}))
    }),
    ("a Secret", |pod, _| {
        volume(pod, json!({"secret": {"secretName": "payroll"}}))
    }),
    ("all keys of a Secret", |pod, _| {
        volume(pod, json!({"secret": {"secretName": "model"}}))
    }),
    ("a Secret among sources", |pod, _| {
        volume(
            pod,
            json!({"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "payroll"}}]}}),
        )
    }),
    ("a Secret as variables", |pod, at| {
        any_container(pod, at)["envFrom"] = json!([{"secretRef": {"name": "payroll"}}])
    }),
    (
        "a key as a variable",
        |pod, at| {
            any_container(pod, at)["env"] =
                json!([{"name": "A"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "model", "key": "other"}}}])
        },
    ),
    ("a Secret to pull with", |pod, _| {
        push(pod, "/spec/imagePullSecrets", json!({"name": "payroll"}))
    }),
    ("a token for others", |pod, _| {
        volume(
            pod,
            json!({"projected": {"sources": [{"serviceAccountToken": {"audience": "evil", "path": "t"}}]}}),
        )
    }),
    ("a second network interface", |pod, _| {
        pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = json!("evil")
    }),
];

fn container(name: &str) -> Value {
    json!({"name": name, "image": "registry.example.com/finance/a:1"})
}

fn push(pod: &mut Value, pointer: &str, item: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let place = &mut pod.pointer_mut(parent).expect("a place")[key];
    if !place.is_array() {
        *place = json!([]);
    }
    place.as_array_mut().expect("a list").push(item);
}

fn volume(pod: &mut Value, source: Value) {
    let mut volume = source;
    volume["name"] = json!("evil");
    push(pod, "/spec/volumes", volume);
}

fn remove(pod: &mut Value, pointer: &str, key: &str) {
    pod.pointer_mut(pointer)
        .and_then(Value::as_object_mut)
        .expect("a map")
        .remove(key);
}

fn any_container(pod: &mut Value, at: usize) -> &mut Value {
    let lists = ["containers", "initContainers"];
    let lists = lists.map(|list| pod["spec"][list].as_array().map_or(0, Vec::len));
    let at = at % (lists[0] + lists[1]);
    if at < lists[0] {
        &mut pod["spec"]["containers"][at]
    } else {
        &mut pod["spec"]["initContainers"][at - lists[0]]
    }
}

fn remove_image(pod: &mut Value, at: usize) {
    any_container(pod, at)
        .as_object_mut()
        .expect("a container")
        .remove("image");
}

/// The object of a kind that makes such pods, as a launcher sends it.
fn whole(kind: &str, pod: &Value) -> ((&'static str, &'static str, &'static str), Value) {
    let metadata = json!({"name": "o", "labels": {"ringfence.dev/workflow": "triage"}});
    match kind {
        "Pod" => (("", "Pod", "pods"), pod.clone()),
        "CronJob" => {
            let job = json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}, "spec": {"template": pod}});
            (
                ("batch", "CronJob", "cronjobs"),
                json!({"metadata": metadata, "spec": {"jobTemplate": job}}),
            )
        }
        _ => (
            ("apps", "Deployment", "deployments"),
            json!({"metadata": metadata, "spec": {"template": pod}}),
        ),
    }
}

#[test]
fn a_pod_that_fits_passes_and_with_one_hostile_field_it_does_not() {
    let facts = facts();
    let place = (select(vec!["Pod", "CronJob", "Deployment"]), any::<bool>());
    let strategy = (vec(harmless(), 0..6), any::<Index>(), any::<Index>(), place);
    let run = runner(2000).run(&strategy, |(harmless, which, at, (kind, update))| {
        let mut pod = json!({
            "metadata": {"name": "o", "labels": {"ringfence.dev/workflow": "triage"}, "annotations": {}},
            "spec": {"serviceAccountName": "triage", "containers": [container("main")]},
        });
        for change in harmless {
            change(&mut pod);
        }
        let ask = |pod: &Value, old: &Value| {
            let (asked, object) = whole(kind, pod);
            // A template may change; the pod itself is made.
            let update = update && kind != "Pod";
            let old = if update { whole(kind, old).1 } else { Value::Null };
            judged(
                &review(if update { "UPDATE" } else { "CREATE" }, asked, "ann", &object, &old),
                &facts,
            )
        };
        let plain = json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}, "spec": {}});
        prop_assert_eq!(ask(&pod, &plain), Some(vec![]), "refused, and it fits: {}", pod);
        let (name, hostile) = HOSTILE[which.index(HOSTILE.len())];
        let mut twisted = pod.clone();
        hostile(&mut twisted, at.index(64));
        let found = ask(&twisted, &pod);
        prop_assert!(
            found.is_some_and(|rules| !rules.is_empty()),
            "{} passes: {}",
            name,
            twisted
        );
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}
