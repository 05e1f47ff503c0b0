//! `ringfence convert`: policies of other engines as RegoPolicies.
//!
//! Must never: print a policy that no child process has survived, or leave aside what it was asked to convert without a word.

mod input;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use kube::core::TypeMeta;
use serde_json::{Map, Value, json};

use super::{
    manifests::API_VERSION,
    rego_policies_of_files::reasons,
    schema,
    terminal::{self, printable},
};
use crate::{
    gatekeeper::{self, Document, Made},
    policy::{Declared, LoadError},
    vetting::Vetting,
};

const KIND: &str = "RegoPolicy";
/// How long vetting all policies may take.
const VETTING: Duration = Duration::from_secs(300);

/// Convert policies of other engines to RegoPolicies.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    Gatekeeper(FromGatekeeper),
}

/// Convert Gatekeeper's ConstraintTemplates and constraints.
///
/// Each constraint becomes a RegoPolicy that refuses what it refuses in Gatekeeper: the template's Rego unchanged, beside a module
/// for what `match` means there. Gatekeeper's Config and SyncSets among the documents tell what is synced, ExpansionTemplates which
/// workloads are judged by their pods, CustomResourceDefinitions the resources of kinds. What is not the same stands as a comment
/// above each policy. All are vetted as `ringfence run` does it.
///
/// Exit codes: 0 all converted, 1 something could not be converted, 2 an input cannot be read; what can is converted all the same.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # What is in a cluster:
  kubectl get constrainttemplates,constraints,configs,syncsets -n gatekeeper-system -o yaml | ringfence convert gatekeeper - > policies.yaml

  # What is in a repository, put in force:
  ringfence convert gatekeeper policy/ | kubectl apply -f -")]
struct FromGatekeeper {
    /// Files or folders of YAML and JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// Format of what is printed.
    #[arg(long, short, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    /// A document for each policy, with comments.
    Yaml,
    /// A List.
    Json,
}

pub(super) fn main(args: &Args) -> ExitCode {
    let From::Gatekeeper(args) = &args.from;
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &FromGatekeeper) -> Result<ExitCode> {
    let input::Input { found, unread } = input::read(&args.files)?;
    let documents: Vec<_> = found
        .iter()
        .map(|found| Document {
            file: &found.file,
            line: found.line,
            object: &found.object,
        })
        .collect();
    let others = documents
        .iter()
        .filter(|document| !gatekeeper::is_gatekeeper(document.object))
        .count();
    let converted = gatekeeper::convert(&documents);
    let vetting = Vetting::new().context("cannot tell which file this binary is, to vet policies with it")?;
    let declared: Vec<Declared> = converted.policies.iter().map(|made| made.policy.clone()).collect();
    let outcomes = vetting.compile_objects(&declared, VETTING);
    let mut problems: Vec<String> = converted.problems.iter().map(LoadError::to_string).collect();
    let mut good = Vec::new();
    for (made, outcome) in converted.policies.into_iter().zip(outcomes) {
        let policy = &made.policy;
        let object = object(policy)?;
        let told = |problem: String| format!("{}:{}: {}: {problem}", made.file, made.line, policy.name);
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let schema = schema::schema_of(KIND).context("there is no schema of its kind")?;
        let mut wrong: Vec<String> = schema::problems(schema, spec, "spec");
        if let Err(error) = outcome {
            wrong.extend(reasons(&error, policy));
        }
        if wrong.is_empty() {
            good.push((made, object));
        } else {
            problems.extend(wrong.into_iter().map(told));
        }
    }
    let say = |line: &str| eprintln!("ringfence: {}", printable(line));
    for error in &unread {
        format!("{error:#}").lines().for_each(say);
    }
    if others > 0 {
        say(&format!("left aside: {others} objects that are not Gatekeeper's"));
    }
    for note in &converted.notes {
        say(&note.to_string());
    }
    match args.output {
        Output::Yaml => terminal::print(&yaml(&good)?)?,
        Output::Json => {
            for (made, _) in &good {
                for note in &made.notes {
                    say(&format!("{}:{}: {}: {note}", made.file, made.line, made.policy.name));
                }
            }
            let items: Vec<_> = good.into_iter().map(|(_, object)| object).collect();
            terminal::print(&terminal::as_json(
                &json!({"apiVersion": "v1", "kind": "List", "items": items}),
            )?)?;
        }
    }
    for problem in &problems {
        for line in problem.lines() {
            say(line);
        }
    }
    Ok(match (unread.is_empty(), problems.is_empty()) {
        (false, _) => ExitCode::from(2),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    })
}

/// What is applied.
fn object(policy: &Declared) -> Result<Value> {
    let types = TypeMeta {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
    };
    let mut object: Map<String, Value> = Map::new();
    object.insert("apiVersion".to_owned(), types.api_version.into());
    object.insert("kind".to_owned(), types.kind.into());
    object.insert("metadata".to_owned(), json!({"name": policy.name}));
    object.insert("spec".to_owned(), serde_json::to_value(&policy.spec)?);
    Ok(Value::Object(object))
}

fn yaml(policies: &[(Made, Value)]) -> Result<String> {
    let mut text = String::new();
    for (made, object) in policies {
        text.push_str("---\n");
        let from = format!("of {}:{}", made.file, made.line);
        for comment in [&from].into_iter().chain(&made.notes) {
            text.push_str(&format!("# {}\n", printable(comment)));
        }
        // A template's author may have written what a terminal obeys; Rego has tabs.
        text.push_str(&terminal::as_yaml(object, &['\n', '\t'])?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gatekeeper::Converted;

    fn made(message: &str) -> Vec<(Made, Value)> {
        let rego = format!("package a\n\nviolation[{{\"msg\": m}}] {{\n\tm := `{message}`\n\n}}   \n\n# end");
        let template = json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": "a"},
            "spec": {"crd": {"spec": {"names": {"kind": "A"}}}, "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": rego}]}});
        let constraint =
            json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "A", "metadata": {"name": "c"}});
        let documents = [&template, &constraint].map(|object| Document {
            file: "f\u{1b}.yaml",
            line: 1,
            object,
        });
        let Converted { policies, problems, .. } = gatekeeper::convert(&documents);
        assert_eq!(problems, []);
        policies
            .into_iter()
            .map(|made| {
                let object = object(&made.policy).expect("an object");
                (made, object)
            })
            .collect()
    }

    #[test]
    fn what_is_printed_is_what_was_made() {
        for message in ["plain", "\u{1b}[2J\u{202e}", "---\n# no comment: {{ }}", " \t ", "\r\n"] {
            let made = made(message);
            let text = yaml(&made).expect("YAML");
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
            let expected: Vec<_> = made.iter().map(|(_, object)| object.clone()).collect();
            assert_eq!(objects, expected, "{text}");
            assert!(
                text.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()),
                "{text:?}"
            );
        }
    }
}
