//! What a kubelet makes of a pod's spec: files, environment, arguments, and a root that holds nothing but the image. What it does not know
//! is an error: a process that runs without it would prove nothing.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use support::repository;

use crate::node::{Kubelet, text};
use crate::sandbox::KUBERNETES;
use crate::world::BINARY;

/// How its process is started, and asked how it is.
pub struct Container {
    pub script: String,
    pub probe: Probe,
    pub grace: u64,
}

/// A readiness probe.
pub struct Probe {
    pub path: String,
    pub port: u16,
    pub period: Duration,
    pub timeout: Duration,
    pub failures: u32,
}

/// Reads the pod's one container. `directory` is the pod's own.
pub async fn prepare(kubelet: &Kubelet, pod: &Value, address: Ipv4Addr, directory: &Path) -> Result<Container> {
    let spec = &pod["spec"];
    let containers = spec["containers"].as_array().context("containers")?;
    let [container] = containers.as_slice() else {
        bail!("one container is expected")
    };
    ensure!(spec["initContainers"].is_null() && container["command"].is_null() && container["envFrom"].is_null());
    let root = directory.join("root");
    std::fs::create_dir_all(&root)?;
    let mut script = root_of_image(&root, &entrypoint()?);
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let files = volume(kubelet, pod, text(&mount["name"]), directory).await?;
        let target = text(&mount["mountPath"]);
        ensure!(mount["readOnly"] == true && mount["subPath"].is_null(), "{mount}");
        let (files, root) = (files.display(), root.display());
        writeln!(
            script,
            "mkdir -p {root}{target}\nmount --bind {files} {root}{target}\nmount -o remount,bind,ro {root}{target}"
        )?;
    }
    if container["securityContext"]["readOnlyRootFilesystem"] == true {
        writeln!(script, "mount -o remount,bind,ro {}", root.display())?;
    }
    let user = spec["securityContext"]["runAsUser"].as_u64().context("runAsUser")?;
    let group = spec["securityContext"]["runAsGroup"].as_u64().context("runAsGroup")?;
    // The user comes last: it may not mount, and has no capabilities.
    write!(script, "unshare=$(command -v unshare)\nexec env -i")?;
    for (name, value) in environment(pod, container, address)? {
        write!(script, " {}", quoted(&format!("{name}={value}")))?;
    }
    write!(
        script,
        " $unshare --user --map-user={user} --map-group={group} --root={} --wd=/ {}",
        root.display(),
        entrypoint()?
    )?;
    for argument in container["args"].as_array().into_iter().flatten() {
        write!(script, " {}", quoted(text(argument)))?;
    }
    Ok(Container {
        script,
        probe: probe(container)?,
        grace: spec["terminationGracePeriodSeconds"].as_u64().context("a grace")?,
    })
}

/// Where the Dockerfile puts the binary.
fn entrypoint() -> Result<String> {
    let dockerfile = std::fs::read_to_string(repository().join("Dockerfile"))?;
    let line = dockerfile
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("ENTRYPOINT "));
    let words: Vec<String> = serde_json::from_str(line.context("an ENTRYPOINT")?)?;
    ensure!(words.len() == 1, "{words:?}");
    Ok(words[0].clone())
}

/// The image holds the binary. A container's runtime adds /proc and /dev; the binary of a test is not static, so it gets its libraries.
fn root_of_image(root: &Path, entrypoint: &str) -> String {
    let root = root.display();
    format!(
        "mount -t tmpfs -o size=1m,mode=755 tmpfs {root}\n\
         for part in /proc /lib /lib64 /usr/lib; do\n\
         if [ -d $part ]; then mkdir -p {root}$part; mount --rbind $part {root}$part; fi\n\
         done\n\
         mkdir {root}/dev\ntouch {root}/dev/null {root}{entrypoint}\n\
         mount --bind /dev/null {root}/dev/null\nmount --bind {BINARY} {root}{entrypoint}\n"
    )
}

/// The files of a volume, in a folder.
async fn volume(kubelet: &Kubelet, pod: &Value, name: &str, directory: &Path) -> Result<PathBuf> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let volume = volumes.into_iter().find(|volume| volume["name"] == name);
    let volume = volume.with_context(|| format!("no volume {name}"))?;
    let folder = directory.join("volumes").join(name);
    std::fs::create_dir_all(&folder)?;
    if volume["configMap"].is_object() {
        config_map(kubelet, pod, &volume["configMap"], &folder).await?;
        return Ok(folder);
    }
    let sources = volume["projected"]["sources"].as_array();
    for source in sources.with_context(|| format!("a volume of unknown kind: {volume}"))? {
        if source["serviceAccountToken"].is_object() {
            let asked = &source["serviceAccountToken"];
            ensure!(asked["audience"].is_null());
            let token = kubelet.token(pod, &asked["expirationSeconds"]).await?;
            std::fs::write(folder.join(text(&asked["path"])), token)?;
        } else if source["configMap"].is_object() {
            config_map(kubelet, pod, &source["configMap"], &folder).await?;
        } else if source["downwardAPI"].is_object() {
            for item in source["downwardAPI"]["items"].as_array().into_iter().flatten() {
                std::fs::write(folder.join(text(&item["path"])), field(pod, &item["fieldRef"], None)?)?;
            }
        } else {
            bail!("a source of unknown kind: {source}");
        }
    }
    Ok(folder)
}

async fn config_map(kubelet: &Kubelet, pod: &Value, source: &Value, folder: &Path) -> Result<()> {
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&source["name"]));
    let found = kubelet
        .get(&format!("/api/v1/namespaces/{namespace}/configmaps/{name}"))
        .await?;
    let data = found["data"].as_object().context("a ConfigMap without data")?;
    match source["items"].as_array() {
        Some(items) => {
            for item in items {
                std::fs::write(folder.join(text(&item["path"])), text(&data[text(&item["key"])]))?;
            }
        }
        None => {
            for (key, value) in data {
                std::fs::write(folder.join(key), text(value))?;
            }
        }
    }
    Ok(())
}

fn environment(pod: &Value, container: &Value, address: Ipv4Addr) -> Result<Vec<(String, String)>> {
    ensure!(
        pod["spec"]["enableServiceLinks"] == false,
        "then each Service is in the environment"
    );
    // These a kubelet adds to every container.
    let mut environment = vec![
        ("HOSTNAME".to_owned(), text(&pod["metadata"]["name"]).to_owned()),
        ("KUBERNETES_SERVICE_HOST".to_owned(), KUBERNETES.to_string()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()),
    ];
    for variable in container["env"].as_array().into_iter().flatten() {
        let from = &variable["valueFrom"];
        let value = if from.is_null() {
            text(&variable["value"]).to_owned()
        } else if from["fieldRef"].is_object() {
            field(pod, &from["fieldRef"], Some(address))?
        } else if from["resourceFieldRef"]["resource"] == "limits.memory" {
            let limit = text(&container["resources"]["limits"]["memory"]);
            let mebibytes: u64 = limit.strip_suffix("Mi").context("a limit in Mi")?.parse()?;
            (mebibytes << 20).to_string()
        } else {
            bail!("a variable of unknown kind: {variable}")
        };
        environment.push((text(&variable["name"]).to_owned(), value));
    }
    Ok(environment)
}

fn field(pod: &Value, reference: &Value, address: Option<Ipv4Addr>) -> Result<String> {
    let value = match (text(&reference["fieldPath"]), address) {
        ("metadata.name", _) => text(&pod["metadata"]["name"]).to_owned(),
        ("metadata.namespace", _) => text(&pod["metadata"]["namespace"]).to_owned(),
        ("status.podIPs", Some(address)) => address.to_string(),
        _ => bail!("a field that this kubelet does not know: {reference}"),
    };
    Ok(value)
}

fn probe(container: &Value) -> Result<Probe> {
    let probe = &container["readinessProbe"];
    let named = &probe["httpGet"]["port"];
    let ports = container["ports"].as_array().into_iter().flatten();
    let port = ports
        .into_iter()
        .find(|port| port["name"] == *named)
        .context("the probe's port")?;
    Ok(Probe {
        path: text(&probe["httpGet"]["path"]).to_owned(),
        port: u16::try_from(port["containerPort"].as_u64().context("a port")?)?,
        period: Duration::from_secs(probe["periodSeconds"].as_u64().context("a period")?),
        timeout: Duration::from_secs(probe["timeoutSeconds"].as_u64().context("a timeout")?),
        failures: u32::try_from(probe["failureThreshold"].as_u64().context("a threshold")?)?,
    })
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
