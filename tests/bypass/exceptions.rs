//! Door: an exception to a policy excuses more than the platform meant: elsewhere, for longer, for somebody else, or what is no policy.
//!
//! On a control plane that these tests share, because the policies are theirs: one for each colour that a pod wears, and one that cannot
//! judge.

use anyhow::ensure;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Ringfence, eventually, unique};

use tokio::sync::OnceCell;

use crate::world::{
    Actor, Answer, BINARY, CLASSES, NAMESPACES, POLICIES, SOON, all, condition, counted, in_force, master, namespace,
    one, pod, tenant_everywhere, workflow, workload,
};

pub struct Scene {
    pub cluster: &'static ControlPlane,
    pub ringfence: &'static Ringfence,
    pub admin: Actor,
    tess: Actor,
    /// Who launches.
    pub lea: Actor,
    /// Who may write exceptions, by the shipped role, and nothing else.
    pub platform: Actor,
    /// A namespace of the test's own, whose exceptions the class opens for a day.
    pub open: String,
}

/// One that only one test counts is called after nothing else.
const COLOURS: [&str; 4] = ["red", "blue", "green", "amber"];

async fn plane() -> &'static (ControlPlane, Ringfence) {
    static PLANE: OnceCell<(ControlPlane, Ringfence)> = OnceCell::const_new();
    let start = async || {
        let cluster = ControlPlane::start(Options::default()).expect("a control plane");
        let folder = cluster.directory().join("policies");
        std::fs::create_dir(&folder).expect("a folder");
        let colours = COLOURS.map(|name| {
            let rule = format!("deny contains \"is {name}\" if input.pod.metadata.labels.{name}");
            (name, rule)
        });
        let odd = r#"deny contains "is odd" if to_number(input.pod.metadata.labels.number) == 1"#;
        for (name, rule) in colours.into_iter().chain([("unsure", odd.to_owned())]) {
            let text = format!(
                "# METADATA\n# title: {name}\n# description: of a test\n# custom:\n#   name: {name}\n#   severity: low\n#   \
                 remediation: take the label off\n#   scope: pod\n#   controls: []\n#   parameters: {{}}\npackage \
                 ringfence.{name}\n\n{rule}\n"
            );
            std::fs::write(folder.join(format!("{name}.rego")), text).expect("a policy");
        }
        let flags = [format!("--policies={}", folder.display()), "--scan-period=0".to_owned()];
        let ringfence = cluster.start_ringfence_with(BINARY, &Value::Null, &flags).await;
        let ringfence = ringfence.expect("ringfence");
        let admin = Actor::new(cluster.admin().await);
        in_force(&admin).await;
        tenant_everywhere(&cluster, &admin).await;
        let binding = json!({
            "metadata": {"name": "pia"}, "subjects": [{"kind": "User", "name": "pia"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ringfence-exceptions"},
        });
        let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        admin.post(bindings, &binding).await.ok();
        (cluster, ringfence)
    };
    PLANE.get_or_init(start).await
}

impl Scene {
    pub async fn new() -> Self {
        let (cluster, ringfence) = plane().await;
        let admin = Actor::new(cluster.admin().await);
        let open = namespace(&admin, "open", &json!({})).await;
        let scene = Self {
            cluster,
            ringfence,
            tess: Actor::new(cluster.client(&crate::world::tess()).await),
            lea: master(cluster, "lea", &[]).await,
            platform: Actor::new(cluster.client(&Identity::user("pia", &[])).await),
            admin,
            open,
        };
        let exceptions = json!({"namespaces": [scene.open], "maxDays": 1});
        scene.fence(&scene.open, &json!({"exceptions": exceptions})).await;
        scene
    }

    /// Puts a namespace under a class of its own, and waits for the workflow `triage` in it.
    pub async fn fence(&self, namespace: &str, more: &Value) {
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

    pub async fn except(&self, namespace: &str, name: &str, policies: &[&str], more: &Value) -> Answer {
        let exceptions = all("RegoPolicyException", namespace);
        self.platform.post(&exceptions, &exception(name, policies, more)).await
    }

    /// Tries to make a pod, and leaves none behind.
    pub async fn tried(&self, namespace: &str, pod: &Value) -> Answer {
        self.lea
            .post(&format!("{}?dryRun=All", all("Pod", namespace)), pod)
            .await
    }

    /// Waits until the condition of an exception has that reason. Returns its message.
    pub async fn reason(&self, namespace: &str, name: &str, status: &str, reason: &str) -> String {
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

    pub async fn drop(&self, namespace: &str, name: &str) {
        self.platform
            .delete(&one("RegoPolicyException", namespace, name))
            .await
            .ok();
    }
}

pub fn after(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string()
}

/// An exception that ends in an hour, for the objects of its own name where nothing else is said.
pub fn exception(name: &str, policies: &[&str], more: &Value) -> Value {
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
pub fn wearing(name: &str, labels: &[&str]) -> Value {
    let mut pod = pod(name, "triage");
    for label in labels {
        pod["metadata"]["labels"][label] = json!("x");
    }
    pod
}

/// Legitimate: an exception excuses the object that it names, until it ends, and whoever uses it is told.
#[tokio::test]
async fn an_exception_excuses_its_object_and_says_so() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let pods = all("Pod", ns);
    let vendor = wearing("vendor", &["green"]);
    scene.lea.post(&pods, &vendor).await.refused_by("green");
    let written = scene.except(ns, "vendor", &["green"], &json!({})).await;
    assert_eq!(written.warnings, [] as [String; 0]);
    let end = written.ok()["spec"]["expiresAt"].as_str().unwrap().to_owned();

    // A dry run is told the same, and counts nowhere.
    let used = || {
        counted(
            scene.ringfence,
            "ringfence_exceptions_used_total",
            &["policy=\"green\""],
        )
    };
    for (path, count) in [(format!("{pods}?dryRun=All"), 0.0), (pods.clone(), 1.0)] {
        let answer = scene.lea.post(&path, &vendor).await;
        let told = format!("ringfence: [green] excused by RegoPolicyException {ns}/vendor until {end}: is green.");
        assert!(
            answer.warnings.iter().any(|warning| warning.starts_with(&told)),
            "{:?}",
            answer.warnings
        );
        answer.ok();
        assert_eq!(used().await, count, "{path}");
    }
    let warned = ["policy=\"green\"", "action=\"warn\""];
    assert_eq!(
        counted(scene.ringfence, "ringfence_policy_decisions_total", &warned).await,
        1.0
    );
    let log = scene.ringfence.log();
    let line = log
        .lines()
        .find(|line| line.contains("exceptions=\"vendor\"") && line.contains("dry_run=false"));
    assert!(line.is_some_and(|line| line.contains("verdict=\"warn\"")), "{line:?}");

    scene.tried(ns, &wearing("other", &["green"])).await.refused_by("green");
    let message = scene.reason(ns, "vendor", "True", "Accepted").await;
    assert_eq!(message, format!("in force until {end} for what green would refuse"));
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
        ["vendor", "[\"green\"]", end.as_str(), "True", "Accepted"],
        "{shown}"
    );

    // By labels: its own.
    let selector = json!({"objectSelector": {"matchLabels": {"green": "x"}}});
    scene.except(ns, "by-label", &["green"], &selector).await.ok();
    scene.tried(ns, &wearing("other", &["green"])).await.ok();
    let mut job = workload("Job", &wearing("job", &["green"]));
    job["metadata"]["labels"] = json!({"ringfence.dev/workflow": "triage"});
    scene.lea.post(&all("Job", ns), &job).await.refused_by("green");
    scene.drop(ns, "by-label").await;
    scene.tried(ns, &wearing("other", &["green"])).await.refused_by("green");
}

/// With certificates of their own, as tenants have them.
/// Held by: `RBAC`
#[tokio::test]
async fn a_tenant_excuses_itself() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let exceptions = all("RegoPolicyException", ns);
    scene.except(ns, "vendor", &["red"], &json!({})).await.ok();
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

/// Legitimate: an exception for a Deployment holds for its pods, and for whoever changes them while it is in force.
#[tokio::test]
async fn an_exception_takes_along_what_controllers_make() {
    let scene = &Scene::new().await;
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

/// By saying that what is excused controls it: anybody may write that into what they make.
///
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_stretches_an_exception_to_a_pod_of_her_own() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let names = json!({"names": ["stretched"]});
    scene.except(ns, "stretched", &["red"], &names).await.ok();
    let web = workload("Deployment", &wearing("stretched", &["red"]));
    let web = scene.lea.post(&all("Deployment", ns), &web).await.ok();
    let set = eventually(SOON, || async {
        let sets = scene.admin.items(&all("ReplicaSet", ns)).await?;
        let of_web = |set: &Value| set["metadata"]["ownerReferences"][0]["uid"] == web["metadata"]["uid"];
        let set = sets.into_iter().find(of_web);
        set.filter(|set| set["status"]["replicas"] == 1)
            .ok_or(anyhow::anyhow!("no pod yet"))
    })
    .await;
    let owner = |kind: &str, made: &Value| {
        json!([{
            "apiVersion": "apps/v1", "kind": kind, "name": made["metadata"]["name"], "uid": made["metadata"]["uid"], "controller": true,
        }])
    };
    let plain = scene.lea.post(&all("Pod", ns), &wearing("plain", &[])).await.ok();
    let dry = |path: &str| format!("{path}?dryRun=All");
    for owners in [owner("Deployment", &web), owner("ReplicaSet", &set)] {
        let mut pod = wearing("mine", &["red"]);
        pod["metadata"]["ownerReferences"] = owners.clone();
        scene.tried(ns, &pod).await.refused_by("red");
        let mut job = workload("Job", &wearing("mine", &["red"]));
        job["metadata"]["ownerReferences"] = owners.clone();
        let answer = scene.lea.post(&dry(&all("Job", ns)), &job).await;
        answer.refused_by("red");
        let change = json!({"metadata": {"labels": {"red": "x"}, "ownerReferences": owners}});
        let path = dry(&one("Pod", ns, "plain"));
        scene.lea.patch(&path, &change).await.refused_by("red");
    }
    assert_eq!(plain["metadata"]["ownerReferences"], Value::Null);
    scene.drop(ns, "stretched").await;
    scene.admin.delete(&one("Deployment", ns, "stretched")).await.ok();
}

/// Held by: `operator`
#[tokio::test]
async fn somebody_adds_two_exceptions_up() {
    let scene = &Scene::new().await;
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

/// A rule of the fence, an error of a policy.
/// Held by: `approved-images`, `launcher`, `operator`
#[tokio::test]
async fn somebody_excuses_what_is_no_policy() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let everything = ["amber", "blue", "unsure", "approved-images", "launcher", "pod-security"];
    scene.except(ns, "greedy", &everything, &json!({})).await.ok();
    scene.tried(ns, &wearing("greedy", &["amber"])).await.ok();
    // It cannot judge: `x` is no number.
    let answer = scene.tried(ns, &wearing("greedy", &["amber", "number"])).await;
    assert!(
        answer.refused_by("unsure").contains("could not be judged"),
        "{}",
        answer.message()
    );
    let mut foreign = wearing("greedy", &["amber"]);
    foreign["spec"]["containers"][0]["image"] = json!("docker.io/library/busybox:1");
    let used = || {
        counted(
            scene.ringfence,
            "ringfence_exceptions_used_total",
            &["policy=\"amber\""],
        )
    };
    let before = used().await;
    scene
        .lea
        .post(&all("Pod", ns), &foreign)
        .await
        .refused_by("approved-images");
    let pods = all("Pod", ns);
    scene
        .admin
        .post(&pods, &wearing("greedy", &["amber"]))
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

/// Held by: `operator`
#[tokio::test]
async fn somebody_excuses_where_the_class_opens_nothing() {
    let scene = &Scene::new().await;
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

/// By saying of an object of his own that what is excused controls it. Of what makes pods that is proven; of anything else it is a word.
///
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_has_his_object_excused_by_the_name_of_another() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let name = unique("no-maps");
    let constraints = json!({
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
    });
    let source = "package maps\n\ndeny contains {\"msg\": \"no maps\", \"path\": \"data\"} if true\n";
    let policy = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name},
        "spec": {
            "description": "No maps", "validationActions": ["Deny"], "failurePolicy": "Fail", "matchConstraints": constraints,
            "rego": {"modules": [{"name": "policy.rego", "source": source}]},
        },
    });
    scene.admin.post(POLICIES, &policy).await.ok();
    let maps = format!("{}?dryRun=All", all("ConfigMap", ns));
    let map = |name: &str| json!({"metadata": {"name": name}});
    eventually(SOON, || async {
        let answer = scene.tess.post(&maps, &map("mine")).await;
        ensure!(answer.message().contains(&format!("[{name}]")), "{}", answer.message());
        Ok(())
    })
    .await;
    let mut deployment = workload("Deployment", &pod("legacy", "triage"));
    deployment["spec"]["replicas"] = json!(0);
    let legacy = scene.lea.post(&all("Deployment", ns), &deployment).await.ok();
    scene.except(ns, "legacy", &[&name], &json!({})).await.ok();
    // The object that it names is excused.
    eventually(SOON, || async {
        let answer = scene.tess.post(&maps, &map("legacy")).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    let mut claims = map("mine");
    claims["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "legacy", "uid": legacy["metadata"]["uid"], "controller": true,
    }]);
    scene.tess.post(&maps, &claims).await.refused_by(&name);
    scene.admin.delete(&format!("{POLICIES}/{name}")).await.ok();
}
