//! Clients that people use, told of the proxy in their own ways.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Proxy;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::dns::Script;
use crate::hosts::BOOKS;
use crate::world::{World, run};

struct Said {
    succeeded: bool,
    out: String,
    err: String,
}

impl Said {
    /// That the client shows the verdict, as it is in the status line.
    #[track_caller]
    fn names(&self, verdict: &str) {
        let status = format!("403 Forbidden (ringfence: {verdict})");
        assert!(self.out.contains(&status), "{} {}", self.out, self.err);
    }
}

async fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    Said {
        succeeded: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// curl in a pod, which takes the proxy from its environment.
fn curl(world: &World, pod: IpAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "30",
            "--interface",
            &pod.to_string(),
            "--cacert",
        ])
        .arg(&world.hosts.ca)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HTTPS_PROXY", format!("http://{}", world.proxy.address()))
        .env("http_proxy", format!("http://{}", world.proxy.address()));
    command
}

#[test]
fn curl_speaks_http_1_and_http_2_through_the_tunnel() {
    run(async {
        let world = World::get().await;
        let host = world.host("curl");
        let workflow = world.workflow(&[&host], &[world.hosts.tls, world.hosts.plain]).await;
        let pod = world.pod(&workflow).await;
        let url = format!("https://{host}:{}/path", world.hosts.tls);
        for (flag, expected) in [("--http1.1", "HTTP/1.1 GET /path"), ("--http2", "HTTP/2.0 GET /path")] {
            let said = said(&mut curl(world, pod, &[flag, &url])).await;
            assert!(
                said.succeeded && said.out.starts_with(expected),
                "{} {}",
                said.out,
                said.err
            );
        }
        let upper = format!("https://{}:{}/path", host.to_uppercase(), world.hosts.tls);
        assert!(said(&mut curl(world, pod, &[&upper])).await.succeeded);
        let plain = format!("http://{host}:{}/path", world.hosts.plain);
        let said = said(&mut curl(world, pod, &["--data", "hello", &plain])).await;
        assert!(
            said.out.starts_with("HTTP/1.1 POST /path") && said.out.contains("5 bytes"),
            "{} {}",
            said.out,
            said.err
        );
    });
}

#[test]
fn curl_finds_a_name_in_other_letters() {
    run(async {
        let world = World::get().await;
        world.dns.script(BOOKS, Script::of(&["127.0.0.1"]));
        let workflow = world.workflow(&[BOOKS], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let url = format!("https://bücher.ringfence.example:{}/", world.hosts.tls);
        let said = said(&mut curl(world, pod, &[&url])).await;
        assert!(said.succeeded, "{} {}", said.out, said.err);
    });
}

#[test]
fn curl_is_told_why_it_is_refused() {
    run(async {
        let world = World::get().await;
        let (host, other) = (world.host("curl"), world.host("other"));
        let workflow = world.workflow(&[&host], &[world.hosts.tls, world.hosts.plain]).await;
        let pod = world.pod(&workflow).await;
        let url = format!("https://{other}:{}/", world.hosts.tls);
        let verbose = said(&mut curl(world, pod, &["--verbose", &url])).await;
        assert!(
            !verbose.succeeded && verbose.err.contains("403 Forbidden (ringfence: not-declared)"),
            "{}",
            verbose.err
        );
        // The tunnel is for one host, the handshake in it for another.
        let resolved = format!("{other}:{0}:{host}:{0}", world.hosts.tls);
        let fronted = said(&mut curl(world, pod, &["--connect-to", &resolved, &url])).await;
        assert!(
            !fronted.succeeded && fronted.err.contains("unrecognized name"),
            "{}",
            fronted.err
        );
    });
}

const PYTHON: &str = r#"
import http.client, os, socket, ssl, sys, urllib.request
pod, host, port, ca = sys.argv[1:]
connect = socket.create_connection
socket.create_connection = lambda address, timeout=None, source=None, **more: connect(address, timeout, (pod, 0), **more)
context = ssl.create_default_context(cafile=ca)
try:
    print(urllib.request.urlopen(f"https://{host}:{port}/urllib", timeout=20, context=context).read().decode())
    proxy = os.environ["HTTPS_PROXY"].removeprefix("http://").split(":")
    client = http.client.HTTPSConnection(proxy[0], int(proxy[1]), timeout=20, context=context)
    client.set_tunnel(host, int(port))
    client.request("POST", "/client", b"x" * 100000)
    print(client.getresponse().read().decode())
except OSError as error:
    print(error)
"#;

#[test]
fn python_gets_through_or_is_told_why_not() {
    run(async {
        let world = World::get().await;
        let (host, other) = (world.host("python"), world.host("other"));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let python = |host: &str| {
            let mut command = Command::new("python3");
            command
                .args(["-c", PYTHON, &pod.to_string(), host, &world.hosts.tls.to_string()])
                .arg(&world.hosts.ca)
                .env("HTTPS_PROXY", format!("http://{}", world.proxy.address()))
                .env_remove("NO_PROXY")
                .env_remove("no_proxy");
            command
        };
        let allowed = said(&mut python(&host)).await;
        let out = &allowed.out;
        assert!(
            out.contains("GET /urllib") && out.contains("POST /client") && out.contains("100000 bytes"),
            "{out} {}",
            allowed.err
        );
        let refused = said(&mut python(&other)).await;
        refused.names("not-declared");
    });
}

const REQUESTS: &str = r#"
import sys, requests
from requests.adapters import HTTPAdapter
pod, host, port, ca = sys.argv[1:]

class OfPod(HTTPAdapter):
    def init_poolmanager(self, *positional, **named):
        super().init_poolmanager(*positional, source_address=(pod, 0), **named)

    def proxy_manager_for(self, proxy, **named):
        return super().proxy_manager_for(proxy, source_address=(pod, 0), **named)

with requests.Session() as session:
    session.mount("https://", OfPod())
    try:
        # The second goes over the tunnel of the first.
        for number in range(2):
            print(session.post(f"https://{host}:{port}/{number}", data=b"x" * 100000, timeout=20, verify=ca).text)
    except requests.RequestException as error:
        print(error)
"#;

/// Python with the packages of `requirements.txt`, which are installed where they are missing.
async fn python_with_packages() -> &'static PathBuf {
    static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
    PYTHON
        .get_or_init(async || {
            let environment = support::repository().join("target/egress");
            let mut command = Command::new(support::repository().join("tests/support/build-venv.sh"));
            let built = said(command.arg("egress").arg(&environment)).await;
            assert!(built.succeeded, "{}", built.err);
            environment.join("venv/bin/python")
        })
        .await
}

#[test]
fn requests_of_python_gets_through_or_is_told_why_not() {
    run(async {
        let world = World::get().await;
        let (host, other) = (world.host("requests"), world.host("other"));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let program = python_with_packages().await;
        let python = |host: &str| {
            let mut command = Command::new(program);
            command
                .args(["-c", REQUESTS, &pod.to_string(), host, &world.hosts.tls.to_string()])
                .arg(&world.hosts.ca)
                .env("HTTPS_PROXY", format!("http://{}", world.proxy.address()))
                .env_remove("NO_PROXY")
                .env_remove("no_proxy");
            command
        };
        let allowed = said(&mut python(&host)).await;
        let out = &allowed.out;
        for expected in ["POST /0", "POST /1"] {
            assert!(
                out.contains(expected) && out.contains("100000 bytes"),
                "{out} {}",
                allowed.err
            );
        }
        let refused = said(&mut python(&other)).await;
        refused.names("not-declared");
    });
}

/// Of Rust: over one tunnel, by HTTP/2 and by HTTP/1.1.
#[test]
fn reqwest_gets_through_or_is_told_why_not() {
    run(async {
        let world = World::get().await;
        let (host, other) = (world.host("reqwest"), world.host("other"));
        let workflow = world.workflow(&[&host], &[world.hosts.tls, world.hosts.plain]).await;
        let pod = world.pod(&workflow).await;
        let client = |protocol: &str| {
            let mut config = ClientConfig::clone(&world.hosts.client());
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            let proxy = Proxy::all(format!("http://{}", world.proxy.address())).unwrap();
            let client = reqwest::Client::builder()
                .proxy(proxy)
                .local_address(pod)
                .timeout(Duration::from_secs(20));
            client.tls_backend_preconfigured(config).build().unwrap()
        };
        for (protocol, expected) in [("h2", "HTTP/2.0 POST /"), ("http/1.1", "HTTP/1.1 POST /")] {
            let client = client(protocol);
            for number in 0..2 {
                let url = format!("https://{host}:{}/{number}", world.hosts.tls);
                let answer = client.post(url).body("x".repeat(100_000)).send().await.unwrap();
                let text = answer.text().await.unwrap();
                assert!(text.starts_with(&format!("{expected}{number}")), "{text}");
                assert!(text.contains("100000 bytes"), "{text}");
            }
            let plain = format!("http://{host}:{}/plain", world.hosts.plain);
            let text = client.get(plain).send().await.unwrap().text().await.unwrap();
            assert!(text.starts_with("HTTP/1.1 GET /plain"), "{text}");
        }
        let url = format!("https://{other}:{}/", world.hosts.tls);
        client("h2").get(url).send().await.unwrap_err();
        let line = world.proxy.line(&other).await;
        assert_eq!(line["verdict"], "not-declared", "{line}");
    });
}

/// By hand, as the libraries do it that Node.js before version 24 needs for a proxy.
const NODE: &str = r#"
const fs = require("node:fs"), http = require("node:http"), https = require("node:https"), tls = require("node:tls");
const [pod, host, port, ca] = process.argv.slice(1);
const proxy = new URL(process.env.HTTPS_PROXY);
const tunnel = http.request({
  host: proxy.hostname, port: proxy.port, localAddress: pod, method: "CONNECT", path: `${host}:${port}`, timeout: 20000,
});
const failed = (error) => console.log(`failed: ${error.message}`);
tunnel.on("error", failed);
tunnel.on("connect", (answer, socket) => {
  if (answer.statusCode !== 200) {
    console.log(answer.statusCode, answer.statusMessage);
    return socket.destroy();
  }
  const secure = tls.connect({ socket, servername: host, ca: fs.readFileSync(ca), ALPNProtocols: ["http/1.1"] });
  secure.on("error", failed);
  const createConnection = () => secure;
  const request = https.request({ host, port, path: "/node", method: "POST", createConnection }, (response) => {
    response.setEncoding("utf8");
    response.on("data", (text) => process.stdout.write(text));
    response.on("end", () => secure.destroy());
  });
  request.on("error", failed);
  request.end("x".repeat(100000));
});
tunnel.end();
"#;

#[test]
fn node_gets_through_or_is_told_why_not() {
    run(async {
        let world = World::get().await;
        let (host, other) = (world.host("node"), world.host("other"));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let node = |host: &str| {
            let mut command = Command::new("node");
            command
                .args(["-e", NODE, "--", &pod.to_string(), host, &world.hosts.tls.to_string()])
                .arg(&world.hosts.ca)
                .env("HTTPS_PROXY", format!("http://{}", world.proxy.address()));
            command
        };
        let allowed = said(&mut node(&host)).await;
        assert!(
            allowed.out.contains("POST /node") && allowed.out.contains("100000 bytes"),
            "{} {}",
            allowed.out,
            allowed.err
        );
        let refused = said(&mut node(&other)).await;
        refused.names("not-declared");
    });
}

/// The name in the open agrees with what was asked for, the one that is meant stands where nobody can read it.
#[test]
fn a_client_that_encrypts_whom_it_means_is_not_let_through() {
    run(async {
        let world = World::get().await;
        let (host, other) = (world.host("public"), world.host("meant"));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let program = tokio::task::spawn_blocking(|| support::built("ech")).await.unwrap();
        let mut client = Command::new(program.unwrap());
        client
            .args([&world.proxy.address().to_string(), &pod.to_string(), &host, &other])
            .arg(world.hosts.tls.to_string())
            .arg(&world.hosts.ca);
        let said = said(&mut client).await;
        assert!(said.succeeded, "{}", said.err);
        let became: Value = serde_json::from_str(&said.out).unwrap();
        let alert = "remote error: tls: access denied";
        assert_eq!(became, json!({"own": "ok", "encrypted": alert, "open": "ok"}));
        // Of the first of them.
        let line = world.proxy.line(&host).await;
        assert_eq!(line["verdict"], "not-for-host", "{line}");
        assert!(
            line["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("switch ECH off")),
            "{line}"
        );
    });
}
