//! Our sets beside the standard: who says what, and where they differ.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ringfence::policy::{Findings, LoadError, PolicyInput, PolicySet, Source, Target};
use serde_json::{Value, json};
use support::pod_security::{PodSecurity, Standard};

/// Every version that the parameter can name, and what stands for the newest of them.
pub const VERSIONS: [&str; 7] = ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"];

/// Each rule of the standard that has changed since the oldest, before and after.
pub const CHANGES: [&str; 3] = ["v1.31", "v1.34", "latest"];

/// Each policy and the check that it is by the letter.
pub const CONTROLS: [(&str, &str); 19] = [
    ("pss-baseline-apparmor", "appArmorProfile"),
    ("pss-baseline-capabilities", "capabilities_baseline"),
    ("pss-baseline-host-namespaces", "hostNamespaces"),
    ("pss-baseline-host-path-volumes", "hostPathVolumes"),
    ("pss-baseline-host-ports", "hostPorts"),
    ("pss-baseline-host-probes", "hostProbesAndHostLifecycle"),
    ("pss-baseline-privileged", "privileged"),
    ("pss-baseline-proc-mount", "procMount"),
    ("pss-baseline-seccomp", "seccompProfile_baseline"),
    ("pss-baseline-selinux", "seLinuxOptions"),
    ("pss-baseline-sysctls", "sysctls"),
    ("pss-baseline-windows-host-process", "windowsHostProcess"),
    ("pss-restricted-capabilities", "capabilities_restricted"),
    ("pss-restricted-privilege-escalation", "allowPrivilegeEscalation"),
    ("pss-restricted-proc-mount", "procMount_restricted"),
    ("pss-restricted-run-as-non-root", "runAsNonRoot"),
    ("pss-restricted-run-as-user", "runAsUser"),
    ("pss-restricted-seccomp", "seccompProfile_restricted"),
    ("pss-restricted-volume-types", "restrictedVolumes"),
];

/// A pod, and what of it is in question.
#[derive(Clone, Debug)]
pub struct Sample {
    pub what: String,
    pub pod: Value,
    /// Where we refuse what the standard lets pass: the check, and why.
    pub stricter: Option<(&'static str, &'static str)>,
}

/// Where the pod stands in the object that is sent.
#[derive(Clone, Copy, Debug)]
pub enum As {
    Pod,
    Template,
}

/// What one policy says: the paths of its findings, or its error.
pub type Said = Result<Vec<String>, String>;

/// Our policies, as they lie on disk, for one version.
#[derive(Debug)]
pub struct Ours(PolicySet);

impl Ours {
    pub fn load(version: &Value) -> Self {
        Self::try_load(version).unwrap_or_else(|errors| panic!("{errors:#?}"))
    }

    pub fn try_load(version: &Value) -> Result<Self, Vec<LoadError>> {
        let parameters = CONTROLS.map(|(policy, _)| (policy.to_owned(), json!({"version": version})));
        PolicySet::compile(sources(), &parameters.into()).map(Self)
    }

    pub fn judge(&self, pod: &Value, at: As) -> BTreeMap<String, Said> {
        self.judge_by(pod, at, |_| true)
    }

    /// What some of the policies say.
    pub fn judge_by(&self, pod: &Value, at: As, by: impl Fn(&str) -> bool) -> BTreeMap<String, Said> {
        let (object, path, pointer) = match at {
            As::Pod => (pod.clone(), "", "/object"),
            As::Template => (
                json!({"spec": {"template": pod}}),
                "spec.template",
                "/object/spec/template",
            ),
        };
        let request = json!({"object": object});
        let input = PolicyInput {
            target: Target::Pod,
            request: &request,
            pod: request.pointer(pointer).map(|pod| (path, pod)),
            workflow: None,
            class: None,
            engine: None,
            namespace: None,
        };
        let asked = self.0.ask(&input);
        let chosen = self.0.names(&asked).enumerate().filter(|(_, name)| by(name));
        let said = chosen.map(|(number, name)| {
            let verdict = self.0.judge(&asked, number, Duration::from_secs(60));
            let outcome = verdict.expect("it is asked").outcome;
            let paths = |found: Findings| found.deny.into_iter().map(|finding| finding.path).collect();
            (name.to_owned(), outcome.map(paths).map_err(|error| error.to_string()))
        });
        said.collect()
    }
}

/// Both sets' policies, without tests.
pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for set in ["pod-security-baseline", "pod-security-restricted"] {
        for entry in std::fs::read_dir(root.join("policies").join(set)).expect("the set is there") {
            let file = entry.expect("readable").path().join("policy.rego");
            if file.is_file() {
                let name = file.strip_prefix(root).expect("below it").display().to_string();
                let text = std::fs::read_to_string(&file).expect("readable");
                sources.push(Source { file: name, text });
            }
        }
    }
    sources
}

/// How much was compared, and what differed.
#[derive(Debug, Default)]
pub struct Tally {
    pub compared: usize,
    pub refused: usize,
    /// By reason: how often we refused what the standard lets pass, as a sample announced.
    pub stricter: BTreeMap<&'static str, usize>,
    pub differences: Vec<String>,
}

/// Asks both about each sample in each version.
pub fn compare(samples: &[Sample], at: As, versions: &[&str]) -> Tally {
    let mut standard = PodSecurity::start().expect("the checks start");
    let ours: Vec<_> = versions.iter().map(|version| Ours::load(&json!(version))).collect();
    let mut tally = Tally::default();
    for sample in samples {
        let theirs = standard.ask(&sample.pod, versions).expect("an answer");
        let theirs = theirs.unwrap_or_else(|error| panic!("{}: {error}", sample.what));
        for ((version, ours), theirs) in versions.iter().zip(&ours).zip(&theirs) {
            tally.add(sample, version, &ours.judge(&sample.pod, at), theirs);
        }
    }
    tally
}

impl Tally {
    fn add(&mut self, sample: &Sample, version: &str, ours: &BTreeMap<String, Said>, theirs: &Standard) {
        let passes = |policy: &str| ours.get(policy).map(|said| said.as_ref().map(Vec::is_empty));
        for (policy, check) in CONTROLS {
            let expected = expected(theirs, check);
            self.compared += 1;
            self.refused += usize::from(!expected);
            match passes(policy) {
                Some(Ok(passed)) if passed == expected => {}
                Some(Ok(false)) if sample.stricter.is_some_and(|(of, _)| of == check) => {
                    let (_, why) = sample.stricter.expect("it is stricter");
                    *self.stricter.entry(why).or_default() += 1;
                }
                said => self.differences.push(format!(
                    "{policy} {version} {}: {said:?}, {check} {expected}\n  {}",
                    sample.what, sample.pod
                )),
            }
        }
        let level = |prefix: &str| {
            let mut own = ours.iter().filter(|(policy, _)| policy.starts_with(prefix));
            own.all(|(_, said)| said.as_ref().is_ok_and(Vec::is_empty))
        };
        // "restricted" replaces three checks of "baseline" by its own. Of a pod for Windows, two of those ask nothing: such a pod
        // with capabilities or a seccomp profile is refused by every API server, and by us.
        let both = theirs.restricted && theirs.baseline;
        let windows = sample.pod["spec"]["os"]["name"] == "windows";
        if theirs.restricted && !theirs.baseline && !windows && sample.stricter.is_none() {
            let difference = format!("\"restricted\" is looser than \"baseline\" {version} {}", sample.what);
            self.differences.push(difference);
        }
        let levels = [
            ("baseline", level("pss-baseline-"), theirs.baseline),
            ("restricted", level("pss-"), both),
        ];
        for (name, passed, expected) in levels {
            self.compared += 1;
            let as_announced = sample.stricter.is_some() && !passed;
            if passed != expected && !as_announced {
                let pod = &sample.pod;
                let difference = format!(
                    "{name} {version} {}: {passed}, expected {expected}\n  {pod}",
                    sample.what
                );
                self.differences.push(difference);
            }
        }
    }

    /// Every difference at once: a policy is mended faster than a line.
    pub fn none_differ(&self) {
        let few = self.differences.iter().take(40).cloned().collect::<Vec<_>>();
        assert!(
            self.differences.is_empty(),
            "{} of {} differ:\n{}",
            self.differences.len(),
            self.compared,
            few.join("\n")
        );
    }
}

/// What the policy of a check should say. A check that a version does not have asks nothing; before "restricted" had a check of
/// /proc of its own, that of "baseline" was as strict.
fn expected(theirs: &Standard, check: &str) -> bool {
    let own = theirs.checks.get(check).or_else(|| match check {
        "procMount_restricted" => theirs.checks.get("procMount"),
        _ => None,
    });
    own.copied().unwrap_or(true)
}
