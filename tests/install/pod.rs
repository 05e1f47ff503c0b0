//! A pod's life: put on the node, started, probed, started again when it dies, and ended when it is deleted.

use std::net::Ipv4Addr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::container::{Container, Probe, prepare};
use crate::node::{AWAY, Kubelet, LOOK, NAME, Running, asks, now, send};
use crate::sandbox::{NODE, attach, detach};

/// Between two probes of a pod that was not ready yet. A kubelet may take a period for it, and find it later.
const STARTING: Duration = Duration::from_millis(500);

/// A pod's life.
pub struct Pod {
    pub kubelet: Kubelet,
    pub path: String,
    pub uid: String,
    pub image: Value,
    pub name: String,
    pub address: Ipv4Addr,
}

impl Pod {
    pub async fn lives(&self) -> Result<()> {
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": NAME});
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.name}, "target": target});
        let scheduler = &self.kubelet.0.scheduler;
        let path = format!("{}/binding", self.path);
        match send(scheduler, Method::POST, &path, Some(&binding)).await {
            Err(_) if self.never_came().await => return Ok(()),
            bound => bound?,
        };
        // A node may read the pods that are on it, and its authorizer learns of that by a watch.
        let end = Instant::now() + AWAY;
        let (pod, container) = loop {
            let tried = async {
                let pod = self.kubelet.get(&self.path).await?;
                let directory = self.kubelet.0.directory.join(&self.name);
                let container = prepare(&self.kubelet, &pod, self.address, &directory).await?;
                anyhow::Ok((pod, container))
            };
            match tried.await {
                Ok(found) => break found,
                Err(_) if self.never_came().await => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => sleep(LOOK).await,
            }
        };
        let once = match pod["spec"]["restartPolicy"].as_str() {
            Some("Always") => false,
            Some("Never") => true,
            other => bail!("a policy that this kubelet does not know: {other:?}"),
        };
        attach(&self.name, self.address);
        while !self.runs_once(&container).await? {
            ensure!(!once, "it ended by itself");
            self.note(|running| running.restarts += 1);
            while self.kubelet.leaves(&self.name) && !self.is_deleted().await? {
                sleep(LOOK).await;
            }
        }
        detach(&self.name);
        let gone = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}});
        self.kubelet
            .persist("deleting a pod", || async {
                match self.kubelet.send(Method::DELETE, &self.path, Some(&gone)).await {
                    Err(error) if is_gone(&error) => Ok(Value::Null),
                    answer => answer,
                }
            })
            .await;
        self.kubelet.0.running.lock().expect("no panic").remove(&self.uid);
        Ok(())
    }

    /// Whether it was deleted before it was here: a node is told that it has nothing to do with it, and not that it is gone.
    async fn never_came(&self) -> bool {
        let found = send(&self.kubelet.0.scheduler, Method::GET, &self.path, None).await;
        let is_gone = found.is_err_and(|error| is_gone(&error));
        if is_gone {
            self.kubelet.0.running.lock().expect("no panic").remove(&self.uid);
        }
        is_gone
    }

    /// From its start to its end. Says whether the pod is deleted.
    async fn runs_once(&self, container: &Container) -> Result<bool> {
        if self.is_deleted().await? {
            return Ok(true);
        }
        let log = self.kubelet.0.directory.join(format!("{}.log", self.name));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut process = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.name))
            .args([
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-ec",
                &container.script,
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.note(|running| running.process = process.id());
        self.says(false).await?;
        let ended = self.is_probed(&mut process, &container.probe).await?;
        self.note(|running| running.process = None);
        if ended.is_none() {
            return self.ends(process, container.grace).await;
        }
        self.says(false).await?;
        Ok(false)
    }

    /// Until its process ends, or the pod is deleted. It goes on while the API server is away, and tells of how it is when that is back.
    async fn is_probed(&self, process: &mut Child, probe: &Probe) -> Result<Option<ExitStatus>> {
        let (mut ready, mut told, mut failures, mut due) = (false, false, 0, Instant::now());
        let mut pause = STARTING;
        loop {
            if let Some(status) = process.try_wait()? {
                return Ok(Some(status));
            }
            // Without an answer it is not deleted.
            if self.deleted().await.is_ok_and(|deleted| deleted == json!(true)) {
                return Ok(None);
            }
            if Instant::now() >= due {
                let answers = timeout(probe.timeout, asks(self.address, probe)).await;
                failures = if matches!(answers, Ok(Ok(200))) {
                    0
                } else {
                    failures + 1
                };
                ready = failures == 0 || (ready && failures < probe.failures);
                if ready {
                    pause = probe.period;
                }
                due = Instant::now() + pause;
            }
            if told != ready && self.tells(ready).await.is_ok() {
                told = ready;
            }
            sleep(LOOK).await;
        }
    }

    /// Ends the process of a deleted pod: asked, and killed after its grace.
    async fn ends(&self, mut process: Child, grace: u64) -> Result<bool> {
        // What died at the same time has nobody to ask.
        if let Some(id) = process.id() {
            let id = Pid::from_raw(id.cast_signed()).context("a process id")?;
            kill_process(id, Signal::TERM)?;
        }
        let Ok(ended) = timeout(Duration::from_secs(grace), process.wait()).await else {
            process.kill().await?;
            bail!("it did not end within its grace of {grace} s");
        };
        let ended = ended?;
        let mut was_ready = false;
        self.note(|running| was_ready = std::mem::take(&mut running.ready));
        // What is asked to end while it is still being started is ended by the signal.
        ensure!(ended.success() || !was_ready, "asked to end, it ended with {ended}");
        Ok(true)
    }

    async fn is_deleted(&self) -> Result<bool> {
        let answer = self.kubelet.persist("reading a pod", || self.deleted()).await;
        Ok(answer.context("the API server does not come back")? == json!(true))
    }

    async fn deleted(&self) -> Result<Value> {
        match self.kubelet.get(&self.path).await {
            Ok(pod) => Ok(json!(!pod["metadata"]["deletionTimestamp"].is_null())),
            Err(error) if is_gone(&error) => Ok(json!(true)),
            Err(error) => Err(error),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Running)) {
        if let Some(running) = self.kubelet.0.running.lock().expect("no panic").get_mut(&self.uid) {
            change(running);
        }
    }

    async fn says(&self, ready: bool) -> Result<()> {
        let told = self
            .kubelet
            .persist("writing a pod's status", || self.tells(ready))
            .await;
        told.map(drop).context("its status cannot be written")
    }

    /// Writes its status.
    async fn tells(&self, ready: bool) -> Result<Value> {
        let mut restarts = 0;
        self.note(|running| restarts = running.restarts);
        let condition = |type_: &str, holds: bool| {
            let status = if holds { "True" } else { "False" };
            json!({"type": type_, "status": status, "lastTransitionTime": now()})
        };
        let status = json!({"status": {
            "phase": "Running", "hostIP": NODE, "podIP": self.address, "podIPs": [{"ip": self.address}], "startTime": now(),
            "conditions": [
                condition("PodScheduled", true), condition("Initialized", true), condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "containerStatuses": [{
                "name": "ringfence", "image": self.image, "imageID": "", "ready": ready, "started": ready, "restartCount": restarts,
                "state": {"running": {"startedAt": now()}},
            }],
        }});
        match self.kubelet.patch(&format!("{}/status", self.path), status).await {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
        self.note(|running| running.ready = ready);
        Ok(Value::Null)
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404)
}
