//! `ringfence convert gatekeeper`: what is printed, what is told, and the exit code.

use std::fs;

use serde_json::Value;

use crate::run::run;

const TEMPLATE: &str = r#"# the template
---
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: owners}
spec:
  crd: {spec: {names: {kind: Owners}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package owners

      violation[{"msg": msg}] {
        not input.review.object.metadata.labels[input.parameters.label]
        input.review.operation != "DELETE"
        msg := "no owner"
      }
"#;

fn constraint(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Owners\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

#[test]
fn policies_are_printed_with_what_is_not_the_same() {
    let input = format!(
        "{TEMPLATE}{}",
        constraint("all", "{parameters: {label: owner}, enforcementAction: warn}")
    );
    let said = run(&["convert", "gatekeeper", "-"], input.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("---\n# of standard input:19\n# "), "{}", said.out);
    assert!(said.out.contains("# it is asked about DELETE too"), "{}", said.out);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&said.out).expect("YAML");
    assert_eq!(objects[0]["metadata"]["name"], "owners-all");
    assert_eq!(objects[0]["spec"]["validationActions"][0], "Warn");
    assert_eq!(objects[0]["spec"]["rego"]["modules"][1]["name"], "template.rego");
    let said = run(&["convert", "gatekeeper", "-", "-o", "json"], input.as_bytes());
    let list: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((said.code, &list["items"][0]), (0, &objects[0]));
    // What is printed is what `ringfence` takes.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("policies.yaml");
    fs::write(&file, &said.out).expect("written");
    let said = run(&["convert", "gatekeeper", &file.display().to_string()], b"");
    assert!(said.err.contains("left aside: 1 objects"), "{said:?}");
}

#[test]
fn what_cannot_be_converted_is_told_by_file_and_line_and_the_rest_is_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("more")).expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("template.yaml", TEMPLATE);
    write(
        "more/constraints.yml",
        &(constraint("bad", "{match: {kind: []}}") + &constraint("good", "{}")),
    );
    write("more/notes.txt", "no: [yaml");
    let whole = folder.path().display().to_string();
    let said = run(&["convert", "gatekeeper", &whole], b"");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("constraints.yml:2: Owners bad: spec.match.kind"),
        "{said:?}"
    );
    assert!(said.out.contains("owners-good"), "{said:?}");
    write("more/broken.yaml", "a: [");
    let said = run(&["convert", "gatekeeper", &whole], b"");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.err.contains("broken.yaml: ") && said.out.contains("owners-good"),
        "{said:?}"
    );
}

#[test]
fn rego_that_cannot_be_used_is_told_with_its_own_line() {
    let template = TEMPLATE.replace(
        "msg := \"no owner\"",
        "msg := http.send({\"method\": \"get\", \"url\": \"x\"}).body",
    );
    let said = run(
        &["convert", "gatekeeper", "-"],
        (template + &constraint("all", "{}")).as_bytes(),
    );
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.is_empty(), "{said:?}");
    assert!(
        said.err
            .contains("standard input:19: owners-all: template.rego:6:10: `http.send`"),
        "{said:?}"
    );
}

#[test]
fn what_is_not_there_cannot_be_read() {
    let said = run(&["convert", "gatekeeper", "/nowhere.yaml"], b"");
    assert_eq!(said.code, 2, "{said:?}");
    assert_ne!(run(&["convert", "gatekeeper"], b"").code, 0);
}

/// Whoever converts a folder believes that all of it is converted.
#[test]
fn what_is_hidden_is_converted_too_and_a_mounted_config_map_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("..2026_11_29")).expect("a folder");
    fs::create_dir_all(at(".git")).expect("a folder");
    fs::write(
        at("..2026_11_29/a.yaml"),
        format!("{TEMPLATE}{}", constraint("seen", "{}")),
    )
    .expect("written");
    fs::write(at(".git/c.yaml"), "a: [\n").expect("written");
    fs::write(at(".b.yaml"), constraint("unseen", "{}")).expect("written");
    std::os::unix::fs::symlink("..2026_11_29", at("..data")).expect("linked");
    std::os::unix::fs::symlink("..data/a.yaml", at("a.yaml")).expect("linked");
    let said = run(
        &[
            "convert",
            "gatekeeper",
            &folder.path().display().to_string(),
            "-o",
            "json",
        ],
        b"",
    );
    assert_eq!(said.code, 0, "{said:?}");
    let list: Value = serde_json::from_str(&said.out).expect("JSON");
    let names: Vec<_> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|made| &made["metadata"]["name"])
        .collect();
    assert_eq!(names, ["owners-seen", "owners-unseen"], "{said:?}");
}
