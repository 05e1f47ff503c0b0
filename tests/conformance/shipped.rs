//! The shipped policies under the real OPA: each of their tests passes there too.

use ringfence::policy::PolicySet;
use serde_json::{Value, json};
use support::opa::{Answer, Opa};

#[test]
fn every_rego_test_passes_under_opa() {
    let sources = PolicySet::embedded_sources();
    let mut opa = Opa::start().expect("OPA starts");
    let mut passed = 0;
    for tests in sources.iter().filter(|source| source.file.ends_with("_test.rego")) {
        let file = tests.file.replace("_test.rego", ".rego");
        let policy = sources.iter().find(|source| source.file == file).expect("its policy");
        let package = tests
            .text
            .lines()
            .find_map(|line| line.strip_prefix("package "))
            .expect("a package");
        let modules = json!({"policy.rego": policy.text, "policy_test.rego": tests.text});
        let answer = opa.ask_all(&modules, false, &json!({}), &format!("data.{package}"));
        let Ok(Answer::Value(Value::Object(rules))) = answer else {
            panic!("{}: {answer:?}", tests.file)
        };
        for line in tests.text.lines().filter(|line| line.starts_with("test_")) {
            let name = line.split([' ', ':']).next().expect("a name");
            assert_eq!(rules.get(name), Some(&json!(true)), "{} {name}", tests.file);
            passed += 1;
        }
    }
    assert!(passed > 100, "only {passed} tests were found");
}
