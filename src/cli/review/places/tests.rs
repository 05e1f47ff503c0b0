use rstest::rstest;
use serde_json::json;

use super::*;

fn find(text: &str, path: &str) -> Place {
    let document = Document {
        line: 1,
        first: 7,
        text: text.to_owned(),
    };
    let object: Value = serde_saphyr::from_str(text).unwrap();
    let places = Places::of(&document);
    let place = places.object(&[], ("", "Pod"), &object).unwrap().find(path);
    place.unwrap()
}

#[rstest]
#[case::fields("a.b.c", &["a", "b", "c"])]
#[case::label("metadata.labels[ringfence.dev/workflow]", &["metadata", "labels", "ringfence.dev/workflow"])]
#[case::quoted("data[\"a.b\"].c", &["data", "a.b", "c"])]
#[case::nothing("", &[])]
fn paths_are_steps(#[case] path: &str, #[case] expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|field| Step::Field((*field).to_owned())).collect();
    assert_eq!(steps(path), expected);
    let items = [
        Step::Field("a".to_owned()),
        Step::Item(3),
        Step::Item(0),
        Step::Field("b".to_owned()),
    ];
    assert_eq!(steps("a[3][0].b"), items);
}

const TEXT: &str = "kind: Pod\nspec:\n  containers:\n  - name: c\n    image: x/y:1\n  - {name: d, image: z}\n";

#[rstest]
#[case::there("spec.containers[0].image", (11, 5), "    image: x/y:1", (4, 6))]
#[case::in_a_flow("spec.containers[1].image", (12, 15), "  - {name: d, image: z}", (14, 6))]
#[case::above_what_is_not_there("spec.containers[0].securityContext.privileged", (10, 5), "  - name: c", (4, 5))]
#[case::nowhere("status.phase", (7, 1), "kind: Pod", (0, 5))]
#[case::the_object("", (7, 1), "kind: Pod", (0, 5))]
fn fields_are_found(
    #[case] path: &str,
    #[case] at: (u32, u32),
    #[case] line: &str,
    #[case] (before, long): (usize, usize),
) {
    let place = find(TEXT, path);
    let shown = place.shown.unwrap();
    assert_eq!((place.line, place.column), at);
    assert_eq!((shown.text.as_str(), shown.before, shown.long), (line, before, long));
}

#[test]
fn of_a_long_line_the_place_is_shown() {
    let text =
        json!({"kind": "Pod", "metadata": {"labels": {"a": "b".repeat(200)}}, "spec": {"nodeName": "n"}}).to_string();
    let shown = find(&text, "spec.nodeName").shown.unwrap();
    let marked: String = shown.text.chars().skip(shown.before).take(10).collect();
    assert!(shown.text.starts_with('…') && marked == "\"nodeName\"", "{shown:?}");
}
