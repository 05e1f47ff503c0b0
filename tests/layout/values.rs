//! Values of the chart: the schema knows each, the README says each, and the names of policies are the shipped ones.

use std::{fs, path::Path};

use serde_json::Value;

use crate::generated::check;

const SCHEMA: &str = "charts/ringfence/values.schema.json";
const README: &str = "charts/ringfence/README.md";
const BEGIN: &str = "<!-- Generated from values.yaml and its schema by `make generate`. Do not edit. -->\n";
const END: &str = "<!-- End of what is generated. -->\n";
/// Maps whose keys are the user's.
const OPEN: [&str; 2] = ["resources", "egress.resources"];

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn schema() -> Value {
    serde_json::from_str(&read(SCHEMA)).unwrap()
}

/// A value as it stands in `values.yaml`.
struct Row {
    path: String,
    default: String,
    comment: String,
}

/// Every value that nothing lies below, with the comment above it. What is said of a group is said of the first value in it that has no
/// word of its own.
fn rows(text: &str) -> Vec<Row> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (mut rows, mut above, mut comment) = (Vec::new(), Vec::<(usize, &str)>::new(), Vec::<&str>::new());
    let mut at = 0;
    while let Some(line) = lines.get(at).copied() {
        at += 1;
        if let Some(words) = line.trim_start().strip_prefix('#') {
            // The next values begin a thought of their own.
            comment.push(words.trim());
            continue;
        }
        let Some((key, value)) = line.trim_start().split_once(':') else {
            comment.clear();
            continue;
        };
        above.retain(|(depth, _)| *depth < indent(line));
        let keys = above.iter().map(|(_, key)| *key).chain([key]);
        let path = keys.collect::<Vec<_>>().join(".");
        let is_item = |next: &str| next.trim_start().starts_with("- ") && indent(next) >= indent(line);
        let is_below = |next: &str| !next.trim().is_empty() && (indent(next) > indent(line) || is_item(next));
        let below: Vec<&str> = lines[at..].iter().copied().take_while(|next| is_below(next)).collect();
        let is_list = below.first().is_some_and(|next| is_item(next));
        if !below.is_empty() && !is_list && !OPEN.contains(&path.as_str()) {
            above.push((indent(line), key));
            continue;
        }
        let default = if below.is_empty() {
            value.trim().to_owned()
        } else {
            at += below.len();
            serde_saphyr::from_str::<Value>(&below.join("\n")).unwrap().to_string()
        };
        let comment = std::mem::take(&mut comment).join(" ");
        rows.push(Row { path, default, comment });
    }
    rows
}

/// The schema of a value, and whether it is there.
fn of<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(schema, |schema, key| schema["properties"].get(key))
}

/// Paths that the schema knows and nothing lies below.
fn known(schema: &Value, path: &str, found: &mut Vec<String>) {
    let below = schema["properties"].as_object().filter(|_| !OPEN.contains(&path));
    match below {
        Some(properties) => properties.iter().for_each(|(key, schema)| {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            known(schema, &path, found);
        }),
        None => found.push(path.to_owned()),
    }
}

#[test]
fn the_schema_knows_each_value_and_no_other() {
    let mut expected = Vec::new();
    known(&schema(), "", &mut expected);
    // Helm's own, of parent charts.
    expected.retain(|path| path != "global");
    expected.sort();
    let mut paths: Vec<String> = rows(&read("charts/ringfence/values.yaml"))
        .into_iter()
        .map(|row| row.path)
        .collect();
    paths.sort();
    assert_eq!(paths, expected);
}

#[test]
fn the_readme_of_the_chart_says_each_value() {
    let schema = schema();
    let mut table = "\n| value | default | |\n|---|---|---|\n".to_owned();
    for Row { path, default, comment } in rows(&read("charts/ringfence/values.yaml")) {
        let described = of(&schema, &path)
            .and_then(|schema| schema["description"].as_str())
            .unwrap_or_default();
        let words = if comment.is_empty() { described } else { &comment };
        assert!(
            !words.is_empty(),
            "{path}: say in values.yaml or its schema what it is for"
        );
        let cell = |text: &str| text.replace('|', "\\|");
        let default = if default.is_empty() {
            String::new()
        } else {
            format!("`{}`", cell(&default))
        };
        table.push_str(&format!("| `{path}` | {default} | {} |\n", cell(words)));
    }
    table.push('\n');
    let readme = read(README);
    let (head, rest) = readme.split_once(BEGIN).expect("where the table begins");
    let (_, tail) = rest.split_once(END).expect("where the table ends");
    check(README, &format!("{head}{BEGIN}{table}{END}{tail}"));
}

/// The schema knows the names, so that a typo is refused at install.
#[test]
fn policies_that_can_be_switched_are_the_shipped_ones() {
    let text = read(SCHEMA);
    let mut lines = text
        .lines()
        .filter(|line| line.contains("\"propertyNames\": {\"enum\""));
    let line = lines.next().expect("the names of policies");
    let names = ringfence::policy::library::names().unwrap();
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let generated = format!("      \"propertyNames\": {{\"enum\": [{}]}},", names.join(", "));
    check(SCHEMA, &text.replace(line, &generated));
}
