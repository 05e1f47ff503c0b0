//! Clients that people use, told of the proxy in their own ways.

use std::net::IpAddr;
use std::process::Stdio;

use tokio::process::Command;

use crate::dns::Script;
use crate::hosts::BOOKS;
use crate::world::{World, run};

struct Said {
    succeeded: bool,
    out: String,
    err: String,
}

async fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().await.unwrap();
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
        assert!(
            refused.out.contains("403 Forbidden (ringfence: not-declared)"),
            "{} {}",
            refused.out,
            refused.err
        );
    });
}
