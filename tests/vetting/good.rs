//! Policies that are good, and sets that do not fit together.

use super::*;

const GOOD: &str = "deny contains \"x\" if input.request.bad";

#[test]
fn the_shipped_policies_pass_and_stay_what_they_are() {
    let vetted = compile(PolicySet::embedded_sources()).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
    let embedded =
        PolicySet::compile(PolicySet::embedded_sources(), &BTreeMap::new()).expect("the shipped policies load");
    assert_eq!(vetted.revision(), embedded.revision());
}

#[test]
fn line_ends_of_windows_change_nothing() {
    let mut source = policy("windows", &format!("{GOOD}\nhelper := `a\nb`"));
    source.text = source.text.replace('\n', "\r\n");
    compile(vec![source]).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
}

#[test]
fn no_policy_at_all_is_no_error() {
    assert_eq!(compile(Vec::new()).expect("nothing is wrong").policies().count(), 0);
}

#[test]
fn two_of_one_name_are_refused() {
    let mut twin = policy("one", GOOD);
    twin.file = "twin.rego".to_owned();
    let errors = compile(vec![policy("one", GOOD), twin]).expect_err("must be refused");
    assert_eq!(
        joined(&errors),
        "twin.rego: policy one is there already, in one.rego: rename one"
    );
}

#[test]
fn parameters_of_no_policy_are_refused() {
    let parameters = BTreeMap::from([("other".to_owned(), serde_json::json!({}))]);
    let errors = vetting()
        .compile(vec![policy("one", GOOD)], &parameters)
        .expect_err("must be refused");
    assert_eq!(
        joined(&errors),
        "parameters: there is no policy `other`; there are: one"
    );
}

#[test]
fn parameters_reach_the_policy_that_they_are_for() {
    let body = format!("{GOOD}\nx := input.parameters");
    let wrong = BTreeMap::from([("one".to_owned(), serde_json::json!({"misspelt": 1}))]);
    let errors = vetting()
        .compile(vec![policy("one", &body), policy("two", &body)], &wrong)
        .expect_err("must be refused");
    assert_eq!(errors.len(), 1, "{}", joined(&errors));
    assert!(
        joined(&errors).contains("no parameter `misspelt`"),
        "{}",
        joined(&errors)
    );
}
