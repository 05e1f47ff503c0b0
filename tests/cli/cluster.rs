//! Subcommands that talk to a cluster, when there is none, the wrong one, or one that does not answer.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use crate::run::{Said, run, run_with};

const WORKFLOW: &str = "tests/fixtures/render/accepted.yaml";
const COMMANDS: [&[&str]; 7] = [
    &["check", "access"],
    &["check", "installation"],
    &["check", "namespace", "ai"],
    &["diff", WORKFLOW],
    &["draft", "ai"],
    &["egress", "report"],
    &["scan"],
];

/// A kubeconfig of one context, `here`, with what somebody must never see again.
fn kubeconfig(server: &str, user: &serde_json::Value) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}, {"name": "lost", "context": {"cluster": "gone", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    });
    fs::write(&path, content.to_string()).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

fn token() -> serde_json::Value {
    json!({"token": "topsecret"})
}

/// Every command with these options must end in 2, say `why` and nothing secret.
#[track_caller]
fn all_say(environment: &[(&str, &str)], options: &[&str], why: &str) {
    for command in COMMANDS {
        is_told(&run_with(environment, &[command, options].concat(), b""), why);
    }
}

#[track_caller]
fn is_told(said: &Said, why: &str) {
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(
        said.err.starts_with("ringfence: ") && said.err.contains(why),
        "{why}: {said:?}"
    );
    assert!(!said.err.contains("topsecret"), "{said:?}");
}

#[test]
fn no_kubeconfig_says_how_to_name_one() {
    all_say(
        &[],
        &[],
        "cannot tell which cluster to talk to: name a kubeconfig with --kubeconfig, or set KUBECONFIG",
    );
    all_say(
        &[],
        &["--context", "here"],
        "there is no kubeconfig, so no context \"here\"",
    );
    all_say(&[("KUBECONFIG", "")], &[], "cannot tell which cluster");
}

#[rstest]
#[case::option(&[], &["--kubeconfig", "/nonexistent/config"])]
#[case::environment(&[("KUBECONFIG", "/nonexistent/config")], &[])]
#[case::folder(&[("KUBECONFIG", "tests")], &[])]
fn a_kubeconfig_that_is_not_there_is_named(#[case] environment: &[(&str, &str)], #[case] options: &[&str]) {
    let file = environment
        .iter()
        .map(|(_, file)| *file)
        .chain(options.last().copied())
        .next()
        .unwrap();
    all_say(environment, options, &format!("the kubeconfig {file} cannot be read"));
}

#[rstest]
#[case::no_yaml(
    "users:\n- name: u\n  user: {token: topsecret: x}\n",
    "this is no kubeconfig: see line 3"
)]
#[case::other_shape("users: topsecret\n", "this is no kubeconfig")]
#[case::text("topsecret", "this is no kubeconfig")]
#[case::empty("", "has no current context")]
#[case::no_current(
    "contexts: [{name: a, context: {cluster: c}}, {name: b, context: {cluster: c}}]",
    "choose one with --context; it has a, b"
)]
fn a_broken_kubeconfig_is_described_and_not_shown(#[case] content: &str, #[case] why: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, content).unwrap();
    all_say(&[], &["--kubeconfig", path.to_str().unwrap()], why);
}

#[test]
fn an_unknown_context_or_cluster_is_named_with_what_there_is() {
    let (_folder, path) = kubeconfig("https://127.0.0.1:1", &token());
    let environment = [("KUBECONFIG", path.as_str())];
    all_say(
        &environment,
        &["--context", "nowhere"],
        "no context \"nowhere\": choose another with --context; it has here, lost",
    );
    all_say(
        &environment,
        &["--context", "lost"],
        "no cluster \"gone\", which its context names",
    );
    // A list may name files that are not there, as with kubectl.
    let listed = format!("/nonexistent/config:{path}");
    all_say(
        &[("KUBECONFIG", &listed)],
        &["--context", "nowhere"],
        "it has here, lost",
    );
}

#[rstest]
#[case::not_installed(json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nonexistent/login", "args": ["topsecret"], "interactiveMode": "Never"}}), "cannot be started")]
#[case::fails(json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", "echo topsecret; exit 3"], "interactiveMode": "Never"}}), "its login command failed")]
#[case::prints_something_else(json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", "echo '{topsecret: a: b'"], "interactiveMode": "Never"}}), "printed no ExecCredential")]
#[case::no_token_file(json!({"tokenFile": "/nonexistent/token"}), "its token file cannot be read")]
fn a_login_that_fails_says_which_and_shows_nothing(#[case] user: serde_json::Value, #[case] why: &str) {
    let (_folder, path) = kubeconfig("https://127.0.0.1:1", &user);
    all_say(&[("KUBECONFIG", &path)], &[], why);
}

#[test]
fn an_api_server_that_is_away_is_said_at_once() {
    let (_folder, path) = kubeconfig("https://127.0.0.1:1", &token());
    let started = Instant::now();
    all_say(
        &[("KUBECONFIG", &path)],
        &[],
        "the API server cannot be reached: Connection refused",
    );
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// It takes the connection, and then nothing.
#[test]
fn an_api_server_that_does_not_answer_ends_by_a_deadline() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let (_folder, path) = kubeconfig(&server, &token());
    let started = Instant::now();
    let running = COMMANDS.map(|command| {
        let path = path.clone();
        std::thread::spawn(move || run_with(&[("KUBECONFIG", &path)], command, b""))
    });
    for said in running.map(|running| running.join().unwrap()) {
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
        let lines: Vec<_> = said.err.lines().collect();
        assert!(
            lines[0].ends_with(" …"),
            "after a second it says what it waits for: {said:?}"
        );
        assert!(lines[1].starts_with("ringfence: cannot "), "{said:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}

/// Answers each request by its path, on a port of its own, until the test process ends.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 8192];
            let length = stream.read(&mut request).unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let _written = stream.write_all(answer(path).as_bytes());
        }
    });
    server
}

fn http(code: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {code}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Whatever listens there: no answer of it may pass for "nothing there".
#[rstest]
#[case::no_http("hello\n", "the API server cannot be reached")]
#[case::a_page(
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "the answer is not an API server's"
)]
#[case::unknown_caller(
    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    "does not know who is asking: log in again"
)]
#[case::broken(
    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "answered with code 500 and no word"
)]
#[case::cut_off(
    "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"kind\":",
    "the API server cannot be reached"
)]
fn what_is_no_api_server_is_an_error(#[case] answer: &'static str, #[case] why: &str) {
    let (_folder, path) = kubeconfig(&serve(|_| answer.to_owned()), &token());
    all_say(&[("KUBECONFIG", &path)], &[], why);
}

#[test]
fn a_namespace_is_drafted_before_ringfence_is_installed_and_compared_only_after() {
    let server = serve(|path| match path {
        // As the API server says that it serves no such group.
        path if path.starts_with("/apis/ringfence.dev") => http("404 Not Found", "404 page not found\n"),
        "/api/v1/namespaces/ai?" | "/api/v1/namespaces/ai" => http(
            "200 OK",
            r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ai", "uid": "1"}}"#,
        ),
        path if path.starts_with("/api/v1/namespaces/ai/pods") => http(
            "200 OK",
            r#"{"metadata": {}, "items": [{"metadata": {"name": "x"}, "spec": {"serviceAccountName": "x", "containers": [{"name": "c", "image": "a.example/b:1"}]}}]}"#,
        ),
        _ => http("200 OK", r#"{"metadata": {}, "items": []}"#),
    });
    let (_folder, path) = kubeconfig(&server, &token());
    let environment = [("KUBECONFIG", path.as_str())];
    let said = run_with(&environment, &["draft", "ai"], b"");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.contains("serviceAccountName: x\n") && said.out.contains("# Looked at: 1 pods, "),
        "{said:?}"
    );
    let said = run_with(&environment, &["diff", WORKFLOW], b"");
    is_told(&said, "does not serve ringfence.dev/v1alpha1: install Ringfence there");
}

#[test]
fn a_file_is_read_before_anybody_is_asked() {
    let (_folder, path) = kubeconfig("https://127.0.0.1:1", &token());
    let environment = [("KUBECONFIG", path.as_str())];
    for (arguments, input, why) in [
        (
            &["diff", "tests/fixtures/no-such-file.yaml"][..],
            "",
            "no-such-file.yaml: cannot be read",
        ),
        (
            &["diff", "-"],
            "a: b: c",
            "standard input: line 1, column 5: this is no YAML",
        ),
        (
            &["diff", "-"],
            "",
            "there is no AIWorkflow, AIWorkflowGrant, AIWorkflowClass or Namespace in the input",
        ),
        (
            &["diff", "-"],
            "{apiVersion: v1, kind: Pod, metadata: {name: x}}",
            "there is no AIWorkflow",
        ),
        (&["draft", "kube-system"], "", "belongs to the platform"),
        (&["draft", "Not_A_Name"], "", "is no name of a namespace"),
        (&["draft", "../../secrets"], "", "is no name of a namespace"),
    ] {
        is_told(&run_with(&environment, arguments, input.as_bytes()), why);
    }
}

#[rstest]
#[case(&["diff"], "required")]
#[case(&["draft"], "required")]
#[case(&["draft", "ai", "--launcher", "mia"], "user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME")]
#[case(&["draft", "ai", "--launcher", "group:system:authenticated"], "hold everybody")]
#[case(&["draft", "ai", "--workflow", "app"], "KEY=VALUE")]
#[case(&["diff", "-", "-o", "yaml"], "json")]
#[case::draft_of_the_platform(&["draft", "ringfence-system"], "belongs to the platform")]
#[case::check_of_the_platform(&["check", "namespace", "kube-system"], "belongs to the platform")]
#[case::scan_of_the_platform(&["scan", "--namespace", "fence", "--release-namespace", "fence"], "belongs to the platform")]
fn wrong_arguments_are_code_2(#[case] arguments: &[&str], #[case] why: &str) {
    let said = run(arguments, b"");
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains(why), "{}", said.err);
}

#[test]
fn every_command_says_its_exit_codes_and_shows_an_example() {
    let all = run(&["--help"], b"");
    for command in ["render", "diff", "draft", "explain"] {
        assert!(all.out.contains(&format!("  {command} ")), "{all:?}");
        let said = run(&[command, "--help"], b"");
        assert_eq!(said.code, 0, "{said:?}");
        assert!(
            said.out.contains("Exit codes: 0 ") && said.out.contains("  ringfence "),
            "{}",
            said.out
        );
    }
}
