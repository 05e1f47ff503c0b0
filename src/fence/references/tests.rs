use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// What is found in a pod, one line each: path, name and what is taken; or path and `?`.
fn found(pod: &Value, before: Option<&Value>) -> Vec<String> {
    let mut lines = Vec::new();
    each("", pod, before, &mut |found| {
        lines.push(match found {
            Found::Reference(NamedSecret {
                path,
                name,
                takes,
                optional,
            }) => {
                let takes = match takes {
                    Takes::All => "all".to_owned(),
                    Takes::Keys(keys) => keys.join("+"),
                    Takes::Login => "login".to_owned(),
                };
                let optional = if optional { " optional" } else { "" };
                format!("{path} {name}: {takes}{optional}")
            }
            Found::Unread { path, .. } => format!("{path} ?"),
        });
    });
    lines
}

fn of_spec(spec: Value) -> Vec<String> {
    found(&json!({"spec": spec}), None)
}

fn of_volume(volume: Value) -> Vec<String> {
    let lines = of_spec(json!({"volumes": [volume]}));
    lines.iter().map(|line| line.replace("spec.volumes[0].", "")).collect()
}

fn of_container(container: Value) -> Vec<String> {
    let lines = of_spec(json!({"containers": [container]}));
    lines
        .iter()
        .map(|line| line.replace("spec.containers[0].", ""))
        .collect()
}

#[rstest]
#[case::value(json!([{"name": "A", "value": "b"}]), &[])]
#[case::key(json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]), &["env[0].valueFrom.secretKeyRef s: k"])]
#[case::optional(json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}]), &["env[0].valueFrom.secretKeyRef s: k optional"])]
#[case::other_sources(json!([
    {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}, {"name": "D", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}},
]), &[])]
#[case::beside_another(json!([{"name": "A", "valueFrom": {"fieldRef": {}, "secretKeyRef": {"name": "s", "key": "k"}}}]), &["env[0].valueFrom.secretKeyRef s: k"])]
#[case::newer_source(json!([{"name": "A", "valueFrom": {"vaultRef": {"path": "p"}}}]), &["env[0].valueFrom.vaultRef ?"])]
#[case::newer_beside_it(json!([{"name": "A", "valueFrom": null, "fromSecret": "s"}]), &["env[0].fromSecret ?"])]
#[case::of_another_namespace(json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "namespace": "n"}}}]), &["env[0].valueFrom.secretKeyRef.namespace ?"])]
#[case::no_name(json!([{"name": "A", "valueFrom": {"secretKeyRef": {"key": "k"}}}]), &["env[0].valueFrom.secretKeyRef ?"])]
#[case::no_key(json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]), &["env[0].valueFrom.secretKeyRef ?"])]
#[case::key_of_another_type(json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": ["k"]}}}]), &["env[0].valueFrom.secretKeyRef ?"])]
#[case::text(json!([{"name": "A", "valueFrom": {"secretKeyRef": "s"}}]), &["env[0].valueFrom.secretKeyRef ?"])]
#[case::null(json!([{"name": "A", "valueFrom": {"secretKeyRef": null}}]), &[])]
#[case::no_list(json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}), &["env ?"])]
fn variables_name_keys(#[case] env: Value, #[case] expected: &[&str]) {
    assert_eq!(of_container(json!({"env": env})), expected);
}

#[rstest]
#[case::all(json!([{"prefix": "A_", "secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}]), &["envFrom[0].secretRef s: all"])]
#[case::optional(json!([{"secretRef": {"name": "s", "optional": true}}]), &["envFrom[0].secretRef s: all optional"])]
#[case::newer_source(json!([{"vaultRef": {"name": "s"}}]), &["envFrom[0].vaultRef ?"])]
#[case::newer_field(json!([{"secretRef": {"name": "s", "selector": {"app": "x"}}}]), &["envFrom[0].secretRef.selector ?"])]
#[case::no_name(json!([{"secretRef": {}}]), &["envFrom[0].secretRef ?"])]
#[case::name_of_another_type(json!([{"secretRef": {"name": 7}}]), &["envFrom[0].secretRef ?"])]
fn whole_secrets_become_variables(#[case] from: Value, #[case] expected: &[&str]) {
    assert_eq!(of_container(json!({"envFrom": from})), expected);
}

#[rstest]
#[case::all(json!({"name": "v", "secret": {"secretName": "s", "defaultMode": 256}}), &["secret s: all"])]
#[case::no_items_are_all(json!({"name": "v", "secret": {"secretName": "s", "items": []}}), &["secret s: all"])]
#[case::null_items_are_all(json!({"name": "v", "secret": {"secretName": "s", "items": null}}), &["secret s: all"])]
#[case::keys(json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "a", "path": "p"}, {"key": "b", "path": "q"}], "optional": true}}), &["secret s: a+b optional"])]
#[case::item_without_key(json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "a"}, {"path": "p"}]}}), &["secret.items ?"])]
#[case::items_of_another_type(json!({"name": "v", "secret": {"secretName": "s", "items": {"key": "a"}}}), &["secret.items ?"])]
#[case::named_by_the_other_field(json!({"name": "v", "secret": {"name": "s"}}), &["secret.name ?"])]
#[case::no_name(json!({"name": "v", "secret": {}}), &["secret ?"])]
#[case::text(json!({"name": "v", "secret": "s"}), &["secret ?"])]
#[case::projected(json!({"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}, {"secret": {"name": "t", "items": [{"key": "k"}]}}]}}),
    &["projected.sources[1].secret s: all", "projected.sources[2].secret t: k"])]
#[case::projected_beside_another(json!({"name": "v", "projected": {"sources": [{"configMap": {}, "secret": {"name": "s"}}]}}), &["projected.sources[0].secret s: all"])]
#[case::projected_by_the_other_field(json!({"name": "v", "projected": {"sources": [{"secret": {"secretName": "s"}}]}}), &["projected.sources[0].secret.secretName ?"])]
#[case::projected_newer(json!({"name": "v", "projected": {"sources": [{"vault": {"secretRef": {"name": "s"}}}]}}), &["projected.sources[0].vault.secretRef ?"])]
#[case::projected_no_list(json!({"name": "v", "projected": {"sources": {"secret": {"name": "s"}}}}), &["projected.sources ?"])]
#[case::token(json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"podCertificate": {"signerName": "x/y", "keyType": "ED25519"}}]}}), &[])]
#[case::csi(json!({"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}), &["csi.nodePublishSecretRef s: all"])]
#[case::csi_provider(json!({"name": "v", "csi": {"driver": "d", "volumeAttributes": {"secretProviderClass": "p", "share": "x"}}}), &[])]
#[case::csi_settings(json!({"name": "v", "csi": {"driver": "d", "volumeAttributes": {"secretName": "s"}}}), &["csi.volumeAttributes.secretName s: all"])]
#[case::csi_settings_as_drivers_read_them(json!({"name": "v", "csi": {"driver": "d", "volumeAttributes": {"SecretName": "s"}}}), &["csi.volumeAttributes.SecretName s: all"])]
#[case::csi_settings_by_a_long_name(json!({"name": "v", "csi": {"volumeAttributes": {"csi.storage.k8s.io/node-publish-secret-name": "s"}}}),
    &["csi.volumeAttributes.csi.storage.k8s.io/node-publish-secret-name s: all"])]
#[case::csi_settings_of_another_namespace(json!({"name": "v", "csi": {"volumeAttributes": {"secretNamespace": "n"}}}), &["csi.volumeAttributes.secretNamespace ?"])]
#[case::csi_settings_empty(json!({"name": "v", "csi": {"volumeAttributes": {"secretName": ""}}}), &["csi.volumeAttributes.secretName ?"])]
#[case::csi_newer(json!({"name": "v", "csi": {"driver": "d", "nodeStageSecretRef": {"name": "s"}}}), &["csi.nodeStageSecretRef ?"])]
#[case::csi_of_another_namespace(json!({"name": "v", "csi": {"nodePublishSecretRef": {"name": "s", "namespace": "n"}}}), &["csi.nodePublishSecretRef.namespace ?"])]
#[case::cephfs(json!({"name": "v", "cephfs": {"monitors": [], "secretRef": {"name": "s"}}}), &["cephfs.secretRef s: all"])]
#[case::rbd(json!({"name": "v", "rbd": {"secretRef": {"name": "s"}}}), &["rbd.secretRef s: all"])]
#[case::iscsi(json!({"name": "v", "iscsi": {"secretRef": {"name": "s"}}}), &["iscsi.secretRef s: all"])]
#[case::scale_io(json!({"name": "v", "scaleIO": {"secretRef": {"name": "s"}}}), &["scaleIO.secretRef s: all"])]
#[case::storage_os(json!({"name": "v", "storageos": {"secretRef": {"name": "s"}}}), &["storageos.secretRef s: all"])]
#[case::flex(json!({"name": "v", "flexVolume": {"driver": "d", "secretRef": {"name": "s"}, "options": {"a": "b"}}}), &["flexVolume.secretRef s: all"])]
#[case::flex_settings(json!({"name": "v", "flexVolume": {"options": {"secretName": "s"}}}), &["flexVolume.options.secretName s: all"])]
#[case::azure(json!({"name": "v", "azureFile": {"secretName": "s", "shareName": "x"}}), &["azureFile.secretName s: all"])]
#[case::azure_of_another_namespace(json!({"name": "v", "azureFile": {"secretName": "s", "secretNamespace": "n"}}), &["azureFile.secretName s: all", "azureFile.secretNamespace ?"])]
#[case::of_a_driver_that_had_none(json!({"name": "v", "nfs": {"server": "x", "secretRef": {"name": "s"}}}), &["nfs.secretRef ?"])]
#[case::newer_type(json!({"name": "v", "secretStore": {"ref": "s"}}), &["secretStore ?"])]
#[case::newer_type_of_text(json!({"name": "v", "secretStore": "s"}), &["secretStore ?"])]
#[case::claim(json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"metadata": {"annotations": {"secret": "x"}}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}}}), &[])]
fn volumes_are_secrets_or_name_one(#[case] volume: Value, #[case] expected: &[&str]) {
    assert_eq!(of_volume(volume), expected);
}

#[rstest]
#[case::pull(json!({"imagePullSecrets": [{"name": "r"}]}), &["spec.imagePullSecrets[0] r: login"])]
#[case::nameless(json!({"imagePullSecrets": [{}, {"name": ""}, {"name": null}]}), &[])]
#[case::of_another_type(json!({"imagePullSecrets": [{"name": ["r"]}]}), &["spec.imagePullSecrets[0] ?"])]
#[case::of_another_namespace(json!({"imagePullSecrets": [{"name": "r", "namespace": "n"}]}), &["spec.imagePullSecrets[0].namespace ?"])]
#[case::text(json!({"imagePullSecrets": ["r"]}), &["spec.imagePullSecrets[0] ?"])]
#[case::no_list(json!({"imagePullSecrets": {"name": "r"}}), &["spec.imagePullSecrets ?"])]
#[case::newer_beside_it(json!({"artifactSecretRefs": [{"name": "r"}]}), &["spec.artifactSecretRefs ?"])]
#[case::newer_deep_down(json!({"storage": [{"login": {"SECRETName": "r"}}]}), &["spec.storage[0].login.SECRETName ?"])]
#[case::newer_in_a_container(json!({"containers": [{"login": {"secretRef": {}}}]}), &["spec.containers[0].login.secretRef ?"])]
#[case::newer_in_what_holds_words(json!({"storage": {"labels": {"secretRef": {"name": "r"}}}}), &["spec.storage.labels.secretRef ?"])]
#[case::own_words(json!({
    "nodeSelector": {"secret": "yes"}, "overhead": {"secret": "1"}, "resources": {"limits": {"example.com/secret-device": 1}},
    "topologySpreadConstraints": [{"labelSelector": {"matchLabels": {"secret": "x"}, "matchExpressions": [{"key": "secret", "operator": "Exists"}]}}],
    "containers": [{"name": "secret", "command": ["secret"], "resources": {"requests": {"secret.example.com/x": "1"}}, "volumeMounts": [{"name": "secret"}]}],
}), &[])]
fn whatever_else_is_called_so_is_told(#[case] spec: Value, #[case] expected: &[&str]) {
    assert_eq!(of_spec(spec), expected);
}

#[test]
fn every_list_of_containers_is_read() {
    let one = json!([{"envFrom": [{"secretRef": {"name": "s"}}]}]);
    for list in CONTAINERS {
        assert_eq!(
            of_spec(json!({list: one})),
            [format!("spec.{list}[0].envFrom[0].secretRef s: all")]
        );
    }
    let odd = json!({"containers": {"a": {"envFrom": []}}});
    assert_eq!(of_spec(odd), ["spec.containers ?"]);
}

#[test]
fn what_stood_before_is_not_told_again() {
    let env = |names: &[&str]| -> Value {
        let names = names.iter();
        names
            .map(|name| json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}))
            .collect()
    };
    let pod = |main: &[&str], debuggers: &[&str]| {
        let debuggers: Vec<_> = debuggers.iter().map(|name| json!({"env": env(&[name])})).collect();
        json!({"spec": {
            "containers": [{"image": "a", "env": env(main)}], "ephemeralContainers": debuggers,
            "volumes": [{"name": "v", "secret": {"secretName": "mounted"}}], "imagePullSecrets": [{"name": "r"}],
        }})
    };
    let old = pod(&["a"], &["x"]);
    assert_eq!(found(&old, None).len(), 4);
    assert_eq!(found(&old, Some(&old)), [""; 0]);
    let mut relabelled = old.clone();
    relabelled["spec"]["containers"][0]["image"] = json!("b");
    assert_eq!(found(&relabelled, Some(&old)), [""; 0]);
    let debugged = found(&pod(&["a"], &["x", "y"]), Some(&old));
    let path = "spec.ephemeralContainers[1].env[0].valueFrom.secretKeyRef";
    assert_eq!(debugged, [format!("{path} y: k")]);
    // The API server lets none of these be changed; if it did, they would be seen.
    let changed = found(&pod(&["b"], &["x"]), Some(&old));
    assert_eq!(changed, ["spec.containers[0].env[0].valueFrom.secretKeyRef b: k"]);
    let mut key = old.clone();
    key["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["key"] = json!("other");
    assert_eq!(
        found(&key, Some(&old)),
        ["spec.containers[0].env[0].valueFrom.secretKeyRef a: other"]
    );
}

#[test]
fn a_template_is_told_by_its_own_path() {
    let pod = json!({"spec": {"imagePullSecrets": [{"name": "r"}], "other": {"secretRef": {}}}});
    let mut told = Vec::new();
    each_secret("spec.template", &pod, |secret| told.push(secret.path));
    assert_eq!(told, ["spec.template.spec.imagePullSecrets[0]"]);
}

#[test]
fn a_pod_of_no_shape_names_nothing_and_harms_nobody() {
    for odd in [
        json!(null),
        json!([]),
        json!("x"),
        json!({"spec": null}),
        json!({"spec": [1]}),
        json!({"spec": {"containers": ["x", 7, null]}}),
    ] {
        assert_eq!(found(&odd, None), [""; 0], "{odd}");
    }
}
