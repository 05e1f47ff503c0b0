//! Engines on real nodes, as the pages of `examples/jobs` and `examples/prefect` say: what is admitted runs to its end inside the fence, and
//! beside it what has the wrong image, account or launcher is refused. Whatever they made is gone afterwards.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use support::{Identity, Output, eventually};

use super::{NOTICED, Story};
use crate::client::Client;
use crate::flows::{AUTH, Flows, IMAGE, NAMESPACE as FLOWS, SERVER, WORKER, settings};
use crate::objects::all;
use crate::sandbox::say;

const JOBS: &str = "ai-jobs";
/// Where Prefect's server and its workers are.
const PREFECT: &str = "prefect";

impl Story {
    /// A pipeline's Job, its CronJob's tick, and one by hand; Kubernetes' own controllers make the pods.
    pub(super) async fn runs_a_pipelines_jobs(&self) {
        self.follows("jobs", JOBS, "scoring").await;
        self.runs("kubectl create secret generic model --namespace ai-jobs --from-literal=API_KEY=opens-nothing")
            .await;
        let pipeline = Identity::service_account("ci", "deployer");
        for line in [
            "apply -f examples/jobs/job.yaml -f examples/jobs/cronjob.yaml",
            "create job by-hand --from=cronjob/score-nightly --namespace ai-jobs",
            // The night comes each minute.
            r#"patch cronjob score-nightly --namespace ai-jobs --patch={"spec":{"schedule":"* * * * *"}}"#,
        ] {
            let said = self.kubectl(&pipeline, line).await;
            assert!(said.success && !said.stderr.contains("Warning"), "{said}");
        }

        let template = |spec: &str| {
            format!(
                r#"patch cronjob score-nightly --namespace ai-jobs --patch={{"spec":{{"jobTemplate":{{"spec":{{"template":{{"spec":{spec}}}}}}}}}}}"#
            )
        };
        let image = template(r#"{"containers":[{"name":"score","image":"docker.io/library/busybox:1"}]}"#);
        let account = template(r#"{"serviceAccountName":"default"}"#);
        let stolen = "create job stolen --from=cronjob/score-nightly --namespace ai-jobs";
        for (somebody, line, rule) in [
            (&pipeline, image.as_str(), "[approved-images]"),
            (&pipeline, &account, "[own-service-account]"),
            (&Identity::Admin, stolen, "[launcher]"),
        ] {
            let said = self.kubectl(somebody, line).await;
            assert!(!said.success && said.stderr.contains(rule), "{said}");
        }

        for job in ["score-once", "by-hand"] {
            self.scored(job).await;
        }
        say("waiting for the CronJob's minute");
        let tick = eventually(NOTICED, || async {
            let jobs = self.admin.items(&all("Job", JOBS)).await?;
            // The one by hand has its CronJob as owner too.
            let tick = jobs.iter().find(|job| {
                let name = job["metadata"]["name"].as_str();
                name.is_some_and(|name| name.starts_with("score-nightly-"))
            });
            let tick = tick.context("no tick yet")?;
            ensure!(tick["metadata"]["ownerReferences"][0]["kind"] == "CronJob", "{tick}");
            Ok(tick["metadata"]["name"].as_str().context("no name")?.to_owned())
        })
        .await;
        self.scored(&tick).await;
        let jobs = self.admin.items(&all("Job", JOBS)).await.expect("Jobs");
        assert!(
            jobs.iter().all(|job| job["metadata"]["name"] != "stolen"),
            "what was refused is not there"
        );
        self.forgets("jobs").await;
    }

    /// Its pod ran to its end as what was declared.
    async fn scored(&self, job: &str) {
        self.runs(&format!(
            "kubectl wait --namespace {JOBS} --for=condition=Complete job/{job} --timeout=100s"
        ))
        .await;
        let said = self.runs(&format!("kubectl logs --namespace {JOBS} job/{job}")).await;
        assert_eq!(said.stdout, "scored: with the declared key\n");
        self.ran(JOBS, job, "scoring").await;
    }

    /// The one pod of a Job ended well, as the account of its workflow.
    async fn ran(&self, namespace: &str, job: &str, workflow: &str) -> Value {
        let pods = format!(
            "{}?labelSelector=batch.kubernetes.io/job-name={job}",
            all("Pod", namespace)
        );
        let mut pods = self.admin.items(&pods).await.expect("pods");
        assert_eq!(pods.len(), 1, "one pod is enough: {pods:#?}");
        let pod = pods.remove(0);
        assert_eq!(pod["spec"]["serviceAccountName"], workflow);
        assert_eq!(pod["metadata"]["labels"]["ringfence.dev/workflow"], workflow);
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["exitCode"], 0, "{ended}");
        pod
    }

    /// Prefect's server and its Kubernetes worker are pods of their own namespace; the worker starts a flow run inside the fence, whose pod
    /// tells the server, with the password of the declared Secret, that it is done.
    pub(super) async fn runs_prefects_flows(&self) {
        self.runs(
            "helm upgrade ringfence charts/ringfence --namespace ringfence-system --reuse-values -f examples/prefect/values.yaml",
        )
        .await;
        self.replicas(2).await;
        self.follows("prefect", FLOWS, "flows").await;
        self.runs(&format!(
            "kubectl create secret generic prefect-auth --namespace {FLOWS} --from-literal=auth={AUTH}"
        ))
        .await;
        let api = self.serves_prefect().await;
        let installed = Client::install(self.cluster.plane.directory(), "prefect").await;
        let flows = Flows(installed.with(&settings(&api)));
        flows.answers(|| "see target/node/logs/failed.log".to_owned()).await;
        say("prefect: a work pool with the example's template, and the flow in it");
        flows
            .pool("fenced", Some("examples/prefect/base-job-template.json"))
            .await;

        flows.ask("fenced", &[]).await;
        self.works(&api, "prefect-worker").await;
        let jobs = format!("kubectl get jobs --namespace {FLOWS} --output=jsonpath=");
        self.until(&format!("{jobs}{{.items[*].metadata.name}}"), |said| {
            !said.stdout.is_empty()
        })
        .await;
        self.until(&format!("{jobs}{{.items[*].status.succeeded}}"), |said| {
            said.stdout == "1"
        })
        .await;
        let job = self.runs(&format!("{jobs}{{.items[*].metadata.name}}")).await.stdout;
        let pod = self.ran(FLOWS, &job, "flows").await;
        assert_eq!(pod["spec"]["containers"][0]["image"], IMAGE);
        assert!(!pod.to_string().contains(AUTH), "the server's password is in no pod");
        let said = self.runs(&format!("kubectl logs --namespace {FLOWS} job/{job}")).await;
        assert!(said.stdout.contains("triaged as user 1000"), "{said}");
        // A table as wide as its rows.
        let wide = flows.0.with(&[("COLUMNS", "300")]);
        let completed = wide.run("prefect", &["flow-run", "ls", "--state", "Completed"]).await;
        let completed = completed.expect("the server's list of runs");
        let run = pod["metadata"]["labels"]["prefect.io/flow-run-id"].as_str();
        assert!(
            completed.contains(run.expect("the run's label")),
            "the server knows of no end: {completed}"
        );

        say("prefect: a run with an image that nobody declared");
        flows.ask("fenced", &["image=docker.io/library/busybox:1"]).await;
        self.is_told("prefect-worker", "[approved-images]").await;
        self.runs("kubectl delete pod --namespace prefect prefect-worker").await;

        say("prefect: a worker that has the rights in Kubernetes, and is no launcher");
        for line in [
            "kubectl create serviceaccount other-worker --namespace prefect".to_owned(),
            format!(
                "kubectl create rolebinding other-worker --namespace {FLOWS} --clusterrole=edit --serviceaccount=prefect:other-worker"
            ),
        ] {
            self.runs(&line).await;
        }
        flows.ask("fenced", &[]).await;
        self.works(&api, "other-worker").await;
        self.is_told("other-worker", "[launcher]").await;
        for kind in ["Job", "Pod"] {
            let found = self.admin.items(&all(kind, FLOWS)).await.expect("a list");
            assert_eq!(found.len(), 1, "nothing else got in");
        }
        self.forgets("prefect").await;
    }

    /// Starts Prefect's server behind a Service. Returns where its API is.
    async fn serves_prefect(&self) -> String {
        let command = [
            "prefect", "server", "start", "--host", "0.0.0.0", "--port", "4200", "--no-ui",
        ];
        let mut server = of_prefect("prefect-server", "default", &command, &SERVER);
        server["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 4200}, "periodSeconds": 1});
        self.admin.post(&all("Pod", PREFECT), &server).await.ok();
        let service = json!({"metadata": {"name": "prefect-server"}, "spec": {
            "selector": {"app": "prefect-server"}, "ports": [{"port": 4200}],
        }});
        let path = format!("/api/v1/namespaces/{PREFECT}/services");
        let service = self.admin.post(&path, &service).await.ok();
        let ready =
            "kubectl get pod prefect-server --namespace prefect --output=jsonpath={.status.containerStatuses[0].ready}";
        self.until(ready, |said| said.stdout == "true").await;
        let address = service["spec"]["clusterIP"].as_str().expect("an address");
        format!("http://{address}:4200/api")
    }

    /// Starts a worker, named as its account.
    async fn works(&self, api: &str, account: &str) {
        say(&format!("prefect: a worker as the account {account}"));
        let command = ["prefect", "worker", "start", "--pool", "fenced"];
        let worker = of_prefect(account, account, &command, &[&settings(api)[..], &WORKER].concat());
        self.admin.post(&all("Pod", PREFECT), &worker).await.ok();
    }

    /// Waits until a worker says by which rule a run of it was refused.
    async fn is_told(&self, worker: &str, rule: &str) {
        let logs = format!("kubectl logs --namespace {PREFECT} {worker}");
        self.until(&logs, |said| said.stdout.contains(rule) || said.stderr.contains(rule))
            .await;
    }

    /// Applies an example as its page says, the platform's part and the product team's.
    async fn follows(&self, engine: &str, namespace: &str, workflow: &str) {
        let file = |name: &str| format!("examples/{engine}/{name}.yaml");
        for line in [
            format!("kubectl apply -f {} -f {}", file("platform"), file("workflow")),
            format!("kubectl wait aiworkflow/{workflow} --for=condition=Ready --namespace {namespace} --timeout=60s"),
        ] {
            let said = self.runs(&line).await;
            assert!(!said.stderr.contains("Warning"), "{said}");
        }
    }

    /// With all that ran there.
    async fn forgets(&self, engine: &str) {
        self.runs(&format!(
            "kubectl delete -f examples/{engine}/workflow.yaml -f examples/{engine}/platform.yaml --timeout=110s"
        ))
        .await;
    }

    /// kubectl as somebody. A patch, which comes last, may hold spaces.
    async fn kubectl(&self, somebody: &Identity, line: &str) -> Output {
        say(&format!("as {somebody:?}: kubectl {line}"));
        let (line, patch) = match line.split_once(" --patch=") {
            Some((line, patch)) => (line, Some(format!("--patch={patch}"))),
            None => (line, None),
        };
        let words: Vec<&str> = line.split(' ').chain(patch.as_deref()).collect();
        self.cluster.plane.kubectl_as(somebody, &words).await.expect("kubectl")
    }
}

/// A pod of Prefect itself, outside any fence. It has a home to write to, and not by a setting of Prefect's: a worker would hand that on.
fn of_prefect(name: &str, account: &str, command: &[&str], settings: &[(&str, &str)]) -> Value {
    let env: Vec<Value> = [&[("HOME", "/tmp")], settings]
        .concat()
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {
        "serviceAccountName": account, "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "prefect", "image": IMAGE, "args": command, "env": env,
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    }})
}
