//! What the chart asks of the image is what the image gives.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{binaries, repository};

use crate::built::{image, printed, text};
use crate::running::{NO_CLUSTER, container};

/// The pods that the chart makes: the Deployment's, and that of `helm test`.
fn pods() -> Vec<Value> {
    let helm = binaries().unwrap_or_else(|error| panic!("{error:#}")).join("helm");
    let rendered = printed(
        60,
        text(&helm),
        &[
            "template",
            "ringfence",
            "charts/ringfence",
            "--namespace=ringfence-system",
        ],
    );
    let objects = serde_saphyr::from_multiple::<Value>(&rendered).expect("YAML");
    let pods: Vec<Value> = objects
        .into_iter()
        .filter_map(|object| match object["kind"].as_str() {
            Some("Deployment") => Some(object["spec"]["template"]["spec"].clone()),
            Some("Pod") => Some(object["spec"].clone()),
            _ => None,
        })
        .collect();
    assert_eq!(pods.len(), 2);
    pods
}

#[test]
fn its_pods_are_of_this_image_and_run_as_its_user() {
    let config = &image().config["config"];
    for pod in pods() {
        let container = &pod["containers"][0];
        assert_eq!(container["image"], format!("ringfence:{}", env!("CARGO_PKG_VERSION")));
        let security = &pod["securityContext"];
        assert_eq!(
            config["User"],
            format!("{}:{}", security["runAsUser"], security["runAsGroup"])
        );
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        // The image has no shell, so there is nothing else that could be run.
        assert!(container["command"].is_null());
    }
}

#[test]
fn its_ports_are_those_of_the_image() {
    let pods = pods();
    let ports = pods
        .iter()
        .flat_map(|pod| pod["containers"][0]["ports"].as_array().into_iter().flatten());
    let asked: BTreeSet<String> = ports
        .map(|port| {
            format!(
                "{}/{}",
                port["containerPort"],
                port["protocol"].as_str().expect("a protocol").to_lowercase()
            )
        })
        .collect();
    let exposed = image().config["config"]["ExposedPorts"].as_object().expect("ports");
    assert_eq!(asked, exposed.keys().cloned().collect());
}

/// It ends because there is no cluster, and not because an argument is unknown (2).
#[test]
fn its_arguments_are_understood() {
    for pod in pods() {
        let arguments: Vec<&str> = pod["containers"][0]["args"]
            .as_array()
            .expect("arguments")
            .iter()
            .map(|argument| argument.as_str().expect("text"))
            .collect();
        let said = container(&repository().join("charts"), &arguments);
        assert!(said.err.contains(NO_CLUSTER), "{arguments:?}: {said:?}");
        if arguments[0] == "run" {
            assert_eq!(image().config["config"]["Cmd"], json!(["run"]));
            assert_eq!(said.code, Some(1), "{said:?}");
        }
    }
}
