use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn read(text: &[u8]) -> Vec<Result<(u32, Value), (u32, String)>> {
    let documents = Documents::new(text, 1 << 30);
    let told = |problem: Problem| (problem.line, problem.message);
    documents
        .map(|document| {
            let document = document.map_err(told)?;
            Ok((document.line, parse(&document).map_err(told)?))
        })
        .collect()
}

#[rstest]
#[case::one("a: 1\n", &[(1, json!({"a": 1}))])]
#[case::without_an_end("a: 1", &[(1, json!({"a": 1}))])]
#[case::two("a: 1\n---\na: 2\n", &[(1, json!({"a": 1})), (3, json!({"a": 2}))])]
#[case::of_windows("a: 1\r\n---\r\na: 2\r\n", &[(1, json!({"a": 1})), (3, json!({"a": 2}))])]
#[case::with_a_mark("\u{feff}a: 1\n", &[(1, json!({"a": 1}))])]
#[case::mark_before_the_border("\u{feff}---\na: 1\n", &[(2, json!({"a": 1}))])]
#[case::helm("---\n# Source: c/templates/a.yaml\na: 1\n---\n# Source: c/templates/empty.yaml\n---\n# Source: c/templates/b.yaml\n\na: 2\n",
    &[(3, json!({"a": 1})), (9, json!({"a": 2}))])]
#[case::nothing("\n# only words\n---\n---\n", &[])]
#[case::on_the_border("--- {a: 1}\n--- # words\na: 2\n", &[(1, json!({"a": 1})), (3, json!({"a": 2}))])]
#[case::ends("a: 1\n...\n# words\n---\na: 2\n...\n", &[(1, json!({"a": 1})), (5, json!({"a": 2}))])]
#[case::directive("%YAML 1.2\n---\na: 1\n", &[(3, json!({"a": 1}))])]
#[case::border_in_a_text("a: |\n  x\n  ---\n  y\nb: 1\n", &[(1, json!({"a": "x\n---\ny\n", "b": 1}))])]
#[case::longer_dashes("a: b\n ---- c\n", &[(1, json!({"a": "b ---- c"}))])]
#[case::json("{\"a\": 1}", &[(1, json!({"a": 1}))])]
#[case::json_lines("{\"a\": \"}{\"}\n{\"a\": \"\\\"{\"}\n\n{\"a\": 3}\n",
    &[(1, json!({"a": "}{"})), (2, json!({"a": "\"{"})), (4, json!({"a": 3}))])]
#[case::json_behind_a_mark("\u{feff}\n {\"a\": 1}\n{\"a\": 2}\n", &[(2, json!({"a": 1})), (3, json!({"a": 2}))])]
#[case::json_one_after_the_other("{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n", &[(1, json!({"a": 1})), (4, json!({"a": 2}))])]
fn documents_are_told_apart(#[case] text: &str, #[case] expected: &[(u32, Value)]) {
    let expected: Vec<_> = expected.iter().cloned().map(Ok).collect();
    assert_eq!(read(text.as_bytes()), expected);
}

/// The last row of each is a good document: what is broken costs itself alone.
#[rstest]
#[case::no_yaml(b"a: [\n---\nb: 1\n", 2, "this is no YAML")]
#[case::half_written(b"a: 1\nb: {c\n---\nb: 1\n", 3, "this is no YAML")]
#[case::tab(b"a:\n\tb: 1\n---\nb: 1\n", 2, "this is no YAML")]
#[case::twice(b"a: 1\nx: 1\na: 2\n---\nb: 1\n", 3, "duplicate")]
#[case::no_utf8(b"a: 1\nx: \xff\n---\nb: 1\n", 2, "no UTF-8")]
#[case::alias_of_nothing(b"a: *x\n---\nb: 1\n", 1, "this is no YAML")]
fn a_broken_document_is_named_by_its_line(#[case] text: &[u8], #[case] line: u32, #[case] words: &str) {
    let read = read(text);
    let [Err((at, said)), Ok((_, good))] = read.as_slice() else {
        panic!("{read:?}");
    };
    assert!(at.abs_diff(line) <= 1 && said.contains(words), "{at}: {said}");
    assert_eq!(*good, json!({"b": 1}));
}

#[test]
fn aliases_that_repeat_each_other_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", ")));
    }
    text.push_str("---\nb: 1\n");
    let read = read(text.as_bytes());
    assert!(
        matches!(&read[0], Err((_, said)) if said.contains("no YAML")),
        "{read:?}"
    );
    assert_eq!(read[1], Ok((12, json!({"b": 1}))));
}

#[test]
fn aliases_as_people_use_them_are_read() {
    let read = read(b"a: &a {x: 1}\nb: *a\nc: {<<: *a, z: 2}\n");
    assert_eq!(
        read,
        [Ok((1, json!({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "z": 2}})))]
    );
}

/// What ends a line for kubectl begins a field there, or takes the rest of a text away.
#[rstest]
#[case::in_a_comment("a: 1\n# x\u{2028}b: 2\n", 2, 4)]
#[case::behind_a_value("a: 1 # x\u{85}b: 2\n", 1, 9)]
#[case::in_a_block("a: |\n  x\u{2029}b: 2\n", 2, 4)]
#[case::in_quotes("a: \"x\u{2028}y\"\n", 1, 6)]
#[case::in_a_document_of_comments("c: 1\n---\n# x\u{2028}b: 2\n", 3, 4)]
#[case::on_the_border("--- # x\u{2028}b: 2\n", 1, 8)]
#[case::behind_the_end("...  # x\u{2028}b: 2\n", 1, 9)]
#[case::in_a_directive("%YAML 1.2 # x\u{85}b: 2\n", 1, 14)]
#[case::in_json_behind_a_border("{\"c\": 1}\n---\n{\"a\": \"x\u{2028}y\"}\n", 3, 9)]
fn what_ends_a_line_for_kubectl_alone_is_refused(#[case] text: &str, #[case] line: u32, #[case] column: u32) {
    for found in ['\u{85}', '\u{2028}', '\u{2029}'] {
        let text = text.replace(['\u{85}', '\u{2028}', '\u{2029}'], &found.to_string());
        let problems: Vec<_> = Documents::new(text.as_bytes(), 1 << 20)
            .filter_map(|document| document.and_then(|document| parse(&document)).err())
            .collect();
        let [problem] = problems.as_slice() else {
            panic!("{text:?}: {problems:?}");
        };
        let code = format!("U+{:04X}", u32::from(found));
        assert_eq!((problem.line, problem.column), (line, Some(column)), "{problem}");
        assert!(problem.message.contains(&code), "{problem}");
    }
}

#[rstest]
#[case::json("{\"a\": \"x\u{2028}y\u{85}\"}\n")]
#[case::json_of_returns("{\r\"a\": 1}\r")]
#[case::escaped("a: \"x\\u2028y\\L\\N\\r\"\r\n")]
#[case::others("a: x\u{a0}\u{3000}y # z\u{200b}\n")]
fn what_ends_no_line_for_kubectl_is_read(#[case] text: &str) {
    assert!(matches!(read(text.as_bytes()).as_slice(), [Ok(_)]), "{text:?}");
}

#[rstest]
#[case::behind_its_key("a: 1\n<<: {a: 2}\n", 2, "merges a too")]
#[case::in_a_flow("x: {a: 1, <<: {a: 2}}\n", 1, "merges a too")]
#[case::by_an_alias("x: &x {b: 1, a: 2}\nz:\n- a: 1\n  c: 1\n  <<: *x\n", 5, "merges a too")]
#[case::of_a_list("x: {a: 1, <<: [{b: 1}, {a: 2}]}\n", 1, "merges a too")]
#[case::of_what_merges_itself("x: {a: 1, <<: {<<: {a: 2}}}\n", 1, "merges a too")]
#[case::twice("x: {<<: {a: 1}, <<: {a: 2}}\n", 1, "duplicate")]
#[case::by_its_tag("x: {a: 1, !!merge \"\\x3c<\": {a: 2}}\n", 1, "knows other tags")]
#[case::in_a_key("? {a: 1, <<: {a: 2}}\n: 1\n", 1, "")]
#[case::by_another_tag("x: {! \"<<\": {a: 2}, a: 1}\n", 1, "knows other tags")]
#[case::in_quotes("x: {\"<<\": {a: 2}, b: 1}\n", 1, "in quotes may be")]
#[case::as_a_text("x: {!!str <<: {a: 2}, a: 1}\n", 1, "knows other tags")]
#[case::key_by_an_alias("x: {k: &k <<, *k : {a: 2}}\n", 1, "by an alias")]
fn a_merge_key_that_wins_for_kubectl_is_refused(#[case] text: &str, #[case] line: u32, #[case] words: &str) {
    let read = read(format!("{text}---\nb: 1\n").as_bytes());
    let [Err((at, said)), Ok(_)] = read.as_slice() else {
        panic!("{read:?}");
    };
    assert!(*at == line && said.contains(words), "{at}: {said}");
}

/// kubectl tells keys apart by their texts, and what looks for a key that is there twice by their tags too.
#[rstest]
#[case::merged("x:\n  <<: {!x a: 1}\n  a: 2\n", 2)]
#[case::behind_the_merge("x:\n  <<: {a: 1}\n  !x a: 2\n", 3)]
#[case::merged_of_a_list("<<: [{!x a: 1}, {a: 2}]\n", 1)]
#[case::of_bytes("<<: {!!binary YQ==: 1}\na: 2\n", 1)]
#[case::twice("a: 1\n!x a: 2\n", 2)]
#[case::in_full("a: 1\n!<tag:example.com,2026:x> a: 2\n", 2)]
#[case::in_front_of_an_anchor("a: 1\n!x &k a: 2\n", 2)]
#[case::behind_an_anchor("a: 1\n&k !x a: 2\n", 2)]
#[case::by_an_alias("k: &k !x a\nz:\n  a: 1\n  *k : 2\n", 1)]
#[case::in_a_list("x:\n- b: 1\n- !x a: 2\n", 3)]
fn a_key_with_a_tag_is_refused(#[case] text: &str, #[case] line: u32) {
    let read = read(format!("{text}---\nb: 1\n").as_bytes());
    let [Err((at, said)), Ok(_)] = read.as_slice() else {
        panic!("{read:?}");
    };
    assert!(*at == line && said.contains("knows other tags"), "{at}: {said}");
}

/// Who looks for borders in lines would pass over what follows it.
#[rstest]
#[case::in_a_document_of_comments("c: 1\n---\n# x\rb: 2\n", 3, 4)]
#[case::alone("# x\rb: 2\n", 1, 4)]
#[case::behind_the_end("...  # x\rb: 2\n", 1, 9)]
#[case::on_the_border("--- # x\rb: 2\n", 1, 8)]
#[case::in_a_directive("%YAML 1.1 # x\rb: 2\n", 1, 14)]
#[case::in_front("\r# x\n", 1, 1)]
#[case::of_two("a: 1\r\r\n", 1, 5)]
#[case::in_a_text("a: \"x\ry\"\n", 1, 6)]
fn a_carriage_return_alone_is_refused(#[case] text: &str, #[case] line: u32, #[case] column: u32) {
    let problems: Vec<_> = Documents::new(text.as_bytes(), 1 << 20)
        .filter_map(|document| document.and_then(|document| parse(&document)).err())
        .collect();
    let [problem] = problems.as_slice() else {
        panic!("{text:?}: {problems:?}");
    };
    assert_eq!((problem.line, problem.column), (line, Some(column)), "{problem}");
    assert!(problem.message.contains("a carriage return"), "{problem}");
}

#[rstest]
#[case::first("x: {<<: {a: 1, b: 1}, a: 2}\n", json!({"x": {"a": 2, "b": 1}}))]
#[case::behind_other_keys("x: {c: 3, <<: {a: 1}, a: 2}\n", json!({"x": {"a": 2, "c": 3}}))]
#[case::of_a_list("x: {<<: [{a: 1}, {a: 2, b: 2}]}\n", json!({"x": {"a": 1, "b": 2}}))]
#[case::in_a_text("x: |\n  cat <<EOF\n  a: 1\nz: '<<'\n", json!({"x": "cat <<EOF\na: 1\n", "z": "<<"}))]
fn a_merge_key_that_is_read_alike_is_read(#[case] text: &str, #[case] expected: Value) {
    assert_eq!(read(text.as_bytes()), [Ok((1, expected))]);
}

#[rstest]
#[case::yaml("[".repeat(10_000))]
#[case::json("{\"a\":".repeat(10_000))]
fn what_nests_too_deeply_is_refused(#[case] text: String) {
    let read = read(format!("{text}\n---\nb: 1\n").as_bytes());
    assert!(matches!(&read[0], Err((1, _))), "{read:?}");
    assert_eq!(read[1], Ok((3, json!({"b": 1}))));
}

#[rstest]
#[case::lines("x: y\n".repeat(MAX_DOCUMENT / 4))]
#[case::one_line(format!("x: {}\n", "y".repeat(3 * MAX_DOCUMENT)))]
fn a_document_that_is_too_long_costs_itself(#[case] text: String) {
    let read = read(format!("a: 1\n---\n{text}---\nb: 1\n").as_bytes());
    assert_eq!(read.len(), 3, "{read:?}");
    assert!(
        matches!(&read[1], Err((3, said)) if said.contains("split it")),
        "{:?}",
        read[1]
    );
    assert!(read[2].is_ok(), "{:?}", read[2]);
}

#[test]
fn what_comes_after_the_last_byte_that_is_read_is_said_to_be_left_out() {
    let text = "a: 1\n---\nb: 1\n---\nc: 1\n";
    let read: Vec<_> = Documents::new(text.as_bytes(), 12).collect();
    assert_eq!(read.len(), 2, "{read:?}");
    assert!(read[0].as_ref().is_ok_and(|document| document.line == 1));
    assert!(
        read[1]
            .as_ref()
            .is_err_and(|problem| problem.message.contains("more than 12 bytes"))
    );
    let all: Vec<_> = Documents::new(text.as_bytes(), text.len() as u64).collect();
    assert!(all.len() == 3 && all.iter().all(Result::is_ok), "{all:?}");
}

#[test]
fn another_encoding_is_named() {
    let text: Vec<u8> = "\u{feff}a: 1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(&text), [Err((1, "this is UTF-16: save it as UTF-8".to_owned()))]);
}

/// A source that fails after its first bytes.
struct Failing(Option<&'static [u8]>);

impl io::Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(bytes) = self.0.take() else {
            return Err(io::Error::other("gone"));
        };
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

#[test]
fn what_was_read_of_a_source_that_fails_is_whole_or_nothing() {
    let source = io::BufReader::new(Failing(Some(b"a: 1\n---\nb:\n- 1\n")));
    let read: Vec<_> = Documents::new(source, 1 << 20).collect();
    assert_eq!(read.len(), 2, "{read:?}");
    assert!(read[0].is_ok());
    assert!(
        read[1]
            .as_ref()
            .is_err_and(|problem| problem.message.starts_with("cannot be read"))
    );
}

/// To kubectl, these keys are words or numbers, and two of them may be one.
#[rstest]
#[case::words("x: {a: 1, yes: 2}", "true for kubectl")]
#[case::short("x:\n  y: 2", "true for kubectl")]
#[case::off("x: {OFF: 2}", "false for kubectl")]
#[case::large("x: {TRUE: 2}", "true for kubectl")]
#[case::nothing("x: {~: 2}", "")]
#[case::base("x: {0x10: 2}", "a number")]
#[case::octal("x: {010: 2}", "a number")]
#[case::zeros("x: {00: 2}", "a number")]
#[case::underscore("x: {1_000: 2}", "a number")]
#[case::behind_a_point("x: {.5_0: 2}", "a number")]
#[case::trailing_zero("x: {1.50: 2}", "a number")]
#[case::long("x: {1.23456789: 2}", "a number")]
#[case::exponent("x: {1e3: 2}", "a number")]
#[case::sign("x: {+1: 2}", "a number")]
#[case::infinite("x: {-.Inf: 2}", "a number")]
#[case::large_number("x: {9223372036854775808: 2}", "a number")]
#[case::explicit("? yes\n: 1", "true for kubectl")]
#[case::in_a_list("x:\n- yes: 1", "true for kubectl")]
#[case::by_an_alias("x: [&k yes]\n*k : 1", "true for kubectl")]
#[case::twice("x: {1: a, \"1\": b}", "two keys")]
#[case::twice_by_an_alias("x: [&k '1']\nz: {1: a, *k : b}", "two keys")]
#[case::twice_merged("x: {<<: {1: a}, '1': b}", "two keys")]
#[case::flow("x: {a:}", "blank behind the colon")]
#[case::flow_with_a_blank("x: {a :, b: c}", "blank behind the colon")]
#[case::flow_list("x: [a:, b]", "blank behind the colon")]
#[case::question("x: {?b: c}", "question mark")]
fn a_key_that_kubectl_reads_otherwise_is_refused(#[case] text: &str, #[case] words: &str) {
    refused(text, words);
}

#[rstest]
#[case::octal("x: 0120", "another number")]
#[case::octal_of_a_sign("x: [-010]", "another number")]
#[case::zero("x: 0_7", "another number")]
#[case::twice("x: 1__0", "another number")]
#[case::at_the_end("x: 1_", "another number")]
#[case::base("x: 0x_1", "another number")]
#[case::behind_a_point("x: 0.1_1", "another number")]
#[case::mixed_case("x: tRUE", "this word")]
#[case::anchored("x: &x 010\ny: *x", "another number")]
fn a_value_that_kubectl_reads_otherwise_is_refused(#[case] text: &str, #[case] words: &str) {
    refused(text, words);
}

/// kubectl ends a tag at a blank alone, also in a flow, and has another list of them; and the name of an anchor at what is no letter.
#[rstest]
#[case::of_ones_own("x: !x abc")]
#[case::whole("x: !<tag:example.com,2026:x> 1.5")]
#[case::of_a_text("x: !!str 010")]
#[case::of_a_number("x: !!float '010'")]
#[case::of_bytes("x: !!binary aGVsbG8=")]
#[case::of_a_key("x: {!!str a: b}")]
#[case::of_none("x: ! yes")]
#[case::like_nothing("x: !null \"a\"")]
#[case::like_nothing_in_percents("x: !%6eull \"a\"")]
#[case::like_nothing_whole("x: !<!null> \"a\"")]
#[case::like_nothing_in_a_block("x: !null |\n  a")]
#[case::like_nothing_by_an_alias("x: &a !null \"a\"\ny: *a")]
#[case::of_a_list("x: !seq [a]")]
#[case::of_a_map("x: !!map {a: b}")]
#[case::up_to_a_comma("x: {a: 1, !!str,b \"c\": true}")]
#[case::up_to_a_comma_in_a_list("x: [!, z]")]
#[case::up_to_a_comma_behind_a_key("x: {a: !,b: c}")]
#[case::before_a_colon("x: [!!str :z]")]
fn a_tag_is_refused(#[case] text: &str) {
    refused(text, "knows other tags");
}

#[test]
fn a_tag_of_a_directive_is_refused() {
    let read = read(b"%TAG !e! tag:example.com,2026:\n---\nx: !e!a b");
    let [Err((3, said))] = read.as_slice() else {
        panic!("{read:?}");
    };
    assert!(said.contains("knows other tags"), "{said}");
}

#[rstest]
#[case::colon("x: &x:y c", "this anchor ends elsewhere")]
#[case::question("x: &x?y \"c\"", "this anchor ends elsewhere")]
#[case::of_a_key("x:\n  &x:z b: c", "this anchor ends elsewhere")]
#[case::of_an_alias("x: &x a\ny: *x:z", "unknown anchor")]
#[case::letter_of_another_alphabet("x: &\u{e4} c", "this anchor ends elsewhere")]
fn an_anchor_that_kubectl_ends_elsewhere_is_refused(#[case] text: &str, #[case] words: &str) {
    refused(text, words);
}

fn refused(text: &str, words: &str) {
    let read = read(format!("{text}\n---\nb: 1\n").as_bytes());
    let [Err((at, said)), Ok(_)] = read.as_slice() else {
        panic!("{text}: {read:?}");
    };
    assert!(*at <= 2 && said.contains(words), "{text}: {at}: {said}");
}

#[rstest]
#[case::keys("x: {1: a, -1: b, 1.5: c, true: d, 'yes': e, \"010\": f, 1.2.3: g, 2026-11-29: h, ya: i}",
    json!({"1": "a", "-1": "b", "1.5": "c", "true": "d", "yes": "e", "010": "f", "1.2.3": "g", "2026-11-29": "h", "ya": "i"}))]
#[case::in_two_maps("x: {a: {1: a}, b: {'1': b}}", json!({"a": {"1": "a"}, "b": {"1": "b"}}))]
#[case::words("x: [yes, Off, TRUE, null, ~, y]", json!([true, false, true, null, null, true]))]
#[case::numbers("x: [8080, 1.10, 0x1F, 0o17, 1_000, 1e3, -5, +5, .5, 0, 0.0]",
    json!([8080, 1.10, 31, 15, 1000, 1e3, -5, 5, 0.5, 0, 0.0]))]
#[case::texts("x: [1.2.3, 10.0.0.0/8, 2026-11-29, 100m, 1:30, '010', \"0_7\", _1, a_1, --- 1, -x, ...]",
    json!(["1.2.3", "10.0.0.0/8", "2026-11-29", "100m", "1:30", "010", "0_7", "_1", "a_1", "--- 1", "-x", "..."]))]
#[case::marks_in_texts("x: [a!b, 'a & b', \"*\", a*b&c, &a-b_1 c, *a-b_1]", json!(["a!b", "a & b", "*", "a*b&c", "c", "c"]))]
#[case::flow("x: {\"a\":, b: , c: {d: 1}, e}", json!({"a": null, "b": null, "c": {"d": 1}, "e": null}))]
#[case::in_a_block("x: |\n  yes: {a:}\n  010\n", json!("yes: {a:}\n010\n"))]
fn what_kubectl_reads_alike_is_read(#[case] text: &str, #[case] expected: Value) {
    assert_eq!(read(text.as_bytes()), [Ok((1, json!({"x": expected})))]);
}

/// kubectl reads the first document alone of what no `---` parts, but for JSON from the start.
#[rstest]
#[case::behind_the_end("a: 1\n...\nb: 2\n", 3)]
#[case::behind_comments("a: 1\n...\n# words\n\nb: 2\nc: 3\n", 5)]
#[case::behind_two_ends("a: 1\n...\n...\nb: 2\n", 4)]
#[case::second_value("# words\n{\"a\": 1}\n{\"b\": 2}\n{\"c\": 3}\n", 3)]
#[case::second_value_behind_a_border("---\n{\"a\": 1}\n{\"b\": 2}\n", 3)]
fn what_no_border_parts_is_refused(#[case] text: &str, #[case] line: u32) {
    let read = read(format!("{text}---\nd: 1\n").as_bytes());
    let [Ok((_, first)), Err((at, said)), Ok((_, last))] = read.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!((first, last, *at), (&json!({"a": 1}), &json!({"d": 1}), line));
    assert!(said.contains("write --- in front of it"), "{said}");
}

#[test]
fn what_a_border_parts_behind_an_end_is_read() {
    let text = b"# words\n...\n---\na: 1\n...\n%YAML 1.1\n---\na: 2\n";
    assert_eq!(read(text), [Ok((4, json!({"a": 1}))), Ok((8, json!({"a": 2})))]);
}
