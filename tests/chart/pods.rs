//! What comes along into the pods of the chart by values, and what the pod of `helm test` may do.

use serde_json::{Value, json};

use crate::chart::{RELEASE, helm, objects, render};
use crate::rendered::{of_kind, strings};

/// A change of theirs is a change of arguments, and so a rollout.
#[tokio::test]
async fn policies_are_switched_by_arguments() {
    let switches = |objects: &[Value]| -> Vec<String> {
        let container = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0].clone();
        let arguments = strings(&container["args"]).into_iter().map(str::to_owned);
        arguments.filter(|flag| flag.starts_with("--policy-action")).collect()
    };
    assert_eq!(switches(&render(&[]).await), [""; 0]);
    let switched = render(&[
        "policies.approved-images.action=Warn",
        "policies.namespace-baseline.enabled=true",
        "policies.resource-limits.enabled=false",
        "policies.short-lived-tokens.enabled=false",
        "policies.short-lived-tokens.action=Deny",
    ]);
    assert_eq!(
        switches(&switched.await),
        [
            "--policy-action=approved-images=Warn",
            "--policy-action=resource-limits=Off",
            "--policy-action=short-lived-tokens=Off"
        ]
    );
}

/// Its rights are there while it runs, and are for looking; what it creates are questions: an access review, and a dry run that is
/// refused.
#[tokio::test]
async fn the_pod_of_helm_test_may_look_and_is_restricted() {
    let values = [
        "image.registry=mirror.example.com:5000",
        "imagePullSecrets[0].name=mirror",
    ];
    let source = [
        "template",
        "ringfence",
        "--show-only",
        "templates/tests/installation.yaml",
    ];
    let objects = objects(&helm(&source, &values).await.unwrap());
    let mut creates = Vec::new();
    for object in &objects {
        assert_eq!(object["metadata"]["annotations"]["helm.sh/hook"], "test", "{object}");
        assert_eq!(object["metadata"]["name"], "ringfence-test");
        for rule in object["rules"].as_array().into_iter().flatten() {
            let verbs = strings(&rule["verbs"]);
            assert!(!strings(&rule["resources"]).contains(&"secrets"), "{rule}");
            match verbs[..] {
                ["get"] => assert!(!strings(&rule["resourceNames"]).is_empty(), "{rule}"),
                ["list"] => assert!(
                    [
                        json!(["regopolicies", "aiworkflowclasses", "aiworkflows"]),
                        json!(["namespaces"]),
                        json!(["endpointslices"])
                    ]
                    .contains(&rule["resources"]),
                    "{rule}"
                ),
                _ => creates.push((
                    object["kind"].clone(),
                    verbs.join(","),
                    strings(&rule["resources"]).join(","),
                )),
            }
        }
    }
    let expected = [("ClusterRole", "subjectaccessreviews"), ("Role", "configmaps")];
    let expected = expected.map(|(kind, what)| (json!(kind), "create".to_owned(), what.to_owned()));
    assert_eq!(creates, expected);

    let pod = of_kind(&objects, "Pod")[0];
    let deployment = render(&values).await;
    let deployment = of_kind(&deployment, "Deployment")[0];
    let replica = &deployment["spec"]["template"]["spec"];
    for field in ["securityContext", "imagePullSecrets"] {
        assert_eq!(pod["spec"][field], replica[field], "{field}");
    }
    let (own, of_replica) = (&pod["spec"]["containers"][0], &replica["containers"][0]);
    for field in ["image", "securityContext"] {
        assert_eq!(own[field], of_replica[field], "{field}");
    }
    assert_eq!(
        own["args"],
        json!(["check", "installation", format!("--release-namespace={RELEASE}")])
    );
    let selected = deployment["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let labels = &pod["metadata"]["labels"];
    assert!(
        selected.iter().any(|(label, value)| labels[label] != *value),
        "the Service would send it reviews"
    );
}

#[tokio::test]
async fn labels_annotations_and_registries_of_others_come_along() {
    let objects = render(&[
        "commonLabels.team=platform",
        "podLabels.mesh=off",
        "podAnnotations.example\\.com/scrape=yes",
        "image.registry=mirror.example.com:5000",
    ])
    .await;
    let of_definitions = |object: &&Value| object["kind"] != "CustomResourceDefinition";
    for object in objects.iter().filter(of_definitions) {
        assert_eq!(
            object["metadata"]["labels"]["team"], "platform",
            "{}",
            object["metadata"]["name"]
        );
    }
    let deployment = of_kind(&objects, "Deployment")[0];
    let pods = &deployment["spec"]["template"];
    assert_eq!(pods["metadata"]["labels"]["mesh"], "off");
    assert_eq!(pods["metadata"]["annotations"]["example.com/scrape"], "yes");
    assert!(pods["metadata"]["annotations"]["checksum/policy-parameters"].is_string());
    let image = pods["spec"]["containers"][0]["image"].as_str().unwrap();
    assert!(image.starts_with("mirror.example.com:5000/ringfence:"), "{image}");
    // A Deployment's selector never changes.
    let plain = render(&[]).await;
    assert_eq!(
        deployment["spec"]["selector"],
        of_kind(&plain, "Deployment")[0]["spec"]["selector"]
    );
}

/// No tenant's pod can put it off a node, whatever PriorityClass of the cluster it names.
#[tokio::test]
async fn its_pods_rank_above_every_class_that_people_may_make() {
    let of = async |values: &[&str]| {
        let objects = render(values).await;
        let pods = of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"].clone();
        let quotas = objects.into_iter().filter(|object| object["kind"] == "ResourceQuota");
        (pods.get("priorityClassName").cloned(), quotas.collect::<Vec<_>>())
    };
    let (class, quotas) = of(&[]).await;
    assert_eq!(class, Some(json!("system-cluster-critical")));
    let [quota] = quotas.as_slice() else {
        panic!("{quotas:?}")
    };
    let matches = json!([{"scopeName": "PriorityClass", "operator": "In", "values": ["system-cluster-critical"]}]);
    assert_eq!(quota["spec"]["scopeSelector"]["matchExpressions"], matches);
    assert_eq!(of(&["priorityClassName=ours"]).await, (Some(json!("ours")), Vec::new()));
    assert_eq!(of(&["priorityClassName="]).await, (None, Vec::new()));
}

/// Said before anything is installed.
#[tokio::test]
async fn a_cluster_that_is_too_old_is_refused_with_the_version_that_is_needed() {
    for (version, is_served) in [
        ("1.30.9", false),
        ("1.31.0", true),
        ("1.31.4-gke.1", true),
        ("1.36.3", true),
    ] {
        let rendered = helm(&["template", "ringfence", "--kube-version", version], &[]).await;
        match rendered {
            Ok(_) => assert!(is_served, "{version}"),
            Err(refusal) => assert!(!is_served && refusal.contains(">=1.31.0-0"), "{version}: {refusal}"),
        }
    }
}
