//! `crds/` and the chart's copies of it come from the types in `src/api`; the chart's engines are those of `engines/`; pages and
//! schemas of `docs/` come from the code.

use std::{fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use ringfence::api::definitions;

const HEADER: &str = "# Generated from src/api by `make generate`. Do not edit.\n";

#[test]
fn custom_resource_definitions_are_what_the_types_say() {
    for crd in definitions() {
        let file = format!("{}.yaml", crd.spec.names.plural);
        check(&format!("crds/{file}"), &yaml(&crd));
        // Helm must leave them when the chart goes: deleting a CRD deletes every object of its kind.
        let mut kept = crd.clone();
        kept.metadata
            .annotations
            .get_or_insert_default()
            .insert("helm.sh/resource-policy".into(), "keep".into());
        let text = yaml(&kept);
        assert!(!text.contains("{{"), "Helm would read this as a template");
        check(&format!("charts/ringfence/templates/crds/{file}"), &text);
    }
}

/// Helm reads no file outside its chart.
#[test]
fn the_charts_engines_are_the_shipped_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("engines")).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        let copy = format!(
            "charts/ringfence/engines/{}",
            path.file_name().unwrap().to_string_lossy()
        );
        check(&copy, &fs::read_to_string(&path).unwrap());
    }
    names.sort();
    let shipped: Vec<_> = ringfence::plan::shipped()
        .iter()
        .map(|profile| profile.name.clone())
        .collect();
    assert_eq!(
        names, shipped,
        "each file of engines/ is embedded, and named like its profile"
    );
    let schema: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root.join("charts/ringfence/values.schema.json")).unwrap()).unwrap();
    assert_eq!(
        schema["properties"]["ceiling"]["properties"]["engines"]["items"]["enum"],
        serde_json::json!(names)
    );
}

#[test]
fn what_of_rego_is_supported_is_what_the_code_says() {
    check("docs/rego-support.md", &ringfence::policy::render_support());
}

/// `src/telemetry` holds the lines that are logged to it.
#[test]
fn the_schema_of_a_decision_line_is_what_the_code_says() {
    let mut text = serde_json::to_string_pretty(&ringfence::decisions::schema()).unwrap();
    text.push('\n');
    check("docs/decision-line.schema.json", &text);
}

fn yaml(crd: &CustomResourceDefinition) -> String {
    // Through a JSON value, whose keys are sorted: the file must not change with the order of fields in a struct.
    let value = serde_json::to_value(crd).unwrap();
    format!("{HEADER}{}", serde_saphyr::to_string(&value).unwrap())
}

/// Compares a committed file with what is generated, or writes it when asked to.
pub fn check(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == expected,
        "{file} is not what the code generates: run `make generate` and commit it"
    );
}
