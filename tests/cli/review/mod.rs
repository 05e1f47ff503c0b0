//! `ringfence review`: the verdict on files, by exit code and by words, with no cluster anywhere.

mod bad_input;
mod facts;
mod formats;
mod policies;
mod same;
mod size;

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::run::{Said, run};

/// A key that nothing may print.
pub const KEY: &str = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyzABCD";

/// A folder of files, and the binary beside it.
pub struct Files(TempDir);

impl Files {
    pub fn of(files: &[(&str, &str)]) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            this.write(name, text.as_bytes());
        }
        this
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn path(&self) -> String {
        self.0.path().display().to_string()
    }

    /// Reviews; `DIR` in an argument is the folder.
    pub fn review(&self, arguments: &[&str], input: &[u8]) -> Said {
        let folder = self.path();
        let arguments: Vec<String> = ["review"]
            .iter()
            .chain(arguments)
            .map(|argument| argument.replace("DIR", &folder))
            .collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let said = run(&arguments, input);
        assert!(
            !said.out.contains(KEY) && !said.err.contains(KEY),
            "the key is told: {said:?}"
        );
        Said {
            out: said.out.replace(&folder, "DIR"),
            err: said.err.replace(&folder, "DIR"),
            ..said
        }
    }

    /// The same as JSON.
    pub fn json(&self, arguments: &[&str], input: &[u8]) -> (i32, Value) {
        let said = self.review(&[arguments, &["-o", "json"]].concat(), input);
        let json = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        (said.code, json)
    }
}

/// Names of the policies that refuse, each once.
pub fn refusing(json: &Value) -> Vec<String> {
    let results = json["results"].as_array().unwrap().iter();
    let findings = results.flat_map(|result| result["findings"].as_array().unwrap());
    let mut names: Vec<_> = findings
        .filter(|finding| finding["level"] == "deny")
        .map(|finding| finding["policy"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Names of what was not judged, each once.
pub fn not_judged(json: &Value) -> Vec<String> {
    let results = json["results"].as_array().unwrap().iter();
    let all = results.flat_map(|result| result["notJudged"].as_array().unwrap());
    let mut names: Vec<_> = all.map(|one| one["policy"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

pub const NAMESPACE: &str = "apiVersion: v1
kind: Namespace
metadata:
  name: ai
  labels: {ringfence.dev/enforce: default, pod-security.kubernetes.io/enforce: restricted}
";

pub const WORKFLOW: &str = "apiVersion: ringfence.dev/v1alpha1
kind: AIWorkflow
metadata: {name: triage, namespace: ai}
spec:
  launchers:
  - serviceAccount: {namespace: argocd, name: deployer}
  - user: alice@example.com
  images: [registry.example.com/**]
";

/// A pod that fits inside the fence of `WORKFLOW`.
pub const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: p
  namespace: ai
  labels: {ringfence.dev/workflow: triage}
spec:
  serviceAccountName: triage
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: c
    image: registry.example.com/finance/triage@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    env:
    - name: A
      value: b
";
