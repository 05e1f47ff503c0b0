//! `--policies DIR`: what is said of a folder whose policies cannot be trusted, by each subcommand that takes one.

use std::fs;

use rstest::rstest;

use crate::run::{Said, run};

const GOOD: &str = "# METADATA\n# title: Title\n# description: Description\n# custom:\n#   name: mine\n#   severity: low\n\
                    #   remediation: Do it\n#   scope: pod\npackage p\ndeny contains \"x\" if input.request.bad\n";

/// Rules that each rest on the next.
fn chain() -> String {
    let rules: String = (0..10_000)
        .map(|number| format!("r{number} if r{}\n", number + 1))
        .collect();
    format!("{rules}r10000 if input.request.bad\n")
}

fn with(policy: &[u8], subcommand: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.rego"), policy).unwrap();
    let folder = folder.path().display().to_string();
    run(&[subcommand, &["--policies", &folder]].concat(), b"")
}

#[rstest]
#[case::recursion(format!("{GOOD}f(x) := f(x - 1)\n").into_bytes(), "mine.rego:11:1: recursion (f -> f)")]
#[case::memory(format!("{GOOD}{}deny contains \"y\" if r0\n", chain()).into_bytes(), "mine.rego: the policy took more than 160 MiB of memory")]
#[case::no_utf8([GOOD.as_bytes(), b"# a\nx := \"\xff\"\n"].concat(), "mine.rego:12:7: this is no UTF-8")]
#[case::huge([GOOD.as_bytes(), "# padding\n".repeat(105_000).as_bytes()].concat(), "mine.rego: at most 1024 files of 262144 bytes each")]
#[case::after_a_mark(format!("\u{feff}{GOOD}x := [\n").into_bytes(), "mine.rego:12:")]
#[case::empty(Vec::new(), "mine.rego: there is no `package`")]
fn a_policy_that_cannot_be_trusted_is_refused_by_its_file(
    #[case] policy: Vec<u8>,
    #[case] words: &str,
    #[values(&["scan"], &["check", "namespace", "ai"], &["run", "--namespace", "ringfence"])] subcommand: &[&str],
) {
    let said = with(&policy, subcommand);
    assert_ne!(said.code, 0);
    assert!(said.err.contains(words) || said.out.contains(words), "{said:?}");
}

/// The next thing that goes wrong is that there is no cluster.
#[rstest]
#[case::plain(GOOD.to_owned())]
#[case::with_a_mark(format!("\u{feff}{GOOD}"))]
#[case::of_windows(GOOD.replace('\n', "\r\n"))]
fn a_good_policy_is_taken_however_an_editor_saved_it(#[case] policy: String) {
    let said = with(policy.as_bytes(), &["scan"]);
    assert!(said.err.contains("cannot tell which cluster to talk to"), "{said:?}");
}

#[test]
fn the_subcommand_that_vets_is_not_for_people() {
    let said = run(&["--help"], b"");
    assert!(!said.out.contains("vet-policies"), "{}", said.out);
    // Nor does it take nothing for a good set.
    assert_ne!(run(&["vet-policies"], b"").code, 0);
}

/// The next thing that goes wrong where policies are good.
const GOES_ON: &str = "cannot tell which cluster to talk to";
const MATCH: &str = "matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}";

fn object(name: &str, rego: &str) -> String {
    format!(
        "apiVersion: ringfence.dev/v1alpha1\nkind: RegoPolicy\nmetadata: {{name: {name}}}\nspec:\n  validationActions: [Deny]\n  \
         {MATCH}\n  rego: {{modules: [{{name: a.rego, source: '{rego}'}}]}}\n"
    )
}

/// What `scan` says to `--policies` with these paths below a folder of these files.
fn scan(files: &[(&str, &str)], policies: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut arguments = vec!["scan".to_owned()];
    for value in policies {
        arguments.push("--policies".to_owned());
        arguments.push(value.replace("DIR", &folder.path().display().to_string()));
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    run(&arguments, b"")
}

#[rstest]
#[case::a_set(&[], &["ai-workflow"], GOES_ON)]
#[case::no_set(&[], &["ai-workflows"], "no shipped set is called so (ai-workflow")]
#[case::no_folder(&[], &["DIR/gone"], "cannot read")]
#[case::a_file(&[("mine.rego", GOOD)], &["DIR/mine.rego"], GOES_ON)]
#[case::another_file(&[("mine.txt", GOOD)], &["DIR/mine.txt"], "a policy is a .rego, .yaml, .yml or .json file")]
#[case::an_empty_folder(&[("words.txt", "")], &["DIR"], "there is no policy in it")]
#[case::both(&[("mine.rego", GOOD)], &["ai-workflow", "DIR"], GOES_ON)]
#[case::the_same_twice(&[("mine.rego", GOOD)], &["DIR", "DIR/mine.rego"], GOES_ON)]
#[case::one_name_twice(&[("a.rego", GOOD), ("b.rego", GOOD)], &["DIR"], "b.rego: policy mine is there already")]
#[case::hidden(&[("a.rego", GOOD), (".b.rego", GOOD)], &["DIR"], ".b.rego: policy mine is there already")]
#[case::hidden_folder(&[("a.rego", GOOD), (".b/b.rego", GOOD)], &["DIR"], "b.rego: policy mine is there already")]
#[case::of_git(&[("a.rego", GOOD), (".git/b.rego", GOOD)], &["DIR"], GOES_ON)]
#[case::mounted(&[("a.rego", GOOD), ("..data/a.rego", GOOD), ("..2026/a.rego", GOOD)], &["DIR"], GOES_ON)]
#[case::tests_are_no_policies(&[("mine.rego", GOOD), ("mine_test.rego", "no rego")], &["DIR"], GOES_ON)]
#[case::without_metadata(&[("mine.rego", "package p\ndeny contains \"x\"\n")], &["DIR"], "mine.rego:1: no `# METADATA` block")]
#[case::includes_beside(&[("s/set.yaml", "title: T\ndescription: D\nincludes: [t]\n"), ("t/b.rego", GOOD), ("s/a.rego", GOOD)], &["DIR/s"],
    "policy mine is there already")]
#[case::includes_shipped(&[("s/set.yaml", "title: T\ndescription: D\nincludes: [ai-workflow]\n")], &["DIR/s"], GOES_ON)]
#[case::includes_nothing(&[("s/set.yaml", "title: T\ndescription: D\nincludes: [gone]\n")], &["DIR/s"], "includes gone, which is no folder beside it")]
#[case::includes_a_path(&[("s/set.yaml", "title: T\ndescription: D\nincludes: [../t]\n")], &["DIR/s"], "includes \"../t\", which is no name")]
#[case::no_set_file(&[("s/set.yaml", "titel: T\n")], &["DIR/s"], "set.yaml: says not what the set is")]
fn policies_are_found(#[case] files: &[(&str, &str)], #[case] policies: &[&str], #[case] words: &str) {
    let said = scan(files, policies);
    assert!(said.err.contains(words), "{said:?}");
}

#[rstest]
#[case::good(&object("p", "package a\ndeny contains \"x\""), &[GOES_ON])]
#[case::several(&format!("{}---\n{}", object("p", "package a\ndeny contains \"x\""), object("q", "package a\ndeny contains \"x\"")), &[GOES_ON])]
#[case::broken_rego(&format!("# words\n---\n{}", object("p", "package a\\ndeny contains")), &["p.yaml:3: policy p: a.rego:"])]
#[case::no_such_field(&object("p", "package a\ndeny contains \"x\"").replace("spec:", "spec:\n  remedy: x"), &["p.yaml:1: RegoPolicy p: ", "spec.remedy"])]
#[case::no_yaml(&format!("{}---\na: [\n", object("p", "package a\ndeny contains \"x\"")), &["p.yaml:", "this is no YAML"])]
#[case::another_kind(&format!("{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\n", object("p", "package a\ndeny contains \"x\"")),
    &["p.yaml: left aside, for it is no policy: ConfigMap/c", GOES_ON])]
#[case::in_a_list_of_another_kind(&format!("apiVersion: v1\nkind: PodList\nitems:\n- {}", object("p", "package a\\ndeny contains").trim_end().replace('\n', "\n  ")),
    &["p.yaml:1: policy p: a.rego:"])]
#[case::items_of_no_list(&format!("{}items: []\n", object("p", "package a\ndeny contains \"x\"")), &["p.yaml:1: this has items at its top"])]
#[case::named_like_a_file(&object("mine", "package a\ndeny contains \"x\""), &["p.yaml:1: policy mine is there already, in ", "mine.rego"])]
#[case::twice(&format!("{0}---\n{0}", object("p", "package a\ndeny contains \"x\"")), &["p.yaml:", "policy p is there already"])]
#[case::another_version(&object("p", "package a").replace("v1alpha1", "v9"), &["p.yaml:1: ringfence.dev/v9 RegoPolicy is not known here"])]
fn objects_are_policies_too(#[case] text: &str, #[case] words: &[&str]) {
    let said = scan(&[("p.yaml", text), ("mine.rego", GOOD)], &["DIR"]);
    assert!(
        words.iter().all(|words| said.err.contains(words)),
        "{words:?}: {said:?}"
    );
}

const TEMPLATE: &str = "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: k8sdeny}\nspec:\n  crd: {spec: {names: {kind: K8sDeny}}}\n  \
    targets:\n  - target: admission.k8s.gatekeeper.sh\n    rego: |\n      package k8sdeny\n      violation[{\"msg\": \"no\"}] { input.review.object.bad }\n";
const CONSTRAINT: &str = "---\napiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sDeny\nmetadata: {name: none}\nspec: {match: {kinds: [{apiGroups: [''], kinds: [ConfigMap]}]}}\n";

/// A constraint may lie in another file than its template.
#[rstest]
#[case::good(TEMPLATE, CONSTRAINT, GOES_ON)]
#[case::no_template("", CONSTRAINT, "b.yaml:2: K8sDeny none: ")]
#[case::no_constraint(TEMPLATE, "", "ConstraintTemplate k8sdeny: there is no constraint of it")]
#[case::broken(&TEMPLATE.replace("input.review.object.bad", "input.["), CONSTRAINT, "policy k8sdeny-none: ")]
fn gatekeepers_templates_and_constraints_are_policies_too(
    #[case] template: &str,
    #[case] constraint: &str,
    #[case] words: &str,
) {
    let said = scan(
        &[("a.yaml", template), ("b.yaml", constraint), ("mine.rego", GOOD)],
        &["DIR"],
    );
    assert!(said.err.contains(words), "{said:?}");
}

#[test]
fn the_environment_names_several() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.rego"), GOOD.replace("deny", "denied")).unwrap();
    let both = format!("ai-workflow,{}", folder.path().display());
    let said = crate::run::run_with(&[("RINGFENCE_POLICIES", &both)], &["scan"], b"");
    assert!(said.err.contains("mine.rego"), "{said:?}");
}

#[rstest]
#[case::known("no-literal-secrets: {}\n", GOES_ON)]
#[case::unknown("no-literal-secret: {}\n", "there is no policy `no-literal-secret`")]
#[case::no_map("[]\n", "is no YAML map of parameters by policy name")]
#[case::a_line_of_gos_own("a: {} # x\u{85}b: {}\n", "by policy name: line 1, column 10: U+0085 is here")]
fn parameters_have_two_names(
    #[case] text: &str,
    #[case] words: &str,
    #[values("--parameters", "--policy-parameters")] argument: &str,
) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let said = run(&["scan", argument, &file.path().display().to_string()], b"");
    assert!(said.err.contains(words), "{said:?}");
}
