//! `examples/policies/approved-namespaces.rego`: a policy as people have it already, without METADATA, in Rego v0.

use std::collections::BTreeMap;
use std::time::Duration;

use ringfence::policy::{Plain, PolicyInput, PolicySet, RegoVersion, Source, Target};
use rstest::rstest;
use serde_json::json;

const SAMPLE: &str = include_str!("../../examples/policies/approved-namespaces.rego");

fn plain(rego: RegoVersion) -> Result<PolicySet, Vec<ringfence::policy::LoadError>> {
    let plain = Plain {
        name: "approved-namespaces".to_owned(),
        target: Target::Pod,
        rego,
    };
    let source = Source {
        file: "examples/policies/approved-namespaces.rego".to_owned(),
        text: SAMPLE.to_owned(),
    };
    PolicySet::compile_plain(vec![(plain, source)], &BTreeMap::new())
}

#[test]
fn the_sample_is_verbatim() {
    assert_eq!(
        SAMPLE,
        "package aiworkflow.security\nallow { input.request.namespace == \"ai-secure\" }\n"
    );
}

#[rstest]
#[case::approved(json!({"namespace": "ai-secure"}), true)]
#[case::other(json!({"namespace": "default"}), false)]
#[case::none(json!({}), false)]
#[case::wrong_type(json!({"namespace": ["ai-secure"]}), false)]
fn the_sample_decides(#[case] request: serde_json::Value, #[case] admitted: bool) {
    let set = plain(RegoVersion::V0).expect("the sample loads");
    let input = PolicyInput {
        target: Target::Pod,
        request: &request,
        pod: None,
        workflow: None,
        class: None,
        engine: None,
        namespace: None,
    };
    let verdicts = set.evaluate(&input, Duration::from_secs(5));
    let [verdict] = verdicts.as_slice() else {
        panic!("one verdict expected: {verdicts:?}")
    };
    let findings = verdict.outcome.as_ref().expect("no error");
    assert_eq!(findings.deny.is_empty(), admitted, "{findings:?}");
    for denial in &findings.deny {
        assert_eq!(denial.policy, "approved-namespaces");
        assert!(
            denial.fix.contains("examples/policies/approved-namespaces.rego"),
            "{}",
            denial.fix
        );
    }
    let namespaces = PolicyInput {
        target: Target::Namespace,
        ..input
    };
    assert!(
        set.evaluate(&namespaces, Duration::from_secs(5)).is_empty(),
        "a policy for pods judged a namespace"
    );
}

#[test]
fn the_sample_is_not_rego_v1() {
    let errors = plain(RegoVersion::V1).expect_err("v1 needs `if`");
    assert_eq!(
        errors.first().map(|error| (error.line, error.column.is_some())),
        Some((Some(2), true))
    );
}
