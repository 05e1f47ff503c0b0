//! Policies that are good, and sets that do not fit together.

use ringfence::policy::{PolicyInput, Target};

use super::*;

const GOOD: &str = "deny contains \"x\" if input.request.bad";

#[test]
fn the_shipped_policies_pass_and_stay_what_they_are() {
    let vetted = compile(PolicySet::embedded_sources()).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
    let embedded = PolicySet::embedded(&BTreeMap::new()).expect("the shipped policies load");
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

/// Each is quick enough by itself; a review has to wait for all of them.
#[test]
fn policies_that_are_slow_together_are_refused() {
    let numbers: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let loops = format!(
        "l := [{}]\ndeny contains \"x\" if count([1 | some a in l; some b in l; some c in l; a + b + c == -1]) > 0",
        numbers.join(",")
    );
    let one = PolicySet::compile(vec![policy("slow", &loops)], &BTreeMap::new()).expect("it is good");
    let request = serde_json::json!({});
    let input = PolicyInput {
        target: Target::Pod,
        request: &request,
        pod: None,
        workflow: None,
        class: None,
        engine: None,
        namespace: None,
    };
    let took = (0..5).map(|_| one.evaluate(&input, Duration::from_secs(20))[0].duration);
    // Ten times what it takes is enough for each, even where the machine is busy, and too little for a third of them all.
    let bounds = Bounds {
        cpu: Duration::from_secs(30),
        sample: took.min().expect("five") * 10,
        ..bounds()
    };
    let vetting = Vetting::with(PathBuf::from(env!("CARGO_BIN_EXE_ringfence")), bounds);
    let sources = (0..60)
        .map(|number| policy(&format!("slow-{number}"), &loops))
        .collect();
    let said = joined(&vetting.compile(sources, &BTreeMap::new()).expect_err("too slow"));
    assert!(
        said.contains("there was no time left for it on an ordinary Pod"),
        "{said}"
    );
}
