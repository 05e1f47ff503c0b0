//! `examples/ci`, run as it stands: what each file tells a CI system to run passes on the repository beside it, and refuses once that
//! holds a literal key.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

const KEY: &str = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyzABCD";

/// Runs the binary in the folder that would be mounted: no machine that tests has to have a container engine.
const DOCKER: &str = r#"#!/bin/sh
[ "$1" = run ] || { echo "docker: $1 is not what the examples say" >&2; exit 125; }
shift
folder=
while :; do
    case "$1" in
    --rm | --interactive) ;;
    --volume) shift; folder=${1%%:/work:ro} ;;
    --workdir) shift; [ "$1" = /work ] || exit 125 ;;
    *) break ;;
    esac
    shift
done
case "$1" in registry.example.com/ringfence:*) shift ;; *) exit 125 ;; esac
cd "$folder" && exec ringfence "$@"
"#;

/// A checkout of the example, with the binary and `docker` on its PATH.
struct Checkout {
    dir: TempDir,
    bin: TempDir,
}

impl Checkout {
    fn new() -> Self {
        let checkout = Self {
            dir: tempfile::tempdir().expect("a folder"),
            bin: tempfile::tempdir().expect("a folder"),
        };
        for folder in ["deploy", "platform"] {
            let to = checkout.path(folder);
            fs::create_dir(&to).expect("a folder");
            for entry in fs::read_dir(examples().join(folder)).expect("the example") {
                let file = entry.expect("a file").path();
                fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("copied");
            }
        }
        let binary = checkout.bin.path().join("ringfence");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ringfence"), binary).expect("linked");
        let docker = checkout.bin.path().join("docker");
        fs::write(&docker, DOCKER).expect("written");
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).expect("may be run");
        checkout
    }

    /// The same after somebody wrote a key into a manifest.
    fn with_a_key() -> Self {
        let checkout = Self::new();
        let file = checkout.path("deploy/invoice-triage.yaml");
        let text = fs::read_to_string(&file).expect("the manifest");
        let from = "          valueFrom: {secretKeyRef: {name: openai, key: API_KEY}}";
        assert!(text.contains(from), "the example changed: {text}");
        fs::write(file, text.replace(from, &format!("          value: {KEY}"))).expect("written");
        checkout
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn run(&self, script: &str, env: &[(String, String)]) -> Output {
        let path = std::env::var("PATH").expect("a PATH");
        Command::new("bash")
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
            .current_dir(self.dir.path())
            .env("PATH", format!("{}:{path}", self.bin.path().display()))
            .envs(env.iter().cloned())
            .output()
            .expect("bash runs")
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci")
}

fn yaml(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("the file is there");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn variables(value: &Value, checkout: &Checkout) -> Vec<(String, String)> {
    let variables = value.as_object().expect("variables");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let workspace = checkout.dir.path().display().to_string();
    variables
        .iter()
        .map(|(name, value)| (name.clone(), text(value).replace("${{ github.workspace }}", &workspace)))
        .collect()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!said.contains(KEY), "the key is told: {said}");
    said
}

#[rstest]
#[case::passes(Checkout::new(), 0)]
#[case::refuses(Checkout::with_a_key(), 1)]
fn github(#[case] checkout: Checkout, #[case] code: i32) {
    let workflow = yaml(&examples().join("github.yaml"));
    let job = &workflow["jobs"]["review"];
    let env = variables(&job["env"], &checkout);
    let scripts: Vec<&str> = job["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["run"].as_str())
        .collect();
    assert_eq!(scripts.len(), 2, "{scripts:?}");
    let annotations = checkout.run(scripts[0], &env);
    assert_eq!(annotations.status.code(), Some(code), "{}", said(&annotations));
    let line = "::error file=deploy/invoice-triage.yaml,line=";
    assert_eq!(said(&annotations).contains(line), code == 1, "{}", said(&annotations));
    let written = checkout.run(scripts[1], &env);
    assert_eq!(written.status.code(), Some(code), "{}", said(&written));
    let sarif = fs::read_to_string(checkout.path("ringfence.sarif")).expect("SARIF is written");
    assert!(!sarif.contains(KEY), "the key is told: {sarif}");
    let sarif: Value = serde_json::from_str(&sarif).expect("JSON");
    let errors = sarif["runs"][0]["results"].as_array().expect("results").iter();
    let errors = errors.filter(|result| result["level"] == "error").count();
    assert_eq!(errors > 0, code == 1, "{sarif}");
}

#[rstest]
#[case::passes(Checkout::new(), 0)]
#[case::refuses(Checkout::with_a_key(), 1)]
fn gitlab(#[case] checkout: Checkout, #[case] code: i32) {
    let pipeline = yaml(&examples().join("gitlab.yaml"));
    let job = &pipeline["ringfence"];
    let script: Vec<&str> = job["script"]
        .as_array()
        .expect("script")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let output = checkout.run(&script.join("\n"), &variables(&job["variables"], &checkout));
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    let report = job["artifacts"]["reports"]["junit"].as_str().expect("a report");
    let report = fs::read_to_string(checkout.path(report)).expect("the report is written");
    assert!(!report.contains(KEY), "the key is told: {report}");
    assert!(report.contains("<testsuite"), "{report}");
    assert_eq!(report.contains("<failure"), code == 1, "{report}");
}

#[rstest]
#[case::passes(Checkout::new(), 0)]
#[case::refuses(Checkout::with_a_key(), 1)]
fn pre_commit(#[case] checkout: Checkout, #[case] code: i32) {
    let config = yaml(&examples().join("pre-commit.yaml"));
    let hook = &config["repos"][0]["hooks"][0];
    let hooks = yaml(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml"));
    let offered = hooks
        .as_array()
        .expect("hooks")
        .iter()
        .find(|offered| offered["id"] == hook["id"]);
    let entry = offered.expect("the hook is offered")["entry"]
        .as_str()
        .expect("an entry");
    let args: Vec<&str> = hook["args"]
        .as_array()
        .expect("args")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let script = format!("{entry} {} deploy/invoice-triage.yaml", args.join(" "));
    let output = checkout.run(&script, &[]);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
}

#[rstest]
#[case::passes(Checkout::new(), 0)]
#[case::refuses(Checkout::with_a_key(), 1)]
fn container(#[case] checkout: Checkout, #[case] code: i32) {
    let script = fs::read_to_string(examples().join("container.sh")).expect("the script is there");
    let output = checkout.run(&script, &[]);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    assert_eq!(
        said(&output).contains("no-literal-secrets"),
        code == 1,
        "{}",
        said(&output)
    );
}
