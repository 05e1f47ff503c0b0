//! Whatever the input is: what is broken is named by file and line, the rest is reviewed, and the exit code is 2.

use std::io::Write as _;

use rstest::rstest;

use super::{Files, NAMESPACE, POD, WORKFLOW};

const GOOD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n";

/// Each in front of a good document, which is reviewed all the same.
#[rstest]
#[case::no_yaml("a: [\n", "DIR/m.yaml:1:4: ", "unclosed bracket")]
#[case::half_written("apiVersion: v1\nkind: Pod\nmetadata: {na", "DIR/m.yaml:3", "this is no YAML")]
#[case::duplicate_keys(
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {}\ndata: {x: y}\n",
    "DIR/m.yaml:5",
    "duplicate"
)]
#[case::a_list("- apiVersion: v1\n", "DIR/m.yaml:1", "this is no Kubernetes object, but a list")]
#[case::a_text("words\n", "DIR/m.yaml:1", "this is no Kubernetes object, but one value")]
#[case::no_kind(
    "apiVersion: v1\nmetadata: {name: a}\n",
    "DIR/m.yaml:1",
    "it needs apiVersion and kind"
)]
#[case::no_version("kind: Pod\nmetadata: {name: a}\n", "DIR/m.yaml:1", "it needs apiVersion and kind")]
#[case::no_metadata("apiVersion: v1\nkind: Pod\n", "DIR/m.yaml:2", "Pod: metadata.name is missing")]
#[case::no_name(
    "apiVersion: v1\nkind: Pod\nmetadata: {labels: {}}\n",
    "DIR/m.yaml:2",
    "Pod: metadata.name is missing"
)]
#[case::a_number_as_name(
    "apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n",
    "DIR/m.yaml:2",
    "put it in quotes"
)]
#[case::a_list_without_items("apiVersion: v1\nkind: List\n", "DIR/m.yaml:1", "a List has items")]
#[case::a_broken_item(
    "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n",
    "DIR/m.yaml:5",
    "metadata.name is missing"
)]
#[case::a_line_of_kubectls_own(
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: # nothing\u{85}  hostNetwork: true\n",
    "DIR/m.yaml:4:16",
    "write \\u0085 in double quotes"
)]
#[case::a_merge_key_that_wins(
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: false, <<: {hostNetwork: true}}\n",
    "DIR/m.yaml:4:28",
    "<< merges hostNetwork too"
)]
#[case::a_document_behind_a_comment(
    "# see docs\rapiVersion: v1\rkind: Pod\rmetadata: {name: evil}\rspec: {hostNetwork: true, containers: [{name: a, image: b}]}\n",
    "DIR/m.yaml:1:11",
    "a carriage return"
)]
#[case::a_key_with_a_tag(
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {<<: {!x hostNetwork: false}, hostNetwork: true}\n",
    "DIR/m.yaml:4:13",
    "kubectl knows other tags"
)]
#[case::items_of_no_list(
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: true}}]\n",
    "DIR/m.yaml:1",
    "kubectl applies those and not this"
)]
#[case::items_of_a_chart(
    "apiVersion: v2\nname: chart\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: true}}]\n",
    "DIR/m.yaml:1",
    "kubectl applies those and not this"
)]
#[case::a_list_in_a_list(
    "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, metadata: {name: a}, items: []}]\n",
    "DIR/m.yaml:1",
    "take its items out of it"
)]
#[case::no_review(
    "apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n",
    "DIR/m.yaml:2",
    "request is missing"
)]
fn what_is_broken_is_named_and_the_rest_is_reviewed(#[case] text: &str, #[case] at: &str, #[case] words: &str) {
    let files = Files::of(&[("m.yaml", &format!("{text}\n---\n{GOOD}"))]);
    let said = files.review(&["DIR"], b"");
    assert_eq!(said.code, 2, "{said:?}");
    let at = at.trim_end_matches(": ");
    assert!(said.out.contains(at) && said.out.contains(words), "{said:?}");
    assert!(said.out.contains("0 of 1 object would be refused"), "{said:?}");
}

#[test]
fn anchors_that_multiply_are_refused_at_once() {
    let mut text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", ")));
    }
    let files = Files::of(&[("m.yaml", &format!("{text}---\n{GOOD}"))]);
    let said = files.review(&["DIR"], b"");
    assert!(
        said.code == 2 && said.out.contains("this is no YAML") && said.out.contains("0 of 1 object"),
        "{said:?}"
    );
}

#[rstest]
#[case::of_windows(POD.replace('\n', "\r\n").into_bytes())]
#[case::with_a_mark(format!("\u{feff}{POD}").into_bytes())]
#[case::of_helm(format!("---\n# Source: chart/templates/pod.yaml\n{POD}---\n# Source: chart/templates/none.yaml\n").into_bytes())]
#[case::in_a_list(format!("apiVersion: v1\nkind: List\nitems:\n- {}", POD.replace('\n', "\n  ").trim_end()).into_bytes())]
#[case::without_a_type_in_a_list(format!("apiVersion: v1\nkind: PodList\nitems:\n- {}",
    POD.replace("apiVersion: v1\nkind: Pod\n", "").replace('\n', "\n  ").trim_end()).into_bytes())]
#[case::with_a_generated_name(POD.replace("  name: p\n", "  generateName: p-\n").into_bytes())]
#[case::json(serde_json::to_vec(&serde_saphyr::from_str::<serde_json::Value>(POD).unwrap()).unwrap())]
#[case::json_lines([serde_json::to_vec(&serde_saphyr::from_str::<serde_json::Value>(POD).unwrap()).unwrap(),
    b"\n{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"c\", \"namespace\": \"ai\"}}\n".to_vec()].concat())]
fn a_good_pod_passes_however_it_is_written(#[case] bytes: Vec<u8>) {
    let files = Files::of(&[("context/c.yaml", &format!("{NAMESPACE}---\n{WORKFLOW}"))]);
    files.write("m.yaml", &bytes);
    let arguments = [
        "--context",
        "DIR/context",
        "--as",
        "alice@example.com",
        "--strict",
        "DIR/m.yaml",
    ];
    let said = files.review(&arguments, b"");
    assert_eq!(said.code, 0, "{said:?}");
    // And it was looked at: the same with one thing wrong.
    let text = String::from_utf8(bytes).unwrap();
    let wrong = text.replace("false", "true");
    assert_ne!(text, wrong);
    files.write("m.yaml", wrong.as_bytes());
    let said = files.review(&arguments, b"");
    assert!(
        said.code == 1 && said.out.contains("allowPrivilegeEscalation"),
        "{said:?}"
    );
}

#[rstest]
#[case::gone(&["DIR/gone.yaml"], "DIR/gone.yaml", "cannot be read")]
#[case::nothing(&["DIR/empty"], "DIR/empty", "there is no object in it to review")]
#[case::context_gone(&["--context", "DIR/gone", "DIR/good.yaml"], "DIR/gone", "cannot be read")]
#[case::context_broken(&["--context", "DIR/broken.yaml", "DIR/good.yaml"], "DIR/broken.yaml:1", "this is no YAML")]
#[case::inventory_broken(&["--inventory", "DIR/broken.yaml", "DIR/good.yaml"], "DIR/broken.yaml:1", "this is no YAML")]
#[case::no_utf8(&["DIR/latin.yaml"], "DIR/latin.yaml:4:11", "this is no UTF-8")]
#[case::utf16(&["DIR/utf16.yaml"], "DIR/utf16.yaml:1", "this is UTF-16")]
#[case::binary(&["DIR/binary.yaml"], "DIR/binary.yaml:1", "")]
#[case::deep(&["DIR/deep.yaml"], "DIR/deep.yaml:1", "this is no YAML")]
fn what_cannot_be_read_is_a_problem(#[case] arguments: &[&str], #[case] at: &str, #[case] words: &str) {
    let files = Files::of(&[("good.yaml", GOOD), ("broken.yaml", "a: [\n"), ("empty/words.txt", "")]);
    files.write(
        "latin.yaml",
        b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: \xe9}\n",
    );
    let utf16: Vec<u8> = format!("\u{feff}{GOOD}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    files.write("utf16.yaml", &utf16);
    files.write("binary.yaml", b"\x7fELF\x00\x01\x02\x00");
    files.write("deep.yaml", "[".repeat(100_000).as_bytes());
    let said = files.review(arguments, b"");
    assert!(
        said.code == 2 && said.out.contains(at) && said.out.contains(words),
        "{said:?}"
    );
}

#[rstest]
#[case::nobody(&["DIR/m.yaml", "--as-group", "x"], "--as")]
#[case::no_namespace(&["--namespace", "A B", "DIR/m.yaml"], "no namespace can be called")]
#[case::twice_from_a_pipe(&["--context", "-", "-"], "standard input can be read once")]
#[case::no_policies(&["--policies", "gone", "DIR/m.yaml"], "no shipped set is called so")]
#[case::no_parameters(&["--parameters", "DIR/gone", "DIR/m.yaml"], "cannot be read")]
fn wrong_arguments_are_two(#[case] arguments: &[&str], #[case] words: &str) {
    let said = Files::of(&[("m.yaml", GOOD)]).review(arguments, b"");
    assert!(said.code == 2 && said.err.contains(words), "{said:?}");
}

#[test]
fn a_pipe_with_another_name_is_read_once() {
    let files = Files::of(&[]);
    let path = format!("{}/pipe", files.path());
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let text = POD.replace("[ALL]", "[]");
    let writing = std::thread::spawn(move || {
        std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    });
    let said = files.review(&["DIR/pipe"], b"");
    writing.join().unwrap();
    assert!(said.code == 1 && said.out.contains("capabilities.drop"), "{said:?}");
}

/// What is for tools is no object, and nobody's mistake.
#[test]
fn instructions_for_tools_are_left_aside() {
    let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n";
    let said = Files::of(&[("kustomization.yaml", kustomization), ("m.yaml", GOOD)]).review(&["DIR"], b"");
    assert!(
        said.code == 0 && said.err.contains("DIR/kustomization.yaml:1"),
        "{said:?}"
    );
}

/// `kubectl apply` asks for no more than the end of a name.
#[test]
fn what_is_hidden_is_reviewed_too() {
    let bad = POD.replace("[ALL]", "[]");
    for (name, shown) in [
        (".b.yaml", "DIR/.b.yaml"),
        (".yaml", "DIR/.yaml"),
        (".b/b.yml", "DIR/.b/b.yml"),
        ("..b/b.json", "DIR/..b/b.json"),
    ] {
        let files = Files::of(&[
            ("m.yaml", GOOD),
            (name, &bad),
            (".git/c.yaml", "a: [\n"),
            (".b.txt", "a: [\n"),
        ]);
        let said = files.review(&["DIR"], b"");
        assert!(
            said.code == 1 && said.out.contains(shown) && said.out.contains("1 of 2 objects"),
            "{said:?}"
        );
    }
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let files = Files::of(&[("..2026_11_29/m.yaml", &POD.replace("[ALL]", "[]"))]);
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, format!("{}/{name}", files.path())).expect("linked");
    };
    link("..2026_11_29", "..data");
    link("..data/m.yaml", "m.yaml");
    let said = files.review(&["DIR"], b"");
    assert!(
        said.code == 1 && said.out.contains("DIR/m.yaml") && said.out.contains("1 of 1 object"),
        "{said:?}"
    );
}
