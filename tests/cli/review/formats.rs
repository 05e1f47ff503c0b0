//! How verdicts are printed: for people and for each kind of machine, with nothing secret in any of them.

use rstest::rstest;
use serde_json::{Value, json};

use super::{Files, KEY, NAMESPACE, POD};

/// A pod with a literal key, a refused field, and a document that is no YAML.
fn files() -> Files {
    let pod = POD
        .replace(
            "      value: b\n",
            &format!("      value: {KEY} # {KEY}\n    - {{name: OPENAI_API_KEY, value: \"{KEY}\"}}\n"),
        )
        .replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true");
    let secret =
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: ai}}\nstringData: {{x: {KEY}}}\n");
    Files::of(&[
        (
            "a,b/m.yaml",
            &format!("# Source: chart/templates/p.yaml\n{pod}---\n{secret}---\na: [\n"),
        ),
        ("n.yaml", NAMESPACE),
    ])
}

const ARGUMENTS: [&str; 3] = ["--context", "DIR/n.yaml", "DIR/a,b"];

#[test]
fn for_people_the_line_is_shown_and_no_value() {
    let said = files().review(&ARGUMENTS, b"");
    assert_eq!(said.code, 2, "{said:?}");
    let words = [
        "refused[restricted-pod-security]: a process in the container may gain more rights than its parent has\n",
        "  --> DIR/a,b/m.yaml:15:23 (Pod ai/p)\n",
        "15 |     securityContext: {allowPrivilegeEscalation: true, capabilities: {drop: [ALL]}}\n",
        "   |                       ^^^^^^^^^^^^^^^^^^^^^^^^^\n",
        "   = field: spec.containers[0].securityContext.allowPrivilegeEscalation\n",
        "   = source: chart/templates/p.yaml\n",
        "   = fix: set allowPrivilegeEscalation to false\n",
        "refused[no-literal-secrets]: ",
        "18 |       value: (masked)\n   |       ^^^^^^\n",
        "19 |     - {name: OPENAI_API_KEY, value: (masked)}\n   |                              ^^^^^^\n",
        "problem: this is no YAML: unclosed bracket '['\n --> DIR/a,b/m.yaml:26:4\n",
        "1 of 2 objects would be refused",
    ];
    for words in words {
        assert!(said.out.contains(words), "{words:?} is not in\n{}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "no colour where there is no terminal");
}

/// By hand, for no library of XML is there: what is opened is closed, and every attribute has its quotes.
fn elements(xml: &str) -> Vec<(String, Vec<(String, String)>)> {
    let (mut open, mut found) = (Vec::new(), Vec::new());
    let body = xml
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
        .expect("a declaration");
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('&') || text.contains(';'), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{xml}");
            continue;
        }
        let (name, rest) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = Vec::new();
        let mut rest = rest.trim_end_matches('/').trim();
        while !rest.is_empty() {
            let (key, value) = rest.split_once("=\"").expect("an attribute");
            let (value, after) = value.split_once('"').expect("a quote ends");
            attributes.push((key.trim().to_owned(), value.to_owned()));
            rest = after.trim();
        }
        found.push((name.to_owned(), attributes));
        if !tag.ends_with('/') {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} in {xml}");
    found
}

#[test]
fn junit_is_xml_that_counts_what_it_holds() {
    let said = files().review(&[&ARGUMENTS[..], &["-o", "junit"]].concat(), b"");
    assert_eq!(said.code, 2);
    let elements = elements(&said.out);
    let count = |name: &str| elements.iter().filter(|(element, _)| element == name).count();
    let of = |name: &str, attribute: &str| -> String {
        let (_, attributes) = elements.iter().find(|(element, _)| element == name).unwrap();
        attributes.iter().find(|(key, _)| key == attribute).unwrap().1.clone()
    };
    assert_eq!(of("testsuites", "tests"), count("testcase").to_string());
    assert_eq!(
        (of("testsuites", "failures"), of("testsuites", "errors")),
        ("1".to_owned(), "1".to_owned())
    );
    assert!(
        count("failure") >= 3 && count("error") == 1 && count("skipped") >= 1,
        "{}",
        said.out
    );
    assert_eq!(of("failure", "type"), "no-literal-secrets");
    assert_eq!(of("testcase", "file"), "DIR/a,b/m.yaml");
}

#[test]
fn sarif_has_what_its_schema_requires() {
    let said = files().review(&[&ARGUMENTS[..], &["-o", "sarif"]].concat(), b"");
    let sarif: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&sarif["version"], said.code), (&json!("2.1.0"), 2));
    assert!(sarif["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &sarif["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "ringfence");
    let rules = driver["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert!(results.len() >= 3, "{sarif}");
    for result in results {
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(rules[index]["help"]["text"].as_str().unwrap().len() > 10);
        let place = &result["locations"][0]["physicalLocation"];
        assert!(
            place["artifactLocation"]["uri"]
                .as_str()
                .unwrap()
                .ends_with("/a%2Cb/m.yaml"),
            "{place}"
        );
        let [line, column, end] =
            ["startLine", "startColumn", "endColumn"].map(|name| place["region"][name].as_u64().unwrap());
        assert!(line >= 1 && column >= 1 && end > column, "{place}");
    }
    let lines: Vec<_> = results
        .iter()
        .map(|one| {
            one["locations"][0]["physicalLocation"]["region"]["startLine"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert!([15, 18, 19].iter().all(|line| lines.contains(line)), "{lines:?}");
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    let told = run["invocations"][0]["toolExecutionNotifications"].as_array().unwrap();
    let lines = told
        .iter()
        .filter(|one| one["level"] == "error" && one["locations"][0]["physicalLocation"]["region"]["startLine"] == 26);
    assert_eq!(lines.count(), 1, "{sarif}");
    let prints: std::collections::BTreeSet<_> = results
        .iter()
        .map(|one| one["partialFingerprints"]["ringfence/v1"].as_str().unwrap())
        .collect();
    assert_eq!(prints.len(), results.len(), "each finding by itself");
}

#[test]
fn annotations_of_github_stand_at_their_lines() {
    let said = files().review(&[&ARGUMENTS[..], &["-o", "github"]].concat(), b"");
    assert_eq!(said.code, 2);
    let commands: Vec<_> = said.out.lines().filter(|line| line.starts_with("::")).collect();
    let begins = |start: &str| commands.iter().any(|line| line.starts_with(start));
    assert!(
        begins("::error file=DIR/a%2Cb/m.yaml,line=15,col=23,endColumn=48,title=restricted-pod-security::Pod ai/p: "),
        "{commands:?}"
    );
    assert!(
        begins("::error file=DIR/a%2Cb/m.yaml,line=26,col=4,title=could not be reviewed::this is no YAML"),
        "{commands:?}"
    );
    assert!(begins("::notice title=not judged::"), "{commands:?}");
    for command in commands {
        assert_eq!(command.split("::").count(), 3, "{command}");
    }
    let piped = Files::of(&[]).review(&["-o", "github", "-"], POD.replace("[ALL]", "[]").as_bytes());
    assert!(
        piped.out.starts_with("::error line=14,") && piped.code == 1,
        "{piped:?}"
    );
}

#[test]
fn json_tells_what_the_webhook_would_send() {
    let (code, json) = files().json(&ARGUMENTS, b"");
    assert_eq!(code, 2);
    let pod = &json["results"][0];
    let [file, line, verdict, operation] = ["file", "line", "verdict", "operation"].map(|field| &pod[field]);
    assert!(
        file.as_str().unwrap().ends_with("a,b/m.yaml") && line == 3 && verdict == "deny" && operation == "CREATE",
        "{pod}"
    );
    let message = pod["answers"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("ringfence refused this Pod ("), "{message}");
    let findings = pod["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["level"] == "deny");
    for (number, finding) in (1..).zip(findings) {
        let (policy, path) = (finding["policy"].as_str().unwrap(), finding["path"].as_str().unwrap());
        assert!(message.contains(&format!("\n{number}. [{policy}] {path}")), "{message}");
    }
    assert_eq!(
        json["totals"],
        json!({"files": 1, "objects": 2, "denied": 1, "warned": 0, "unasked": 0, "notJudged": 1, "problems": 1})
    );
    assert_eq!(json["problems"][0]["line"], 26);
}

/// Nothing to tell is an answer of the same shape.
#[rstest]
#[case::json("json")]
#[case::sarif("sarif")]
#[case::junit("junit")]
fn what_passes_is_whole_too(#[case] format: &str) {
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
    let said = Files::of(&[("m.yaml", config)]).review(&["-o", format, "DIR/m.yaml"], b"");
    assert_eq!(said.code, 0, "{said:?}");
    if format == "junit" {
        assert!(
            elements(&said.out).iter().any(|(name, _)| name == "testcase"),
            "{}",
            said.out
        );
    } else {
        serde_json::from_str::<Value>(&said.out).unwrap();
    }
}

/// What a terminal obeys stays in the file.
#[test]
fn names_cannot_drive_a_terminal() {
    let pod = POD
        .replace("name: c\n", "name: \"c\\u001b[2J\\u202e\"\n")
        .replace("[ALL]", "[]");
    for format in ["people", "json", "sarif", "junit", "github"] {
        let said = Files::of(&[("m.yaml", &pod)]).review(&["-o", format, "DIR/m.yaml"], b"");
        assert!(said.code == 1 && !said.out.contains(['\u{1b}', '\u{202e}']), "{said:?}");
    }
}

/// Wherever a secret stands, the line of a finding beside it does not show it.
#[rstest]
#[case::flow(&format!("spec: {{template: {{spec: {{containers: [{{name: c, image: x, command: [sh, -c, {KEY}], args: [{KEY}], env: [{{name: A, value: {KEY}}}]}}]}}}}}}\n"))]
#[case::json(&format!("spec: {{\"template\": {{\"spec\": {{\"containers\": [{{\"name\": \"c\", \"image\": \"x\", \"args\": [\"{KEY}\"], \"env\": [{{\"name\": \"A\", \"value\": \"{KEY}\"}}]}}]}}}}}}\n"))]
#[case::quoted(&format!("spec: {{template: {{spec: {{containers: [{{name: c, image: x, args: ['{KEY}', \"{KEY}\"]}}]}}}}}}\n"))]
#[case::annotation(&format!("spec: {{template: {{metadata: {{annotations: {{a: {KEY}}}}}, spec: {{containers: [{{name: c, image: x}}]}}}}}}\n"))]
#[case::block(&format!("spec:\n  template:\n    spec:\n      containers:\n      - name: c\n        image: x\n        args:\n        - |\n          {KEY}\n        - >-\n          {KEY}\n"))]
#[case::anchor(&format!("x: &key {KEY}\nspec: {{template: {{spec: {{containers: [{{name: c, image: x, args: [*key]}}]}}}}}}\n"))]
#[case::unknown_field(&format!("spec: {{template: {{spec: {{apiKey: {KEY}, words: \"{KEY} and more\", containers: [{{name: c, image: x}}]}}}}}}\n"))]
#[case::key(&format!("spec: {{template: {{spec: {{containers: [{{name: c, image: x, {KEY}: y}}]}}}}}}\n"))]
#[case::comment(&format!("spec: {{template: {{spec: {{containers: [{{name: c, image: x}}]}}}}}} # {KEY}\n"))]
fn no_line_shows_a_secret(#[case] spec: &str) {
    let text = format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d, namespace: ai}}\n{spec}");
    for format in ["people", "json", "sarif", "junit", "github"] {
        let said = Files::of(&[("m.yaml", &text)]).review(&["-o", format, "DIR/m.yaml"], b"");
        assert!(
            said.code == 1 && said.out.contains("restricted-pod-security"),
            "{said:?}"
        );
    }
}
