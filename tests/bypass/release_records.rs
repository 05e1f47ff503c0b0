//! Door: Helm's record of a release, written by somebody who may write Secrets and not read them: whoever upgrades next carries it out.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{SOON, World};

const GUARD: &str = "ringfence-release-records";
const TYPE: &str = "helm.sh/release.v1";

fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

fn secret(name: &str, type_: &str, labels: &Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": labels}, "type": type_, "stringData": {"release": "H4sIAAAAAAAA"},
    })
}

fn labels() -> Value {
    json!({"owner": "helm", "name": "app", "version": "99", "status": "deployed"})
}

/// By its labels, by its type, or by its name, each of which alone has Helm read it.
///
/// Held by: `ringfence-release-records`
#[tokio::test]
async fn a_tenant_writes_a_record_that_the_next_upgrade_carries_out() {
    let world = World::shared().await;
    let ns = &world.enforced("release").await;
    for (name, type_, labels) in [
        ("sh.helm.release.v1.app.v99", TYPE, labels()),
        ("sh.helm.release.v1.app.v99", "Opaque", json!({})),
        ("anything", "Opaque", labels()),
        ("anything", TYPE, json!({})),
    ] {
        for query in ["", "?dryRun=All"] {
            let answer = world
                .tess
                .post(&format!("{}{query}", secrets(ns)), &secret(name, type_, &labels))
                .await;
            let said = answer.refused_by_guard(GUARD);
            assert!(said.contains("Fix: ") && said.contains("list"), "{said}");
        }
    }
    let mut generated = secret("x", "Opaque", &json!({}));
    generated["metadata"] = json!({"generateName": "sh.helm.release.v1.app.v"});
    world.tess.post(&secrets(ns), &generated).await.refused_by_guard(GUARD);

    // Her own becomes none, and one that is there does not become hers.
    let own = secret("own", "Opaque", &json!({"owner": "tess"}));
    world.tess.post(&secrets(ns), &own).await.ok();
    let path = format!("{}/own", secrets(ns));
    let turned = secret("own", "Opaque", &labels());
    world.tess.put(&path, &turned).await.refused_by_guard(GUARD);
    let (_, edith) = world.person(ns, "edit").await;
    let record = format!("sh.helm.release.v1.{}.v1", unique("app"));
    edith.post(&secrets(ns), &secret(&record, TYPE, &labels())).await.ok();
    let path = format!("{}/{record}", secrets(ns));
    for labels in [labels(), json!({})] {
        world
            .tess
            .put(&path, &secret(&record, TYPE, &labels))
            .await
            .refused_by_guard(GUARD);
    }
    // What she writes for her workflows is nobody's record.
    let key = secret("own", "Opaque", &json!({"owner": "tess", "name": "app"}));
    world.tess.put(&format!("{}/own", secrets(ns)), &key).await.ok();
    world
        .tess
        .post(&secrets(ns), &secret("helm", "Opaque", &json!({})))
        .await
        .ok();
    // Where nothing is enforced, nobody asks.
    let plain = &world.namespace("plain", &json!({})).await;
    world
        .tess
        .post(&secrets(plain), &secret("anything", TYPE, &labels()))
        .await
        .ok();
}

/// Helm itself, by those who may read what it wrote.
///
/// Out of scope: whoever may list the Secrets of a namespace, as `edit` and `admin` do, is Helm as far as anybody can tell, and writes its records; those in a ConfigMap (Helm's other driver) are anybody's who may write ConfigMaps. Records of releases that others upgrade belong into a namespace of their own.
#[tokio::test]
async fn an_editor_writes_what_helm_writes() {
    let world = World::shared().await;
    let ns = &world.enforced("helm").await;
    let (_, edith) = world.tenant(ns).await;
    eventually(SOON, || async {
        let record = secret(&unique("sh.helm.release.v1.app"), TYPE, &labels());
        let answer = edith.post(&secrets(ns), &record).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    let map = json!({"metadata": {"name": "sh.helm.release.v1.app.v1", "labels": labels()}, "data": {"release": "H4sIAAAAAAAA"}});
    world
        .tess
        .post(&format!("/api/v1/namespaces/{ns}/configmaps"), &map)
        .await
        .ok();
}
