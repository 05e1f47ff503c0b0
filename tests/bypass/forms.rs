//! Door: a write that would be refused slips by in another form: another media type, keys twice or in other letters, a name that is made
//! up later, a dry run.
//!
//! The API server reads each of them into one object before anybody is asked. That nothing is judged but that object is what is shown
//! here: for a guard of the API server's own, and for what the webhooks are asked about.

use axum::http::Method;
use serde_json::{Value, json};
use support::unique;

use crate::attackers::force_apply;
use crate::world::{Answer, NAMESPACES, World, all, one, pod, workflow, workload};

/// A field of a protobuf message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![(number << 3) | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(bytes);
    message
}

/// An object of `v1` that is metadata alone, as protobuf: its envelope, and in it the name (1) and each label (11).
fn protobuf(object: &Value) -> Vec<u8> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .as_bytes()
    };
    let mut metadata = field(1, text("/metadata/name"));
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let pair = [field(1, key.as_bytes()), field(2, value.as_str().unwrap().as_bytes())];
        metadata.extend(field(11, &pair.concat()));
    }
    let types = [field(1, text("/apiVersion")), field(2, text("/kind"))].concat();
    let envelope = [field(1, &types), field(2, &field(1, &metadata))].concat();
    [b"k8s\0", envelope.as_slice()].concat()
}

/// An object as CBOR, with the tag by which the API server knows it.
fn cbor(object: &Value) -> Vec<u8> {
    fn head(major: u8, length: usize, out: &mut Vec<u8>) {
        match length {
            0..24 => out.push((major << 5) | length as u8),
            24..256 => out.extend([(major << 5) | 24, length as u8]),
            _ => out.extend([(major << 5) | 25, (length >> 8) as u8, length as u8]),
        }
    }
    fn write(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Object(fields) => {
                head(5, fields.len(), out);
                for (key, value) in fields {
                    write(&json!(key), out);
                    write(value, out);
                }
            }
            Value::String(text) => {
                head(3, text.len(), out);
                out.extend(text.as_bytes());
            }
            other => panic!("no object here holds {other}"),
        }
    }
    let mut out = vec![0xd9, 0xd9, 0xf7];
    write(object, &mut out);
    out
}

/// An object of metadata in every form in which the API server might take it: what it is called, the media type, and the bytes.
fn forms(object: &Value) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let text = object.to_string();
    let (labels, metadata) = (object["metadata"]["labels"].to_string(), object["metadata"].to_string());
    let (name, head) = (
        object["metadata"]["name"].to_string(),
        format!(r#""apiVersion":{},"kind":{}"#, object["apiVersion"], object["kind"]),
    );
    let clean = format!(r#"{{"name":{name}}}"#);
    let json = "application/json";
    let texts = [
        ("as JSON", json, text.clone()),
        (
            "as YAML",
            "application/yaml",
            serde_saphyr::to_string(object).expect("YAML"),
        ),
        (
            "as YAML with an anchor",
            "application/yaml",
            format!(
                "apiVersion: v1\nkind: {}\nkept: &a {labels}\nmetadata:\n  name: {name}\n  labels: *a\n",
                object["kind"]
            ),
        ),
        (
            "labels twice, first",
            json,
            format!(r#"{{{head},"metadata":{{"name":{name},"labels":{labels},"labels":{{"a":"b"}}}}}}"#),
        ),
        (
            "labels twice, last",
            json,
            format!(r#"{{{head},"metadata":{{"name":{name},"labels":{{"a":"b"}},"labels":{labels}}}}}"#),
        ),
        (
            "metadata twice, first",
            json,
            format!(r#"{{{head},"metadata":{metadata},"metadata":{clean}}}"#),
        ),
        (
            "metadata twice, last",
            json,
            format!(r#"{{{head},"metadata":{clean},"metadata":{metadata}}}"#),
        ),
        (
            "Metadata",
            json,
            format!(r#"{{{head},"metadata":{clean},"Metadata":{metadata}}}"#),
        ),
        (
            "METADATA first",
            json,
            format!(r#"{{"METADATA":{metadata},{head},"metadata":{clean}}}"#),
        ),
        (
            "Labels",
            json,
            format!(r#"{{{head},"metadata":{{"name":{name},"Labels":{labels}}}}}"#),
        ),
        (
            "escaped keys",
            json,
            text.replace("labels", "\\u006cabels")
                .replace("ringfence.dev", "ringfence\\u002edev"),
        ),
        ("a key with a zero byte", json, text.replace("labels", "labels\\u0000")),
        ("two documents", json, format!(r#"{{{head},"metadata":{clean}}}{text}"#)),
        (
            "a list of one",
            json,
            format!(r#"{{"apiVersion":"v1","kind":"List","items":[{text}]}}"#),
        ),
        ("a byte order mark", json, format!("\u{feff}{text}")),
        ("no media type", "", text.clone()),
        ("an unknown media type", "text/plain", text),
    ];
    let mut forms: Vec<_> = texts.map(|(what, media, text)| (what, media, text.into_bytes())).into();
    forms.push(("as protobuf", "application/vnd.kubernetes.protobuf", protobuf(object)));
    forms.push(("as CBOR", "application/cbor", cbor(object)));
    forms
}

/// What a form may come to: refused as the plain one is, not taken by the API server at all, or stored without what was refused.
async fn is_held(
    world: &World,
    collection: &str,
    name: &str,
    key: &str,
    refusal: &str,
    answer: &Answer,
) -> Result<&'static str, String> {
    match answer.code {
        403 if answer.message().contains(refusal) => Ok("refused"),
        400 | 415 | 422 => Ok("not taken"),
        201 => {
            let path = format!("{collection}/{name}");
            let made = world.admin.get(&path).await.ok();
            world.admin.delete(&path).await.ok();
            if made["metadata"]["labels"][key] == Value::Null {
                Ok("dropped")
            } else {
                Err(format!("stored with the label: {made}"))
            }
        }
        code => Err(format!("{code} {}", answer.message())),
    }
}

/// For a guard, the mode of a namespace; for a webhook, a labelled object where nothing is approved.
/// Held by: `ringfence-modes`, `approved-namespace`, `API server`
#[tokio::test]
async fn somebody_says_it_in_another_form() {
    let world = World::shared().await;
    let plain = &world.namespace("forms", &json!({})).await;
    let nell = crate::moving::writer_of_namespaces(&world).await;
    let (_, owner) = world.person(plain, "cluster-admin").await;
    for (kind, key, collection, actor, refusal) in [
        (
            "Namespace",
            "ringfence.dev/enforce",
            NAMESPACES.to_owned(),
            &nell,
            "'ringfence-modes'",
        ),
        (
            "ConfigMap",
            "ringfence.dev/workflow",
            all("ConfigMap", plain),
            &owner,
            "[approved-namespace]",
        ),
        (
            "ServiceAccount",
            "ringfence.dev/workflow",
            all("ServiceAccount", plain),
            &owner,
            "[approved-namespace]",
        ),
    ] {
        let mut found = Vec::new();
        for query in ["", "?fieldValidation=Ignore", "?fieldValidation=Strict"] {
            // A name for each: a namespace that was made takes its time to go.
            for number in 0.. {
                let name = unique("form");
                let object =
                    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": {key: "default"}}});
                let Some((what, media, bytes)) = forms(&object).into_iter().nth(number) else {
                    break;
                };
                let path = format!("{collection}{query}");
                let answer = actor.bytes(Method::POST, &path, media, bytes).await;
                match is_held(&world, &collection, &name, key, refusal, &answer).await {
                    Ok(how) => found.push((what, query, how)),
                    Err(why) => panic!("{kind} {what}{query}: {why}"),
                }
            }
        }
        // Those that the API server takes are judged, and were not all turned away before.
        for what in [
            "as JSON",
            "as YAML",
            "as YAML with an anchor",
            "labels twice, last",
            "escaped keys",
            "as protobuf",
        ] {
            assert!(found.contains(&(what, "", "refused")), "{kind}: {found:?}");
        }
        assert!(found.contains(&("Labels", "", "dropped")), "{kind}: {found:?}");
    }
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "labels": {"a": "b"}}});
    let media = "application/vnd.kubernetes.protobuf";
    let made = owner
        .bytes(Method::POST, &all("ConfigMap", plain), media, protobuf(&map))
        .await;
    assert_eq!(made.ok()["metadata"]["labels"]["a"], "b");
}

/// What each patch makes of an object is judged, and not the patch.
/// Held by: `approved-namespace`, `launcher`, `valid-declaration`
#[tokio::test]
async fn somebody_patches_it_in_piece_by_piece() {
    let world = World::shared().await;
    let (plain, ns) = (
        &world.namespace("patches", &json!({})).await,
        &world.enforced("patches").await,
    );
    world.ready(ns, "triage", &json!({})).await;
    let (_, owner) = world.person(plain, "cluster-admin").await;
    let (_, of_ns) = world.person(ns, "cluster-admin").await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "patched"}});
    owner.post(&all("ConfigMap", plain), &map).await.ok();
    let labels = json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}});
    let moved = json!([
        {"op": "add", "path": "/metadata/annotations", "value": {"ringfence.dev/workflow": "triage"}},
        {"op": "copy", "from": "/metadata/annotations", "path": "/metadata/labels"},
    ]);
    let lea = world.master("lea", &[]).await;
    lea.post(
        &all("Deployment", ns),
        &workload("Deployment", &pod("patched", "triage")),
    )
    .await
    .ok();
    let image = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "registry.example.com/finance/triage:9"}]);
    let container = json!([{"name": "main", "image": "registry.example.com/finance/triage:9"}]);
    let strategic = json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "main"}], "containers": container}}}});
    let replaced = json!({"spec": {"template": {"spec": {"$retainKeys": ["containers", "restartPolicy", "securityContext", "serviceAccountName"], "containers": container}}}});
    let applied = |api_version: &str, kind: &str, body: &Value| {
        let mut whole = body.clone();
        whole["apiVersion"] = json!(api_version);
        whole["kind"] = json!(kind);
        whole
    };
    let wider = json!({"spec": {"images": ["UPPER"]}});
    let replace_images = json!([{"op": "replace", "path": "/spec/images/0", "value": "UPPER"}]);
    for (actor, path, rule, api_version, kind, merge, patch, more) in [
        (
            &owner,
            one("ConfigMap", plain, "patched"),
            "approved-namespace",
            "v1",
            "ConfigMap",
            &labels,
            &moved,
            Some(&labels),
        ),
        (
            &of_ns,
            one("Deployment", ns, "patched"),
            "launcher",
            "apps/v1",
            "Deployment",
            &strategic,
            &image,
            Some(&replaced),
        ),
        (
            &world.tess,
            one("AIWorkflow", ns, "triage"),
            "valid-declaration",
            "ringfence.dev/v1alpha1",
            "AIWorkflow",
            &wider,
            &replace_images,
            None,
        ),
    ] {
        let mut answers = vec![actor.json_patch(&path, patch).await];
        if kind == "Deployment" {
            let whole = applied(
                api_version,
                kind,
                &json!({"spec": {"template": {"spec": {"containers": container}}}}),
            );
            answers.push(force_apply(actor, &path, &whole).await);
        } else {
            answers.push(actor.patch(&path, merge).await);
            answers.push(force_apply(actor, &path, &applied(api_version, kind, merge)).await);
        }
        if let Some(more) = more {
            answers.push(actor.strategic(&path, merge).await);
            answers.push(actor.strategic(&path, more).await);
        }
        for answer in answers {
            answer.refused_by(rule);
        }
        let cbor_apply = format!("{path}?fieldManager=mallory&force=true");
        let body = cbor(&json!({"apiVersion": api_version, "kind": kind}));
        let answer = actor
            .bytes(Method::PATCH, &cbor_apply, "application/apply-patch+cbor", body)
            .await;
        assert_eq!(answer.code, 415, "{}", answer.message());
    }
    // A patch that makes an object where there was none is a creation.
    let mut made = applied("v1", "ConfigMap", &labels);
    made["metadata"]["name"] = json!("made");
    force_apply(&owner, &one("ConfigMap", plain, "made"), &made)
        .await
        .refused_by("approved-namespace");
    let mut labelled = map.clone();
    labelled["metadata"] = json!({"name": "made", "labels": labels["metadata"]["labels"]});
    let put = owner.put(&one("ConfigMap", plain, "made"), &labelled).await;
    assert!(
        put.code == 404 || put.refused_by("approved-namespace").contains("ConfigMap"),
        "{}",
        put.message()
    );
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    for (actor, path) in [
        (&owner, one("ConfigMap", plain, "patched")),
        (&of_ns, one("Deployment", ns, "patched")),
    ] {
        actor.strategic(&path, &note).await.ok();
        actor.patch(&path, &note).await.ok();
    }
}

/// A name that is made up later, a dry run, another namespace in the body than in the path.
/// Held by: `launcher`, `approved-images`, `ringfence-owned-objects`, `API server`
#[tokio::test]
async fn somebody_hides_the_name_or_only_tries() {
    let world = World::shared().await;
    let (ns, other) = (
        &world.enforced("hides").await,
        &world.namespace("hides", &json!({})).await,
    );
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let mut nameless = pod("x", "triage");
    nameless["metadata"].as_object_mut().unwrap().remove("name");
    nameless["metadata"]["generateName"] = json!("triage-");
    let pods = all("Pod", ns);
    let dry = |path: &str| format!("{path}?dryRun=All");
    for path in [pods.clone(), dry(&pods)] {
        owner.post(&path, &nameless).await.refused_by("launcher");
        let mut foreign = nameless.clone();
        foreign["spec"]["containers"][0]["image"] = json!("docker.io/library/evil:1");
        lea.post(&path, &foreign).await.refused_by("approved-images");
    }
    // What is tried leaves nothing, what is refused and what is not.
    let made = lea.post(&dry(&pods), &nameless).await.ok();
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("triage-"));
    let off = json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}});
    let namespace = format!("{NAMESPACES}/{ns}");
    world.admin.patch(&dry(&namespace), &off).await.ok();
    let wider = json!({"spec": {"images": ["**"]}});
    world
        .tess
        .patch(&dry(&one("AIWorkflow", ns, "triage")), &wider)
        .await
        .ok();
    world.tess.delete(&dry(&one("AIWorkflow", ns, "triage"))).await.ok();
    owner
        .delete(&dry(&one("ServiceAccount", ns, "triage")))
        .await
        .refused_by_guard("ringfence-owned-objects");
    let another = workflow("another", &json!({}));
    world.tess.post(&dry(&all("AIWorkflow", ns)), &another).await.ok();
    assert_eq!(world.admin.items(&pods).await.unwrap(), [] as [Value; 0]);
    assert!(!world.admin.is_there(&one("AIWorkflow", ns, "another")).await.unwrap());
    assert!(
        !world
            .admin
            .is_there(&one("ServiceAccount", ns, "another"))
            .await
            .unwrap()
    );
    let read = world.admin.get(&one("AIWorkflow", ns, "triage")).await.ok();
    assert_eq!(
        (&read["metadata"]["generation"], &read["metadata"]["deletionTimestamp"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(
        world.admin.get(&namespace).await.ok()["metadata"]["labels"]["ringfence.dev/enforce"],
        "default"
    );
    // A word that is none: not taken for a dry run, and not for a write.
    assert_eq!(lea.post(&format!("{pods}?dryRun=all"), &nameless).await.code, 422);
    // The path says where it goes.
    let mut elsewhere = pod("elsewhere", "triage");
    elsewhere["metadata"]["namespace"] = json!(ns);
    assert_eq!(lea.post(&all("Pod", other), &elsewhere).await.code, 400);
    elsewhere["metadata"]["namespace"] = json!("");
    lea.post(&pods, &elsewhere).await.ok();
    // One after the other by hand, or all at once: a collection goes object by object, and the fence's own stay.
    lea.delete(&pods).await.ok();
    let accounts = all("ServiceAccount", ns);
    owner
        .delete(&accounts)
        .await
        .refused_by_guard("ringfence-owned-objects");
    world
        .admin
        .post(&pods, &pod("again", "triage"))
        .await
        .refused_by("launcher");
}
