//! Policies that the vet must pass and, more of them, those that it must not.

use super::*;
use crate::policy::compile::{Like, Source, add, new_engine};
use crate::policy::metadata::RegoVersion;
use crate::policy::rewrite::Origins;
use rstest::rstest;

fn vet_as(text: &str, version: RegoVersion) -> Result<Vec<EntryPoint>, String> {
    let source = Source {
        file: "p.rego".to_owned(),
        text: text.to_owned(),
    };
    let mut engine = new_engine("p.rego").expect("engine");
    let mut origins = Origins::default();
    let like = Like {
        version,
        purpose: Purpose::Policy,
        inventory: false,
    };
    match add(&mut engine, &[source], like, &mut origins) {
        Ok(module) => Ok(module.vetted.entry_points.into_iter().map(|(entry, _)| entry).collect()),
        Err(errors) => Err(errors.iter().map(LoadError::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn vet_text(text: &str) -> Result<Vec<EntryPoint>, String> {
    vet_as(text, RegoVersion::V1)
}

#[test]
fn every_entry_point_is_found() {
    let text = "package p\ndeny contains \"x\" if input.x\nviolation contains {\"msg\": \"x\"} if input.y\n\
                warn contains \"x\" if input.z\ndefault allow := false\nallow if input.w\n";
    assert_eq!(vet_text(text), Ok(EntryPoint::ALL.to_vec()));
    let v0 = "package p\ndeny[msg] { msg := \"x\" }\nviolation[{\"msg\": msg}] { msg := \"x\" }\nwarn[msg] { msg := \"x\" }\nallow { true }\n";
    assert_eq!(vet_as(v0, RegoVersion::V0), Ok(EntryPoint::ALL.to_vec()));
}

#[rstest]
#[case::none("package p\nrefuse contains \"x\" if input.x\n", "`violation`")]
#[case::empty("package p\n", "no rule gives a verdict")]
#[case::deny_is_both("package p\ndeny := {\"x\"} if input.x\ndeny contains \"y\"\n", "`deny`")]
#[case::deny_is_an_object("package p\ndeny[msg] if { msg := \"x\" }\n", "`deny` must be a set")]
#[case::deny_is_a_function("package p\ndeny(x) := \"x\"\n", "`deny` must be a set")]
#[case::allow_is_a_set("package p\nallow contains \"x\" if input.x\n", "`allow` must be a boolean")]
fn a_policy_without_a_usable_entry_point_is_refused(#[case] text: &str, #[case] words: &str) {
    let error = vet_text(text).expect_err("must be refused");
    assert!(error.contains(words), "{error}");
}

#[rstest]
#[case::function("f(x) := f(x - 1)\n", "f -> f")]
#[case::mutual("a if b\nb if a\n", "a -> b -> a")]
#[case::through_the_package("a if data.p.b\nb if a\n", "recursion")]
#[case::through_brackets("a if data[\"p\"][\"b\"]\nb if a\n", "recursion")]
#[case::through_an_import("a if b\nb if q\n", "recursion")]
#[case::through_a_head("f(x) := {\"a\": f(x)}\n", "recursion")]
#[case::through_a_key("s contains f(1)\nf(x) := s\n", "recursion")]
#[case::through_a_default("default a := 1\na := [b][0]\nb := a\n", "recursion")]
#[case::through_with("f(x) := 1\ng(x) := y if { y := h(x) with f as g }\nh(x) := f(x)\n", "recursion")]
#[case::through_else("a := 1 if input.x\nelse := b\nb := a\n", "recursion")]
#[case::through_a_comprehension("a := [x | some x in b]\nb := a\n", "recursion")]
#[case::through_every("a if every x in input.x { b }\nb if a\n", "recursion")]
fn recursion_is_refused(#[case] rules: &str, #[case] words: &str) {
    let text = format!("package p\nimport data.p.a as q\ndeny contains \"x\" if input.x\n{rules}a if false\n");
    let text = if rules.contains(" q") {
        text
    } else {
        text.replace("import data.p.a as q\n", "")
    };
    let error = vet_text(&text).expect_err("must be refused");
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_long_chain_of_functions_is_refused() {
    let chain: String = (0..3000).map(|i| format!("f{i}(x) := f{}(x)\n", i + 1)).collect();
    let error =
        vet_text(&format!("package p\ndeny contains f0(1)\n{chain}f3000(x) := x\n")).expect_err("must be refused");
    assert!(error.contains("deep"), "{error}");
}

#[rstest]
#[case::unknown("x := no.such(1)", "p.rego:3:")]
#[case::misspelt("x := startwith(\"a\", \"b\")", "startwith")]
#[case::http("x := http.send({})", "another server")]
#[case::http_in_brackets("x := http[\"send\"]({})", "another server")]
#[case::jwt("x := io.jwt.verify_hs256(\"a\", \"k\")", "no built-in function")]
#[case::range("x := numbers.range(1, 200000000)", "memory")]
#[case::runtime("x := opa.runtime()", "environment")]
#[case::clock("x := time.now_ns()", "same answer")]
#[case::print("x if print(input)", "log")]
#[case::other_package("x := data.other.y", "would never fire")]
#[case::inventory("x := data.inventory.cluster", "would never fire")]
#[case::all_of_data("x := data", "would never fire")]
#[case::any_of_data("x := data[input.y]", "would never fire")]
#[case::missing_rule("x := data.p.y", "no rule `y`")]
fn what_is_not_there_is_refused(#[case] rule: &str, #[case] words: &str) {
    let error = vet_text(&format!("package p\ndeny contains \"x\" if input.x\n{rule}\n")).expect_err("must be refused");
    assert!(error.contains(words), "{error}");
}

#[rstest]
#[case::in_the_head("deny contains x if input.y")]
#[case::in_an_object_of_the_head("deny contains {\"msg\": x} if input.y")]
#[case::in_a_call_of_the_head("deny contains upper(x) if input.y")]
#[case::in_the_body("deny contains \"x\" if x == 1")]
#[case::in_a_call("deny contains \"x\" if startswith(x, \"a\")")]
#[case::negated("deny contains \"x\" if not x")]
#[case::in_a_comparison("deny contains \"x\" if input.y > x")]
#[case::in_a_comprehension("deny contains \"x\" if count([1 | x > 1]) > 0")]
#[case::in_a_comprehension_of_the_head("deny contains [x | input.z] if input.y")]
#[case::in_a_comprehension_of_the_body("deny contains \"x\" if count([x | input.z]) > 0")]
#[case::only_inside_a_comprehension("deny contains x if count([x | some x in input.z]) > 0")]
#[case::in_a_function("deny contains f(1) if input.y\nf(a) := x")]
#[case::in_else("deny contains \"x\" if g == 1\ng := 1 if input.y\nelse := x")]
#[case::in_a_negated_call("deny contains \"x\" if not startswith(x, \"a\")")]
fn a_variable_without_a_value_is_refused(#[case] rules: &str) {
    let source = Source {
        file: "p.rego".to_owned(),
        text: format!("package p\n{rules}\n"),
    };
    let plain = crate::policy::set::Plain {
        name: "p".to_owned(),
        target: crate::policy::metadata::Target::Pod,
        rego: RegoVersion::V1,
    };
    let loaded = crate::policy::set::PolicySet::compile_plain(vec![(plain, source)], &BTreeMap::new());
    assert!(loaded.is_err(), "{rules} was loaded");
}

#[test]
fn functions_and_imports_of_the_own_package_are_fine() {
    let text = "package p[\"q-r\"]\nimport rego.v1\nimport input.request as request\n\
                deny contains f(request.name) if data.p[\"q-r\"].g\nf(x) := sprintf(\"%s\", [x])\ng if input.y\n";
    assert_eq!(vet_text(text), Ok(vec![EntryPoint::Deny]));
}
