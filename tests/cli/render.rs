//! `ringfence render`: exact output for fixtures, and every input that it must refuse.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ringfence::api::Mode;
use ringfence::fence::{Case, Facts, Subject};
use ringfence::plan::{NamespaceFacts, default_deny};
use ringfence::policy::{PolicyInput, PolicySet, Target};
use ringfence::review::Review;
use rstest::rstest;
use serde_json::{Value, json};

use crate::run::{Said, run};

const ACCEPTED: &str = "tests/fixtures/render/accepted.yaml";
const CLUSTER_POLICY: &str = "tests/fixtures/render/cluster_network_policy.yaml";
const REFUSED: &str = "tests/fixtures/render/refused.yaml";

fn render(input: &str) -> Said {
    run(&["render", "-"], input.as_bytes())
}

/// Compares with a file of the repository, or writes it when asked to.
fn check(file: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/render")
        .join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} differs (UPDATE_GENERATED=1 cargo test --test cli writes it anew):\n{found}"
    );
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

#[test]
fn what_is_accepted_is_printed_whole_and_without_a_word() {
    let said = run(&["render", ACCEPTED], b"");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    check("accepted.out.yaml", &said.out);

    let piped = render(&fs::read_to_string(ACCEPTED).unwrap());
    assert_eq!((piped.code, piped.out), (0, said.out.clone()), "a pipe is a file");
    let json = run(&["render", ACCEPTED, "-o", "json"], b"");
    let list: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &list["kind"]), (0, &json!("List")));
    assert_eq!(list["items"], json!(documents(&said.out)), "both formats say the same");
}

/// Of its class alone: that such policies are served, and Ringfence's to write, is taken for granted and said above it.
#[test]
fn a_cluster_network_policy_is_shown_as_it_would_be_made() {
    let said = run(&["render", CLUSTER_POLICY], b"");
    assert_eq!(said.code, 0, "{said:?}");
    check("cluster_network_policy.out.yaml", &said.out);
    check("cluster_network_policy.err.txt", &said.err);
    let objects = documents(&said.out);
    let policies: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] == "ClusterNetworkPolicy")
        .collect();
    let [policy] = policies.as_slice() else {
        panic!("{policies:?}")
    };
    assert_eq!(policy["metadata"]["name"], "ringfence.ai-secure.triage");
    assert_eq!(policy["metadata"].get("namespace"), None, "it is of the cluster");
    assert_eq!(
        policy["metadata"]["ownerReferences"][0]["uid"], "<UID of Namespace ai-secure>",
        "no API server takes that"
    );

    // Its clients go their way as they always do.
    let pod = run(&["render", CLUSTER_POLICY, "--pod", "triage"], b"");
    assert!(pod.code == 0 && !pod.out.contains("_PROXY"), "{pod:?}");

    // In a namespace that does not enforce, whoever makes pods would give them the label that it selects.
    let input = fs::read_to_string(CLUSTER_POLICY).unwrap();
    for (from, to) in [
        ("ringfence.dev/enforce", "ringfence.dev/warn"),
        ("priority: 500", "priority: 1001"),
    ] {
        let said = render(&input.replacen(from, to, 1));
        assert!(said.code == 0 && !said.out.contains("ClusterNetworkPolicy"), "{said:?}");
        let told = "AIWorkflow ai-secure/triage: Programmed=False (NoEgressBackend), as far as the input says";
        assert!(said.err.contains(told), "{}", said.err);
    }
}

#[test]
fn no_rendered_object_could_pass_for_a_live_one() {
    let said = run(&["render", ACCEPTED], b"");
    let objects = documents(&said.out);
    assert!(objects.len() >= 7, "{objects:?}");
    for object in objects {
        let owner = object["metadata"]["annotations"]["ringfence.dev/owner-uid"]
            .as_str()
            .unwrap();
        assert!(owner.starts_with("<UID of "), "{object}");
        assert!(object["metadata"].get("uid").is_none(), "{object}");
    }
}

#[test]
fn what_is_refused_is_explained() {
    let said = run(&["render", REFUSED], b"");
    assert_eq!(said.code, 1, "{said:?}");
    check("refused.out.yaml", &said.out);
    check("refused.err.txt", &said.err);
    assert!(said.err.lines().all(|line| line.starts_with("# ")), "{}", said.err);
}

#[test]
fn the_example_of_the_repository_is_accepted() {
    let said = run(&["render", "examples/invoice-triage.yaml"], b"");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("Job/invoice-triage"),
        "what is not rendered is named: {}",
        said.err
    );
}

/// Whatever kind of list it says that it is: kubectl applies what is in it.
#[rstest]
#[case::as_kubectl_prints_it("v1", "List", true)]
#[case::of_an_api_server("ringfence.dev/v1alpha1", "AIWorkflowList", false)]
#[case::of_another_kind("v1", "PodList", true)]
fn a_list_is_read_and_live_uids_stay(#[case] version: &str, #[case] kind: &str, #[case] types: bool) {
    let mut workflow = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow",
        "metadata": {"name": "x", "namespace": "ai", "uid": "7f4c"}, "spec": {"launchers": [], "images": ["a.example/b"]}});
    if !types {
        workflow
            .as_object_mut()
            .unwrap()
            .retain(|field, _| field == "metadata" || field == "spec");
    }
    let list = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "list"}, "items": [workflow]});
    let said = render(&list.to_string());
    assert_eq!(said.code, 0, "{said:?}");
    let account = documents(&said.out)
        .into_iter()
        .find(|object| object["kind"] == "ServiceAccount");
    assert_eq!(account.unwrap()["metadata"]["ownerReferences"][0]["uid"], "7f4c");
    assert_eq!(
        said.err,
        "# Namespace ai is not in the input: taken as labelled ringfence.dev/enforce=default\n"
    );
}

#[test]
fn several_files_are_one_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let class = file(
        "class.yaml",
        "{apiVersion: ringfence.dev/v1alpha1, kind: AIWorkflowClass, metadata: {name: tight}, spec: {}}",
    );
    let workflow = file("workflow.yaml", &workflow("x", ""));
    let said = run(&["render", class.to_str().unwrap(), workflow.to_str().unwrap()], b"");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("ringfence.dev/enforce=tight"), "{}", said.err);
    assert!(said.err.contains("AIWorkflowClass tight allows none"), "{}", said.err);
}

#[test]
fn the_block_for_a_pod_template_is_ready_to_paste() {
    let said = run(&["render", ACCEPTED, "--pod", "triage"], b"");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    check("pod.out.yaml", &said.out);
    let json = run(&["render", ACCEPTED, "--pod=ai-secure/triage", "--output=json"], b"");
    assert_eq!(
        vec![serde_json::from_str::<Value>(&json.out).unwrap()],
        documents(&said.out)
    );

    let without_rights = run(&["render", ACCEPTED, "--pod", "summarise"], b"");
    assert!(
        !without_rights.out.contains("serviceAccountToken"),
        "{}",
        without_rights.out
    );
    let refused = run(&["render", REFUSED, "--pod", "outside"], b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("Accepted=False (OutsideClass)") && !refused.out.is_empty(),
        "{refused:?}"
    );
}

/// By the name of its Service; without a DNS by its address, which only the cluster knows.
#[test]
fn a_pod_with_domains_is_told_where_the_egress_proxy_is() {
    let input = fs::read_to_string(ACCEPTED).unwrap();
    let without_dns = input.replacen("cluster: {", "cluster: {dns: {mode: None}, ", 1);
    let pod = |input: &str, more: &[&str]| {
        let arguments = [&["render", "-", "--pod", "triage"][..], more].concat();
        let said = run(&arguments, input.as_bytes());
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    let proxy = |printed: &str| -> Value {
        let env = documents(printed)[0]["spec"]["containers"][0]["env"].clone();
        let variables = env.as_array().unwrap().iter();
        let mut urls: Vec<_> = variables
            .filter(|variable| variable["name"].as_str().unwrap().to_uppercase().starts_with("HTTP"))
            .map(|variable| variable["value"].clone())
            .collect();
        assert_eq!(urls.len(), 3, "{env}");
        urls.dedup();
        assert_eq!(urls.len(), 1, "{env}");
        urls.remove(0)
    };
    assert_eq!(
        proxy(&pod(&input, &[])),
        "http://ringfence-egress.ringfence-system.svc:3128"
    );
    assert_eq!(
        proxy(&pod(&input, &["--release-namespace", "fences"])),
        "http://ringfence-egress.fences.svc:3128"
    );
    let unknown = pod(&without_dns, &[]);
    assert_eq!(
        proxy(&unknown),
        "http://<cluster IP of Service ringfence-egress in namespace ringfence-system>:3128"
    );
    assert!(unknown.contains("--egress-address"), "{unknown}");
    for (address, host) in [("10.96.0.31", "10.96.0.31"), ("fd00:96::31", "[fd00:96::31]")] {
        let known = pod(&without_dns, &["--egress-address", address]);
        assert_eq!(proxy(&known), format!("http://{host}:3128"));
        assert!(!known.contains("--egress-address"), "{known}");
    }
    let plain = pod(&input.replacen("- {name: model, to:", "# {name: model, to:", 1), &[]);
    assert!(!plain.contains("_PROXY"), "{plain}");
    let alone = run(&["render", ACCEPTED, "--egress-address", "10.96.0.31"], b"");
    assert_eq!(alone.code, 2, "{alone:?}");
}

/// At the address that is said, or that the class knows.
#[test]
fn a_pod_that_asks_the_egress_proxy_for_names_is_told_where() {
    let input = fs::read_to_string(ACCEPTED).unwrap();
    let input = input.replacen("cluster: {", "cluster: {dns: {mode: ClusterOnly}, ", 1);
    let pod = |input: &str, more: &[&str]| {
        let arguments = [&["render", "-", "--pod", "triage"][..], more].concat();
        let said = run(&arguments, input.as_bytes());
        assert_eq!(said.code, 0, "{said:?}");
        let spec = documents(&said.out)[0]["spec"].clone();
        assert_eq!(spec["dnsPolicy"], "None");
        let searches = json!(["ai-secure.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!(spec["dnsConfig"]["searches"], searches);
        let env = spec["containers"][0]["env"].to_string();
        (spec["dnsConfig"]["nameservers"].clone(), env, said.out)
    };
    let (servers, env, out) = pod(&input, &[]);
    assert!(
        servers[0]
            .as_str()
            .unwrap()
            .starts_with("<cluster IP of Service ringfence-egress"),
        "{servers}"
    );
    assert!(out.contains("--egress-address puts in where that is"), "{out}");
    assert!(
        env.contains("http://ringfence-egress.ringfence-system.svc:3128"),
        "{env}"
    );
    let (servers, _, out) = pod(&input, &["--egress-address", "10.96.0.53"]);
    assert_eq!(servers, json!(["10.96.0.53"]));
    assert!(!out.contains("--egress-address"), "{out}");
    let class = input.find("kind: AIWorkflowClass").unwrap();
    let (before, of_class) = input.split_at(class);
    let of_class = of_class.replacen(
        "spec:",
        "status: {dns: {addresses: [10.96.0.53, 'fd00::35']}}\nspec:",
        1,
    );
    let (servers, env, _) = pod(&format!("{before}{of_class}"), &[]);
    assert_eq!(servers, json!(["10.96.0.53", "fd00::35"]));
    assert!(
        env.contains("http://ringfence-egress.ringfence-system.svc:3128"),
        "{env}"
    );
}

/// In a cluster whose names are not below `cluster.local`, as its class knows.
#[test]
fn a_pod_searches_the_domain_of_its_cluster() {
    let input = fs::read_to_string(ACCEPTED).unwrap();
    let input = input.replacen("cluster: {", "cluster: {dns: {mode: ClusterOnly}, ", 1);
    let (before, of_class) = input.split_at(input.find("kind: AIWorkflowClass").unwrap());
    let status = "status: {clusterDomain: k8s.example, clusterDomains: [sets.example]}\nspec:";
    let of_class = of_class.replacen("spec:", status, 1);
    let said = run(
        &["render", "-", "--pod", "triage"],
        format!("{before}{of_class}").as_bytes(),
    );
    assert_eq!(said.code, 0, "{said:?}");
    let spec = &documents(&said.out)[0]["spec"];
    let searches = json!(["ai-secure.svc.k8s.example", "svc.k8s.example", "k8s.example"]);
    assert_eq!(spec["dnsConfig"]["searches"], searches);
    let env = spec["containers"][0]["env"].to_string();
    assert!(
        env.contains(",.svc,.k8s.example,.sets.example,$(KUBERNETES_SERVICE_HOST)"),
        "{env}"
    );
    assert!(!said.out.contains("cluster.local"), "{}", said.out);
}

/// The printed pod, with an image in place of the words for one.
fn printed_pod() -> Value {
    let said = run(&["render", ACCEPTED, "--pod", "triage", "-o", "json"], b"");
    let mut pod: Value = serde_json::from_str(&said.out).unwrap();
    let digest = "0123456789abcdef".repeat(4);
    pod["spec"]["containers"][0]["image"] = json!(format!("registry.example.com/finance/triage:1.4@sha256:{digest}"));
    pod
}

/// Nor where the fence refuses it: volumes, tokens and digest of a class that is strict about them.
#[test]
fn the_block_for_a_pod_template_fits_the_fence() {
    let input = documents(&fs::read_to_string(ACCEPTED).unwrap());
    let of_kind = |kind: &str| input.iter().find(|object| object["kind"] == kind).unwrap().clone();
    let (mut workflow, namespace, pod) = (of_kind("AIWorkflow"), of_kind("Namespace"), printed_pod());
    workflow["metadata"]["uid"] = json!("u");
    let read = NamespaceFacts::from_object(&namespace, |_| false).unwrap();
    let facts = |class: Value| Facts {
        namespace: Some(namespace.clone()),
        default_deny: Some(default_deny(&read)),
        account: Some(json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": "u"}}})),
        workflow: Some(workflow.clone()),
        classes: [("gold".to_owned(), Some(class))].into(),
        ..Facts::default()
    };
    let refused = |pod: &Value, class: Value| -> Vec<String> {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "r", "operation": "CREATE", "namespace": "ai-secure", "userInfo": {"username": "mia"}, "object": pod,
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
        }});
        let review = Review::parse(&serde_json::to_vec(&review).unwrap()).unwrap();
        let subject = Subject::of(&review).unwrap().unwrap();
        let facts = facts(class);
        let case = Case::new(&subject, &facts, |_| false);
        let found = case.violations(Mode::Enforce, "gold");
        found
            .into_iter()
            .map(|violation| format!("{} {}", violation.policy, violation.path))
            .collect()
    };
    let class = of_kind("AIWorkflowClass");
    assert_eq!(refused(&pod, class.clone()), [""; 0]);
    let mut narrower = class;
    narrower["spec"]["identity"]["maxTokenSeconds"] = json!(900);
    assert_eq!(
        refused(&pod, narrower),
        [0, 1].map(|volume| format!(
            "projected-tokens spec.volumes[{volume}].projected.sources[{volume}].serviceAccountToken.expirationSeconds"
        )),
        "of the API server's token and of the second audience's: the block was made for another class"
    );
}

/// The block is worth nothing where the shipped policies refuse it.
#[test]
fn the_block_for_a_pod_template_passes_the_shipped_policies() {
    let pod = printed_pod();
    let input = documents(&fs::read_to_string(ACCEPTED).unwrap());
    let of_kind = |kind: &str| input.iter().find(|object| object["kind"] == kind);
    let request = json!({"operation": "CREATE", "namespace": "ai-secure", "object": pod});
    let policies = PolicySet::embedded(&BTreeMap::new()).unwrap();
    let verdicts = policies.evaluate(
        &PolicyInput {
            target: Target::Pod,
            request: &request,
            pod: Some(("", &pod)),
            workflow: of_kind("AIWorkflow"),
            class: of_kind("AIWorkflowClass"),
            engine: None,
            namespace: of_kind("Namespace"),
        },
        Duration::from_secs(10),
    );
    assert!(verdicts.len() >= 4, "{verdicts:?}");
    for verdict in verdicts {
        let findings = verdict.outcome.unwrap();
        assert!(
            findings.deny.is_empty() && findings.warn.is_empty(),
            "{}: {findings:?}",
            verdict.policy
        );
    }
}

fn workflow(name: &str, more: &str) -> String {
    format!(
        "---\n{{apiVersion: ringfence.dev/v1alpha1, kind: AIWorkflow, metadata: {{name: {name}, namespace: ai}}, \
         spec: {{launchers: [], images: [a.example/b]{more}}}}}\n"
    )
}

#[rstest]
#[case::empty(String::new(), "neither an AIWorkflow nor an AIWorkflowGrant")]
#[case::only_comments("# nothing\n---\n---\n".to_owned(), "neither an AIWorkflow nor an AIWorkflowGrant")]
#[case::not_yaml("a: b: c".to_owned(), "standard input: line 1, column 5: this is no YAML")]
#[case::a_line_of_kubectls_own(workflow("x", "") + "# a comment\u{2028}# and more\n", "standard input: line 3, column 12: U+2028 is here")]
#[case::a_merge_key_that_wins(
    workflow(
        "x",
        ", network: {egress: [{name: a, to: {apiServer: {}}, ports: [{port: 80, <<: {port: 443}}]}]}"
    ),
    "line 2, column 206: << merges port too"
)]
#[case::cut_off(r#"{"kind": "AIWorkflow", "#.to_owned(), "no YAML")]
#[case::same_key_twice("{kind: A, kind: B}".to_owned(), "no YAML")]
#[case::scalar("hello".to_owned(), "document 1: this is no Kubernetes object")]
#[case::sequence("[1]".to_owned(), "document 1: this is no Kubernetes object")]
#[case::no_name("{apiVersion: v1, kind: Namespace}".to_owned(), "metadata.name is missing")]
#[case::number_as_name("{apiVersion: v1, kind: Namespace, metadata: {name: 7}}".to_owned(), "put it in quotes")]
#[case::unknown_kind("{apiVersion: ringfence.dev/v1alpha1, kind: AIWorkflows, metadata: {name: x}}".to_owned(), "AIWorkflows is not known here")]
#[case::other_version("{apiVersion: ringfence.dev/v2, kind: AIWorkflow, metadata: {name: x}}".to_owned(), "use apiVersion ringfence.dev/v1alpha1")]
#[case::other_group("{apiVersion: v1, kind: AIWorkflow, metadata: {name: x}}".to_owned(), "v1 AIWorkflow is not known here")]
#[case::nothing_to_render("{apiVersion: v1, kind: Pod, metadata: {name: x}}".to_owned(), "neither an AIWorkflow nor an AIWorkflowGrant")]
#[case::list_without_items("{apiVersion: v1, kind: List}".to_owned(), "a List has items")]
#[case::items_of_no_list(workflow("x", "").trim_end().trim_end_matches('}').to_owned() + "}, items: [{kind: AIWorkflow}]}\n", "document 1: this has items at its top")]
#[case::hidden_by_a_comment(workflow("x", "") + "---\n# a comment\r" + &workflow("y", "").replace("---\n", ""), "line 4, column 12: a carriage return is here")]
#[case::key_with_a_tag(
    workflow("x", ", <<: {!!binary bmV0d29yaw==: {}}, network: {}"),
    "kubectl knows other tags"
)]
#[case::twice(workflow("x", "") + &workflow("x", ", owner: {team: a}"), "document 2: AIWorkflow x is there twice")]
#[case::misspelt(workflow("x", ", netwrok: {}"), "spec.netwrok: there is no such field")]
#[case::wrong_type(
    workflow("x", ", network: {egress: no}"),
    "spec.network.egress: must be of type array"
)]
#[case::no_namespace("{apiVersion: ringfence.dev/v1alpha1, kind: AIWorkflow, metadata: {name: x}, spec: {launchers: [], images: [a]}}".to_owned(), "use --namespace")]
#[case::no_spec("{apiVersion: ringfence.dev/v1alpha1, kind: AIWorkflow, metadata: {name: x, namespace: ai}}".to_owned(), "spec: must be of type object")]
#[case::which_class(
    ["a", "b"].map(|name| format!("---\n{{apiVersion: ringfence.dev/v1alpha1, kind: AIWorkflowClass, metadata: {{name: {name}}}, spec: {{}}}}\n")).concat() + &workflow("x", ""),
    "naming one of a, b"
)]
fn what_cannot_be_read_is_code_2_and_says_why(#[case] input: String, #[case] why: &str) {
    let said = render(&input);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(
        said.err.starts_with("ringfence: ") && said.err.contains(why),
        "{}",
        said.err
    );
}

#[test]
fn an_account_is_never_shared() {
    let said = render(&(workflow("x", "") + &workflow("z", ", identity: {serviceAccountName: x}")));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("AIWorkflow ai/z: Programmed=False (NameTaken)"),
        "{}",
        said.err
    );
    let accounts = documents(&said.out)
        .into_iter()
        .filter(|object| object["kind"] == "ServiceAccount");
    assert_eq!(accounts.count(), 1);
}

#[test]
fn a_namespace_can_be_given_for_what_names_none() {
    let input = "{apiVersion: ringfence.dev/v1alpha1, kind: AIWorkflow, metadata: {name: x}, spec: {launchers: [], images: [a.example/b]}}";
    let said = run(&["render", "-", "--namespace", "ai"], input.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("namespace: ai\n"), "{}", said.out);
}

#[rstest]
#[case::missing(&["render", "tests/fixtures/no-such-file.yaml"], "no-such-file.yaml")]
#[case::folder(&["render", "tests/fixtures"], "tests/fixtures")]
#[case::no_file(&["render"], "required")]
#[case::no_such_pod(&["render", ACCEPTED, "--pod", "nobody"], "no AIWorkflow nobody")]
#[case::pod_elsewhere(&["render", ACCEPTED, "--pod", "vectors/triage"], "no AIWorkflow vectors/triage")]
#[case::format(&["render", ACCEPTED, "-o", "xml"], "xml")]
fn wrong_arguments_are_code_2(#[case] arguments: &[&str], #[case] why: &str) {
    let said = run(arguments, b"");
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains(why), "{}", said.err);
}

/// Long, endless, deep, wide and self-multiplying inputs end at once, with an error.
#[rstest]
#[case::long(vec![b'#'; 5 * 1024 * 1024], "more than")]
#[case::deep([vec![b'['; 100_000], vec![b']'; 100_000]].concat(), "no YAML")]
#[case::documents("--- {a: 1}\n".repeat(5_000).into_bytes(), "ringfence: ")]
#[case::objects("--- {apiVersion: v1, kind: Pod, metadata: {name: x}}\n".repeat(1_001).into_bytes(), "more than 1000 objects")]
#[case::multiplying(multiplying(), "ringfence: ")]
#[case::binary((0..=255).collect(), "no UTF-8")]
fn a_hostile_input_ends_at_once(#[case] input: Vec<u8>, #[case] why: &str) {
    let started = Instant::now();
    let said = run(&["render", "-"], &input);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains(why), "{}", said.err);
    assert!(said.err.len() < 4096, "{} bytes", said.err.len());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

fn multiplying() -> Vec<u8> {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    text.into_bytes()
}

#[test]
fn an_error_repeats_nothing_of_what_lies_beside() {
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: x}, stringData: {key: topsecret}}\n";
    for broken in [
        format!("{secret}--- a: b: c\n"),
        format!("{secret}---\n{{a: topsecret: b}}\n"),
        secret.to_owned(),
    ] {
        let said = render(&broken);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(!said.err.contains("topsecret"), "{}", said.err);
    }
}

#[test]
fn a_name_cannot_speak_to_the_terminal() {
    let job = r#"{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "\u001b[2Jx"}}"#;
    let said = render(&(workflow("x", "") + "---\n" + job));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        !said.err.contains('\u{1b}') && said.err.contains("Job/"),
        "{:?}",
        said.err
    );
}

/// Whoever renders what others wrote must not have their terminal written to.
#[rstest]
#[case::refused_by_the_schema("x", "a", r#"{"z\e[31m": 1}"#, &[])]
#[case::without_namespace(r"x\e[2J", "", "{}", &[])]
#[case::in_comments(r"x\e[2J\u202e", r"b\u009b1m", r#"{launchers: [{user: a}], images: [a.example/b]}"#, &[])]
#[case::in_yaml("x", "a", r#"{engine: airflow, launchers: [{serviceAccount: {namespace: "n\u009b", name: "s\e[2J\u007f"}}], images: [a.example/b]}"#, &[])]
#[case::in_yaml_of_rights("x", "a", r#"{launchers: [{user: a}], images: [a.example/b], permissions: {rules: [{apiGroups: [""], resources: [configmaps], verbs: [get], resourceNames: ["a\u202eb"]}]}}"#, &[])]
#[case::in_json("x", "a", r#"{engine: airflow, launchers: [{serviceAccount: {namespace: "n\u009b\u202e", name: "s\e[2J\u007f"}}], images: [a.example/b]}"#, &["-o", "json"])]
fn nothing_that_a_terminal_obeys_comes_out(
    #[case] name: &str,
    #[case] namespace: &str,
    #[case] spec: &str,
    #[case] options: &[&str],
) {
    let input = format!(
        "apiVersion: ringfence.dev/v1alpha1\nkind: AIWorkflow\nmetadata: {{name: \"{name}\", namespace: \"{namespace}\"}}\nspec: {spec}\n"
    );
    let said = run(&[&["render", "-"], options].concat(), input.as_bytes());
    for text in [&said.out, &said.err] {
        let obeyed = |c: &char| (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
        assert_eq!(text.chars().find(obeyed), None, "{text:?}");
    }
    assert!(!said.err.is_empty(), "{said:?}");
}

#[test]
fn what_is_being_deleted_is_said_to_make_nothing() {
    let said = render(
        "apiVersion: ringfence.dev/v1alpha1\nkind: AIWorkflow\nmetadata: {name: x, namespace: a, deletionTimestamp: '2026-01-01T00:00:00Z'}\nspec: {launchers: [{user: a}], images: [a.example/b]}\n",
    );
    assert!(said.err.contains("AIWorkflow a/x: is being deleted"), "{said:?}");
    assert!(!said.out.contains("kind: ServiceAccount"), "{said:?}");
}
