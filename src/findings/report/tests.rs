use serde_json::{Value, json};

use super::*;

fn finding(namespace: &str, name: &str, rule: &str, severity: Severity) -> Finding {
    Finding {
        namespace: namespace.into(),
        kind: "Deployment".into(),
        name: name.into(),
        workflow: Some("triage".into()),
        rule: rule.into(),
        path: "spec.x".into(),
        value: Some("<v> & \"w\"\u{1b}[2J".into()),
        message: "is wrong".into(),
        fix: "correct it".into(),
        severity,
    }
}

fn report(gaps: &[&str]) -> Report {
    let mut report = Report::default();
    report.found(finding("b", "web", "label", Severity::Warning));
    report.found(finding("a", "web", "images", Severity::Error));
    report.found(finding("a", "api", "label", Severity::Error));
    report.looked(
        2,
        Extent {
            looked: 9,
            units: 5,
            refused: 2,
            gaps: gaps.iter().map(|&gap| gap.to_owned()).collect(),
            cut: false,
        },
    );
    report.sort();
    report
}

#[test]
fn people_get_a_table_that_no_name_can_disturb() {
    let table = report(&[]).table(false);
    let expected = "\
SEVERITY  NAMESPACE  OBJECT          WORKFLOW  RULE
error     a          Deployment/api  triage    label
    spec.x = \"<v> & \\\"w\\\"\\u{1b}[2J\": is wrong
    Fix: correct it
error     a          Deployment/web  triage    images
    spec.x = \"<v> & \\\"w\\\"\\u{1b}[2J\": is wrong
    Fix: correct it
warning   b          Deployment/web  triage    label
    spec.x = \"<v> & \\\"w\\\"\\u{1b}[2J\": is wrong
    Fix: correct it

2 errors, 1 warning; 2 of 5 workloads and bare pods of 2 namespaces would be refused.
";
    assert_eq!(table, expected);
    let mut hostile = Report::default();
    hostile.found(Finding {
        name: "\u{1b}[2J".into(),
        message: "\u{202e}x".into(),
        path: String::new(),
        ..finding("a", "", "label", Severity::Error)
    });
    assert!(!hostile.table(false).contains(['\u{1b}', '\u{202e}']));
    assert!(report(&[]).table(true).contains("\u{1b}[31merror "));
}

#[test]
fn the_last_line_says_when_nothing_was_found_and_when_not_all_was_seen() {
    let mut clean = Report::default();
    clean.looked(1, Extent::default());
    assert_eq!(
        clean.table(false),
        "Nothing found in 0 workloads and bare pods of 1 namespace.\n"
    );
    assert!(
        report(&["pods"])
            .table(false)
            .ends_with("would be refused. Not all could be looked at.\n")
    );
}

#[test]
fn json_holds_every_field_of_every_finding() {
    let json = report(&["the pods"]).json();
    let first = json!({
        "namespace": "a", "kind": "Deployment", "name": "api", "workflow": "triage", "rule": "label", "path": "spec.x",
        "value": "<v> & \"w\"\u{1b}[2J", "message": "is wrong", "fix": "correct it", "severity": "error",
    });
    assert_eq!(json["findings"][0], first);
    assert_eq!(json["findings"].as_array().unwrap().len(), 3);
    assert_eq!(json["gaps"], json!(["the pods"]));
    let summary = json!({"complete": false, "namespaces": 2, "objects": 9, "units": 5, "refused": 2, "omitted": 0});
    assert_eq!(json["summary"], summary);
}

/// What the schema of SARIF 2.1.0 requires, and what readers of it show.
#[test]
fn sarif_is_sarif() {
    let sarif = report(&["the pods"]).sarif("1.2.3");
    assert_eq!(sarif["version"], "2.1.0");
    assert!(sarif["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "ringfence");
    assert_eq!(run["tool"]["driver"]["version"], "1.2.3");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let ids: Vec<_> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["images", "label"], "each rule once");
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    assert_eq!(
        run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"],
        "the pods"
    );
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    let mut fingerprints = std::collections::BTreeSet::new();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"], "the index is that of the rule");
        assert!(["error", "warning", "note", "none"].contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].as_str().unwrap().contains("Fix: correct it"));
        let location = &result["locations"][0];
        assert!(location["physicalLocation"]["artifactLocation"]["uri"].is_string());
        assert!(location["logicalLocations"][0]["fullyQualifiedName"].is_string());
        assert!(
            fingerprints.insert(
                result["partialFingerprints"]["ringfence/v1"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            )
        );
    }
    assert_eq!(
        results[0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"],
        "a/Deployment/api"
    );
    assert_eq!(
        report(&[]).sarif("x")["runs"][0]["invocations"][0]["executionSuccessful"],
        true
    );
}

/// Attributes of the first element of that name.
fn attributes(xml: &str, element: &str) -> Value {
    let (_, after) = xml.split_once(&format!("<{element} ")).unwrap();
    let (inside, _) = after.split_once('>').unwrap();
    let mut found = serde_json::Map::new();
    for pair in inside.split("\" ") {
        let (key, value) = pair.split_once("=\"").unwrap();
        found.insert(key.to_owned(), value.trim_end_matches(['"', '/']).into());
    }
    Value::Object(found)
}

#[test]
fn junit_is_well_formed_and_counts_right() {
    let xml = report(&["the \"pods\" & <more>"]).junit();
    assert_eq!(
        attributes(&xml, "testsuites"),
        json!({"name": "ringfence", "tests": "4", "failures": "3", "errors": "1"})
    );
    assert_eq!(
        attributes(&xml, "testsuite"),
        json!({"name": "a", "tests": "2", "failures": "2", "errors": "0"})
    );
    assert_eq!(
        attributes(&xml, "testcase"),
        json!({"classname": "a.Deployment", "name": "api: label"})
    );
    assert_eq!(xml.matches("<testcase ").count(), 4);
    assert_eq!(xml.matches("<failure ").count(), xml.matches("</failure>").count());
    assert_eq!(xml.matches("<testsuite ").count(), xml.matches("</testsuite>").count());
    assert!(
        xml.contains("<error message=\"the &quot;pods&quot; &amp; &lt;more&gt;\"/>"),
        "{xml}"
    );
    assert!(!xml.contains('\u{1b}') && xml.is_ascii(), "{xml}");

    let clean = Report::default().junit();
    assert_eq!(
        attributes(&clean, "testsuites"),
        json!({"name": "ringfence", "tests": "1", "failures": "0", "errors": "0"}),
        "a file without a test is a broken build to some"
    );
}

#[test]
fn a_report_is_bounded_and_counts_what_it_leaves_out() {
    let mut report = Report::default();
    for at in 0..MAX_FINDINGS + 3 {
        report.found(finding("a", &at.to_string(), "label", Severity::Error));
    }
    assert_eq!((report.findings.len(), report.omitted), (MAX_FINDINGS, 3));
    assert!(report.table(false).contains("and 3 findings that are not listed"));
}
