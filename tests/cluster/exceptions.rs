//! Exceptions to Rego policies: what one excuses, for whom and until when, and what it never does. On a control plane of its own,
//! because the policies are the test's: one for each colour that a pod wears, and one that cannot judge.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Ringfence, eventually, unique};

use crate::world::{
    Actor, Answer, BINARY, CLASSES, NAMESPACES, SOON, all, condition, counted, in_force, master, namespace, one, pod,
    tenant_everywhere, workflow, workload,
};

struct Scene {
    cluster: ControlPlane,
    ringfence: Ringfence,
    admin: Actor,
    tess: Actor,
    /// Who launches.
    lea: Actor,
    /// Who may write exceptions, by the shipped role, and nothing else.
    platform: Actor,
    /// Whose exceptions the class opens for a day.
    open: String,
}

#[tokio::test]
async fn what_policies_refuse_is_excused_as_the_class_allows_and_no_further() {
    let scene = &Scene::start().await;
    an_exception_excuses_its_object_and_says_so(scene).await;
    only_the_platform_writes_them(scene).await;
    it_takes_along_what_controllers_make(scene).await;
    two_never_add_up(scene).await;
    what_is_not_a_policys_finding_stands(scene).await;
    other_namespaces_are_not_opened(scene).await;
    it_ends_by_itself(scene).await;
    no_edit_prolongs_it(scene).await;
    it_ends_when_it_is_deleted(scene).await;
    of_too_many_none_counts(scene).await;
}

impl Scene {
    async fn start() -> Self {
        let cluster = ControlPlane::start(Options::default()).expect("a control plane");
        let folder = cluster.directory().join("policies");
        std::fs::create_dir(&folder).expect("a folder");
        for (name, rule) in [
            ("red", r#"deny contains "is red" if input.pod.metadata.labels.red"#),
            ("blue", r#"deny contains "is blue" if input.pod.metadata.labels.blue"#),
            (
                "unsure",
                r#"deny contains "is odd" if to_number(input.pod.metadata.labels.number) == 1"#,
            ),
        ] {
            let text = format!(
                "# METADATA\n# title: {name}\n# description: of a test\n# custom:\n#   name: {name}\n#   severity: low\n#   \
                 remediation: take the label off\n#   scope: pod\n#   controls: []\n#   parameters: {{}}\npackage \
                 ringfence.{name}\n\n{rule}\n"
            );
            std::fs::write(folder.join(format!("{name}.rego")), text).expect("a policy");
        }
        let flags = [format!("--policies={}", folder.display())];
        let ringfence = cluster.start_ringfence_with(BINARY, &Value::Null, &flags).await;
        let ringfence = ringfence.expect("ringfence");
        let admin = Actor::new(cluster.admin().await);
        in_force(&admin).await;
        let lea = master(&cluster, "lea", &[]).await;
        let platform = Actor::new(cluster.client(&Identity::user("pia", &[])).await);
        let binding = json!({
            "metadata": {"name": "pia"}, "subjects": [{"kind": "User", "name": "pia"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ringfence-exceptions"},
        });
        let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        admin.post(bindings, &binding).await.ok();
        let open = namespace(&admin, "open", &json!({})).await;
        let tess = tenant_everywhere(&cluster, &admin).await;
        let scene = Self {
            cluster,
            ringfence,
            admin,
            tess,
            lea,
            platform,
            open,
        };
        let exceptions = json!({"namespaces": [scene.open], "maxDays": 1});
        scene.fence(&scene.open, &json!({"exceptions": exceptions})).await;
        scene
    }

    /// Puts a namespace under a class of its own, and waits for the workflow `triage` in it.
    async fn fence(&self, namespace: &str, more: &Value) {
        let mut spec = json!({"images": {"allowed": ["registry.example.com/**"]}});
        for (key, value) in more.as_object().expect("fields") {
            spec[key] = value.clone();
        }
        let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": namespace}, "spec": spec});
        self.admin.post(CLASSES, &class).await.ok();
        let labels = json!({"ringfence.dev/enforce": namespace, "pod-security.kubernetes.io/enforce": "restricted"});
        let path = format!("{NAMESPACES}/{namespace}");
        self.admin
            .patch(&path, &json!({"metadata": {"labels": labels}}))
            .await
            .ok();
        let triage = workflow("triage", &json!({}));
        self.tess.post(&all("AIWorkflow", namespace), &triage).await.ok();
        let path = one("AIWorkflow", namespace, "triage");
        eventually(SOON, || async {
            let workflow = self.admin.read(&path).await?;
            let ready = condition(&workflow, "Ready");
            ensure!(ready["status"] == "True", "{}", workflow["status"]);
            Ok(())
        })
        .await;
    }

    async fn except(&self, namespace: &str, name: &str, policies: &[&str], more: &Value) -> Answer {
        let exceptions = all("RegoPolicyException", namespace);
        self.platform.post(&exceptions, &exception(name, policies, more)).await
    }

    /// Tries to make a pod, and leaves none behind.
    async fn tried(&self, namespace: &str, pod: &Value) -> Answer {
        self.lea
            .post(&format!("{}?dryRun=All", all("Pod", namespace)), pod)
            .await
    }

    /// Waits until the condition of an exception has that reason. Returns its message.
    async fn reason(&self, namespace: &str, name: &str, status: &str, reason: &str) -> String {
        let path = one("RegoPolicyException", namespace, name);
        eventually(SOON, || async {
            let exception = self.admin.read(&path).await?;
            let accepted = condition(&exception, "Accepted");
            let now = accepted["observedGeneration"] == exception["metadata"]["generation"];
            ensure!(
                now && accepted["status"] == status && accepted["reason"] == reason,
                "{accepted}"
            );
            Ok(accepted["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    async fn drop(&self, namespace: &str, name: &str) {
        self.platform
            .delete(&one("RegoPolicyException", namespace, name))
            .await
            .ok();
    }
}

fn after(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string()
}

/// An exception that ends in an hour, for the objects of its own name where nothing else is said.
fn exception(name: &str, policies: &[&str], more: &Value) -> Value {
    let mut spec = json!({"policies": policies, "reason": "the vendor is late", "expiresAt": after(3600)});
    if more.get("objectSelector").is_none() {
        spec["names"] = json!([name]);
    }
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicyException", "metadata": {"name": name}, "spec": spec})
}

/// A pod that fits but for the policies whose labels it wears.
fn wearing(name: &str, labels: &[&str]) -> Value {
    let mut pod = pod(name, "triage");
    for label in labels {
        pod["metadata"]["labels"][label] = json!("x");
    }
    pod
}

async fn an_exception_excuses_its_object_and_says_so(scene: &Scene) {
    let ns = &scene.open;
    let pods = all("Pod", ns);
    let vendor = wearing("vendor", &["red"]);
    scene.lea.post(&pods, &vendor).await.refused_by("red");
    let written = scene.except(ns, "vendor", &["red"], &json!({})).await;
    assert_eq!(written.warnings, [] as [String; 0]);
    let end = written.ok()["spec"]["expiresAt"].as_str().unwrap().to_owned();

    // A dry run is told the same, and counts nowhere.
    let used = || counted(&scene.ringfence, "ringfence_exceptions_used_total", &["policy=\"red\""]);
    for (path, count) in [(format!("{pods}?dryRun=All"), 0.0), (pods.clone(), 1.0)] {
        let answer = scene.lea.post(&path, &vendor).await;
        let told = format!("ringfence: [red] excused by RegoPolicyException {ns}/vendor until {end}: is red.");
        assert!(
            answer.warnings.iter().any(|warning| warning.starts_with(&told)),
            "{:?}",
            answer.warnings
        );
        answer.ok();
        assert_eq!(used().await, count, "{path}");
    }
    let warned = ["policy=\"red\"", "action=\"warn\""];
    assert_eq!(
        counted(&scene.ringfence, "ringfence_policy_decisions_total", &warned).await,
        1.0
    );
    let log = scene.ringfence.log();
    let line = log
        .lines()
        .find(|line| line.contains("exceptions=\"vendor\"") && line.contains("dry_run=false"));
    assert!(line.is_some_and(|line| line.contains("verdict=\"warn\"")), "{line:?}");

    scene.tried(ns, &wearing("other", &["red"])).await.refused_by("red");
    let message = scene.reason(ns, "vendor", "True", "Accepted").await;
    assert_eq!(message, format!("in force until {end} for what red would refuse"));
    let shown = scene.cluster.kubectl(&["get", "rpx", "--namespace", ns]).await.unwrap();
    let row: Vec<&str> = shown
        .stdout
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        row[..5],
        ["vendor", "[\"red\"]", end.as_str(), "True", "Accepted"],
        "{shown}"
    );

    // By labels: its own.
    let selector = json!({"objectSelector": {"matchLabels": {"red": "x"}}});
    scene.except(ns, "by-label", &["red"], &selector).await.ok();
    scene.tried(ns, &wearing("other", &["red"])).await.ok();
    let mut job = workload("Job", &wearing("job", &["red"]));
    job["metadata"]["labels"] = json!({"ringfence.dev/workflow": "triage"});
    scene.lea.post(&all("Job", ns), &job).await.refused_by("red");
    scene.drop(ns, "by-label").await;
    scene.tried(ns, &wearing("other", &["red"])).await.refused_by("red");
}

/// With certificates of their own, as tenants have them.
async fn only_the_platform_writes_them(scene: &Scene) {
    let ns = &scene.open;
    let exceptions = all("RegoPolicyException", ns);
    let (vendor, bindings) = (format!("{exceptions}/vendor"), all("RoleBinding", ns));
    let binding = |user: &str, role: &str| {
        json!({
            "metadata": {"name": unique("binding")}, "subjects": [{"kind": "User", "name": user}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        })
    };
    for role in ["ringfence-tenant", "edit", "admin"] {
        let user = unique(role);
        scene.admin.post(&bindings, &binding(&user, role)).await.ok();
        let tenant = Actor::new(scene.cluster.client(&Identity::user(&user, &[])).await);
        eventually(SOON, || async { tenant.read(&exceptions).await }).await;
        let patch = json!({"spec": {"expiresAt": after(60)}});
        for (what, answer) in [
            (
                "create",
                tenant.post(&exceptions, &exception("mine", &["red"], &json!({}))).await,
            ),
            ("patch", tenant.patch(&vendor, &patch).await),
            (
                "update",
                tenant.put(&vendor, &scene.admin.get(&vendor).await.ok()).await,
            ),
            (
                "patch",
                tenant.patch(&format!("{vendor}/status"), &json!({"status": {}})).await,
            ),
            ("delete", tenant.delete(&vendor).await),
            ("deletecollection", tenant.delete(&exceptions).await),
        ] {
            let refused = format!("cannot {what} resource \"regopolicyexceptions");
            assert!(
                answer.code == 403 && answer.message().contains(&refused),
                "{role}: {what}: {}",
                answer.body
            );
        }
        // Nobody gives himself what he does not hold.
        let answer = tenant.post(&bindings, &binding(&user, "ringfence-exceptions")).await;
        assert_eq!(answer.code, 403, "{role}: {}", answer.body);
    }
}

async fn it_takes_along_what_controllers_make(scene: &Scene) {
    let ns = &scene.open;
    scene.except(ns, "web", &["red"], &json!({})).await.ok();
    let web = workload("Deployment", &wearing("web", &["red"]));
    scene.lea.post(&all("Deployment", ns), &web).await.ok();
    let made = eventually(SOON, || async {
        let pods = scene.admin.items(&all("Pod", ns)).await?;
        let of_web = pods.iter().find(|pod| pod["metadata"]["generateName"].is_string());
        let name = of_web.and_then(|pod| pod["metadata"]["name"].as_str());
        name.map(str::to_owned).ok_or(anyhow::anyhow!("no pod yet"))
    })
    .await;
    // Whoever changes it later is judged by the same: people as well as controllers.
    let path = one("Pod", ns, &made);
    let change = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    scene.lea.patch(&path, &change("a")).await.ok();
    scene.drop(ns, "web").await;
    scene.lea.patch(&path, &change("b")).await.refused_by("red");
    scene.admin.delete(&one("Deployment", ns, "web")).await.ok();
}

async fn two_never_add_up(scene: &Scene) {
    let ns = &scene.open;
    let both = wearing("both", &["red", "blue"]);
    let names = json!({"names": ["both"]});
    for colour in ["red", "blue"] {
        scene
            .except(ns, &format!("only-{colour}"), &[colour], &names)
            .await
            .ok();
    }
    let answer = scene.tried(ns, &both).await;
    answer.refused_by("red");
    let said = answer.refused_by("blue");
    let why =
        format!("RegoPolicyException {ns}/only-red excuses all that refuses an object or nothing of it, and not blue");
    assert!(said.contains(&why), "{said}");
    scene.except(ns, "whole", &["blue", "red"], &names).await.ok();
    let answer = scene.tried(ns, &both).await;
    assert_eq!(
        answer
            .warnings
            .iter()
            .filter(|warning| warning.contains("/whole until"))
            .count(),
        2
    );
    answer.ok();
    for name in ["only-red", "only-blue", "whole"] {
        scene.drop(ns, name).await;
    }
}

async fn what_is_not_a_policys_finding_stands(scene: &Scene) {
    let ns = &scene.open;
    let everything = ["red", "blue", "unsure", "approved-images", "launcher", "pod-security"];
    scene.except(ns, "greedy", &everything, &json!({})).await.ok();
    scene.tried(ns, &wearing("greedy", &["red"])).await.ok();
    // It cannot judge: `x` is no number.
    let answer = scene.tried(ns, &wearing("greedy", &["red", "number"])).await;
    assert!(
        answer.refused_by("unsure").contains("could not be judged"),
        "{}",
        answer.message()
    );
    let mut foreign = wearing("greedy", &["red"]);
    foreign["spec"]["containers"][0]["image"] = json!("docker.io/library/busybox:1");
    let used = || counted(&scene.ringfence, "ringfence_exceptions_used_total", &[]);
    let before = used().await;
    scene
        .lea
        .post(&all("Pod", ns), &foreign)
        .await
        .refused_by("approved-images");
    let pods = all("Pod", ns);
    scene
        .admin
        .post(&pods, &wearing("greedy", &["red"]))
        .await
        .refused_by("launcher");
    assert_eq!(used().await, before, "what is refused all the same used none");
    let message = scene.reason(ns, "greedy", "True", "UnknownPolicy").await;
    assert!(
        message.contains("is called approved-images, launcher, pod-security;"),
        "{message}"
    );
    scene.drop(ns, "greedy").await;
}

async fn other_namespaces_are_not_opened(scene: &Scene) {
    // One whose class opens another namespace, and one whose class opens none.
    for exceptions in [json!({"namespaces": [scene.open], "maxDays": 1}), Value::Null] {
        let ns = &namespace(&scene.admin, "shut", &json!({})).await;
        scene.fence(ns, &json!({"exceptions": exceptions})).await;
        let answer = scene.except(ns, "vendor", &["red"], &json!({})).await;
        assert!(
            answer
                .warnings
                .iter()
                .any(|warning| warning.contains("does not act as things are (NamespaceNotAllowed)")),
            "{:?}",
            answer.warnings
        );
        answer.ok();
        scene.tried(ns, &wearing("vendor", &["red"])).await.refused_by("red");
        let message = scene.reason(ns, "vendor", "False", "NamespaceNotAllowed").await;
        assert!(message.contains("spec.exceptions.namespaces"), "{message}");
        // The platform opens it, at once, and shuts it.
        let class = format!("{CLASSES}/{ns}");
        let open = json!({"spec": {"exceptions": {"namespaces": [ns], "maxDays": 1}}});
        scene.admin.patch(&class, &open).await.ok();
        scene.tried(ns, &wearing("vendor", &["red"])).await.ok();
        scene.reason(ns, "vendor", "True", "Accepted").await;
        scene
            .admin
            .patch(&class, &json!({"spec": {"exceptions": null}}))
            .await
            .ok();
        scene.tried(ns, &wearing("vendor", &["red"])).await.refused_by("red");
    }
}

async fn it_ends_by_itself(scene: &Scene) {
    let ns = &scene.open;
    let end = after(3);
    let short = json!({"expiresAt": end});
    scene.except(ns, "short", &["red"], &short).await.ok();
    scene.tried(ns, &wearing("short", &["red"])).await.ok();
    scene.reason(ns, "short", "True", "Accepted").await;
    let left = end.parse::<Timestamp>().unwrap().duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(20)).await;
    scene.tried(ns, &wearing("short", &["red"])).await.refused_by("red");
    // Written once when it ends, and never again.
    scene.reason(ns, "short", "False", "Expired").await;
    let path = one("RegoPolicyException", ns, "short");
    let said = scene.admin.get(&path).await.ok();
    assert_eq!(said["metadata"]["generation"], 1, "nobody edited it");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let later = scene.admin.get(&path).await.ok();
    assert_eq!(
        later["metadata"]["resourceVersion"],
        said["metadata"]["resourceVersion"]
    );
}

async fn no_edit_prolongs_it(scene: &Scene) {
    let ns = &scene.open;
    let day = 24 * 3600;
    let long = wearing("long", &["red"]);
    let answer = scene
        .except(ns, "long", &["red"], &json!({"expiresAt": after(day + 60)}))
        .await;
    assert!(
        answer.warnings.iter().any(|warning| warning.contains("(TooLong)")),
        "{:?}",
        answer.warnings
    );
    scene.tried(ns, &long).await.refused_by("red");
    let message = scene.reason(ns, "long", "False", "TooLong").await;
    assert!(message.contains("more than 1 days after it was made"), "{message}");

    // Within its day it may be moved, and not beyond, whoever says when it was made.
    let path = one("RegoPolicyException", ns, "long");
    scene
        .platform
        .patch(&path, &json!({"spec": {"expiresAt": after(day - 60)}}))
        .await
        .ok();
    scene.tried(ns, &long).await.ok();
    let later = json!({"metadata": {"creationTimestamp": after(2 * day)}, "spec": {"expiresAt": after(day + 60)}});
    scene.platform.patch(&path, &later).await;
    scene.platform.patch(&path, &json!({"spec": later["spec"]})).await.ok();
    scene.tried(ns, &long).await.refused_by("red");
    let mut forged = exception(
        "forged",
        &["red"],
        &json!({"names": ["long"], "expiresAt": after(2 * day)}),
    );
    forged["metadata"]["creationTimestamp"] = json!(after(2 * day));
    scene.platform.post(&all("RegoPolicyException", ns), &forged).await.ok();
    scene.tried(ns, &long).await.refused_by("red");
}

async fn it_ends_when_it_is_deleted(scene: &Scene) {
    let ns = &scene.open;
    let held = wearing("held", &["red"]);
    scene.except(ns, "held", &["red"], &json!({})).await.ok();
    let path = one("RegoPolicyException", ns, "held");
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    scene
        .platform
        .patch(&path, &finalizers(json!(["example.com/held"])))
        .await
        .ok();
    scene.tried(ns, &held).await.ok();
    scene.drop(ns, "held").await;
    assert!(scene.admin.is_there(&path).await.unwrap(), "a finalizer holds it");
    scene.tried(ns, &held).await.refused_by("red");
    scene.reason(ns, "held", "False", "Terminating").await;
    scene.platform.patch(&path, &finalizers(Value::Null)).await.ok();
    scene.admin.gone(&path).await;
    scene.tried(ns, &held).await.refused_by("red");
}

async fn of_too_many_none_counts(scene: &Scene) {
    let ns = &scene.open;
    let many = wearing("many", &["red"]);
    let collection = all("RegoPolicyException", ns);
    scene.except(ns, "many", &["red"], &json!({})).await.ok();
    let there = scene.admin.items(&collection).await.unwrap().len();
    let answers = (there..200).map(|_| async {
        let name = unique("filler");
        scene
            .except(ns, &name, &["red"], &json!({"names": ["nothing"]}))
            .await
            .ok();
    });
    futures::future::join_all(answers).await;
    scene.tried(ns, &many).await.ok();
    scene
        .except(ns, "one-more", &["red"], &json!({"names": ["many"]}))
        .await
        .ok();
    let answer = scene.tried(ns, &many).await;
    let said = answer.refused_by("red");
    assert!(said.contains("more than 200 RegoPolicyExceptions"), "{said}");
    scene.reason(ns, "one-more", "False", "TooMany").await;
    scene.drop(ns, "one-more").await;
    scene.tried(ns, &many).await.ok();
}
