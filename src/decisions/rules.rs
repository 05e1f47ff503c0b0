//! The built-in rules in words: what each demands, and what to do when it refuses. For whoever reads its name in a line later.
//!
//! Must never: miss a rule of `fence` or `findings`, or name one that is gone; a test reads their sources.

/// A fact beside the request.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Need {
    /// The service account that a pod runs as.
    Account,
    /// The AIWorkflowClass.
    Class,
    /// The namespace's default-deny NetworkPolicy.
    DefaultDeny,
    /// Where the egress proxy is, as the status of the AIWorkflowClass has it.
    EgressProxy,
    /// Who asks.
    Launcher,
    /// The Namespace.
    Namespace,
    /// Who owns the object.
    Owner,
    /// The pod into which something is opened.
    Pod,
    /// The AIWorkflow.
    Workflow,
}

/// What is judged by a rule.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Door {
    /// What makes no pod, and would let somebody be a workflow, or reach one: accounts, tokens, Services, policies.
    Beside,
    /// A RoleBinding or ClusterRoleBinding.
    Binding,
    /// Something that is opened into a pod.
    Connect,
    /// A declaration: one of our own kinds.
    Declaration,
    /// What carries the workflow label.
    Labelled,
    /// A Namespace with a mode.
    Mode,
    /// A pod that is made.
    Pod,
    /// What stands.
    Standing,
    /// A pod, or a pod template.
    Template,
    /// A pod that is changed.
    Update,
}

/// A rule that no file holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Name in refusals, lines and metrics.
    pub name: &'static str,
    /// What it demands.
    pub description: &'static str,
    /// What to do when it refuses.
    pub fix: &'static str,
    /// Whether the request, its namespace, workflow and class are all that it looks at: then a line with its input is enough to
    /// judge again.
    pub replays: bool,
    /// What it judges.
    pub doors: &'static [Door],
    /// Which facts beside the request it looks at.
    pub needs: &'static [Need],
}

impl Rule {
    const fn at(self, doors: &'static [Door]) -> Self {
        Self { doors, ..self }
    }

    const fn needing(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }
}

const fn rule(name: &'static str, description: &'static str, fix: &'static str) -> Rule {
    Rule {
        name,
        description,
        fix,
        replays: false,
        doors: &[Door::Standing],
        needs: &[],
    }
}

const fn replayed(name: &'static str, description: &'static str, fix: &'static str) -> Rule {
    Rule {
        replays: true,
        ..rule(name, description, fix)
    }
}

/// Every built-in rule, by name.
pub const RULES: [Rule; 36] = [
    rule(
        "accepted-declaration",
        "An AIWorkflow, grant or exception that its class would not accept today is stored all the same, with a warning.",
        "Correct what the warning names, or ask the platform team to widen the class.",
    )
    .at(&[Door::Declaration])
    .needing(&[Need::Class, Need::Namespace]),
    replayed(
        "approved-images",
        "Every image comes from a repository that both the workflow and the class name, or that the class names as injected; by digest where the class asks for that.",
        "Use an image of such a repository, or add the repository to spec.images of the AIWorkflow.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Class, Need::Namespace, Need::Workflow]),
    replayed(
        "approved-namespace",
        "What carries the workflow label in a namespace lies in one with a mode.",
        "Remove the label, or ask the platform team to label the namespace ringfence.dev/enforce.",
    )
    .at(&[Door::Labelled])
    .needing(&[Need::Namespace]),
    rule(
        "closed-service",
        "A Service of an enforced namespace is of type ClusterIP, selects its pods, and has no external address.",
        "Use type ClusterIP with a selector, and declare who may reach it in spec.network of the AIWorkflow.",
    )
    .at(&[Door::Beside])
    .needing(&[Need::Namespace]),
    rule(
        "cloud-identity",
        "What a cloud or Vault knows an account of an enforced namespace by comes from its AIWorkflow.",
        "Declare the annotation in spec.identity.annotations of the AIWorkflow, and leave it out of the service account.",
    )
    .at(&[Door::Beside])
    .needing(&[Need::Class, Need::Namespace, Need::Workflow]),
    rule(
        "debug-window",
        "Nobody opens anything into a fenced pod unless its workflow declares a window, its class allows windows, and it is open now.",
        "Declare spec.debug in the AIWorkflow with what to open and until when.",
    )
    .at(&[Door::Connect])
    .needing(&[Need::Class, Need::Namespace, Need::Pod, Need::Workflow]),
    rule(
        "declaration-size",
        "A declaration does not grow beyond what Ringfence can hold of many, and what a review can read.",
        "Make its metadata smaller, annotations above all, or the longest lists of its spec.",
    )
    .at(&[Door::Declaration]),
    replayed(
        "declared-secrets",
        "A pod refers to the Secrets, and to the keys of them, that its AIWorkflow declares, and to no others.",
        "Declare the Secret in spec.secrets of the AIWorkflow (for pulling images in spec.identity.imagePullSecrets), or remove the reference.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Namespace, Need::Workflow]),
    rule(
        "declared-workflow",
        "A pod, and whatever makes pods, names an AIWorkflow of its namespace that is there, reviewed and accepted by the class.",
        "Set the label ringfence.dev/workflow on the object and its pod template, and see kubectl describe aiworkflow.",
    )
    .at(&[Door::Labelled, Door::Template])
    .needing(&[Need::Class, Need::Namespace, Need::Workflow]),
    rule(
        "default-deny",
        "A pod is made only where the namespace's default-deny NetworkPolicy stands unchanged.",
        "Wait until Ringfence has made it; kubectl get networkpolicy ringfence shows it.",
    )
    .at(&[Door::Pod])
    .needing(&[Need::DefaultDeny, Need::Namespace]),
    rule(
        "exempt-namespace",
        "Declarations lie in namespaces that can be fenced: never in the platform's own.",
        "Put it into another namespace.",
    )
    .at(&[Door::Declaration]),
    rule(
        "exposed-route",
        "An Ingress or a route of a Gateway that leads to Services of a namespace moves nothing by itself: its proxy comes as far as spec.network.ingress lets it.",
        "Delete it, or declare its proxy in spec.network.ingress of the AIWorkflow.",
    ),
    rule(
        "extra-binding",
        "No RoleBinding or ClusterRoleBinding gives an account of a fenced namespace more than is declared.",
        "Declare the rights in spec.permissions of the AIWorkflow, and take the subject out of the binding.",
    )
    .at(&[Door::Binding, Door::Standing])
    .needing(&[Need::Namespace]),
    replayed(
        "fixed-label",
        "A pod keeps the workflow label that it was made with.",
        "Delete the pod, and create it with the right label.",
    )
    .at(&[Door::Update])
    .needing(&[Need::Namespace]),
    rule(
        "foreign-endpoints",
        "Who is behind a Service of an enforced namespace, the built-in controllers find out from its selector.",
        "Give the Service a selector, and leave Endpoints and EndpointSlices to the controllers.",
    )
    .at(&[Door::Beside])
    .needing(&[Need::Namespace]),
    rule(
        "foreign-network-policy",
        "No NetworkPolicy beside Ringfence's opens what is not declared, and no policy of a network plugin's own kind overrules it.",
        "Declare what it opens in spec.network of the AIWorkflow, and delete it.",
    )
    .at(&[Door::Beside, Door::Standing])
    .needing(&[Need::Namespace]),
    rule(
        "launcher",
        "What runs as a workflow is made or changed by its launchers alone: those of the AIWorkflow or the class, and built-in controllers for an owner that holds.",
        "Have a launcher do it, or add who did to spec.launchers of the AIWorkflow.",
    )
    .at(&[Door::Labelled])
    .needing(&[Need::Class, Need::Launcher, Need::Namespace, Need::Owner, Need::Workflow]),
    rule(
        "missing-secret",
        "Every Secret that a pod refers to is there.",
        "Create the Secret, or correct the reference.",
    ),
    rule(
        "missing-secret-key",
        "Every Secret that a pod refers to has the keys that it takes.",
        "Add the key to the Secret, or correct the reference.",
    ),
    rule(
        "namespace-mode",
        "A mode label names an AIWorkflowClass that exists, on a namespace that can be fenced. By this name too the caller is told what would be refused.",
        "Name a class that is there (kubectl get aiworkflowclasses), or correct what ringfence check namespace lists.",
    )
    .at(&[Door::Mode])
    .needing(&[Need::Class]),
    replayed(
        "node-dials",
        "A pod's probes and hooks ask the pod itself: the node sends them, past every NetworkPolicy.",
        "Remove host from the probe or hook.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Namespace]),
    rule(
        "object-size",
        "What runs, or makes what runs, leaves room for a kubelet's status and for what controllers write on it.",
        "Keep what programs read in a ConfigMap, an image or an object store, and shorten the longest lists.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Namespace]),
    rule(
        "own-service-account",
        "A pod runs as its workflow's service account, and that account is the one that Ringfence made.",
        "Set spec.serviceAccountName to the workflow's account, and wait until the AIWorkflow is Ready.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Account, Need::Namespace, Need::Workflow]),
    rule(
        "ownerless-object",
        "What Ringfence made for an owner goes with it.",
        "Delete what was left behind, or make the owner again.",
    ),
    replayed(
        "pod-annotations",
        "A pod carries only annotations that the class or the engine lists: runtimes, meshes and network plugins obey them.",
        "Remove the annotation, or ask the platform team to list its key in spec.podAnnotations of the class, or of its engine there.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Class, Need::Namespace, Need::Workflow]),
    replayed(
        "pod-dns",
        "Where the class has pods ask the egress proxy alone for names, a pod names it, and no other DNS.",
        "Set dnsPolicy: None and dnsConfig.nameservers as status.dns of the class says; ringfence render --pod prints it.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Class, Need::EgressProxy, Need::Namespace]),
    replayed(
        "pod-node",
        "A pod leaves the choice of its node to the scheduler, keeps no other namespace's pods off it, tolerates only taints and names only a RuntimeClass that the class lists, and takes no rank of the cluster's own parts.",
        "Leave the field out, or ask the platform team to list the taint or the RuntimeClass in spec.nodes of the class.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Class, Need::Namespace]),
    replayed(
        "pod-security",
        "The API server itself holds the namespace's pods to the class's Pod Security Standard.",
        "Have the namespace labelled pod-security.kubernetes.io/enforce with at least that level.",
    )
    .at(&[Door::Mode, Door::Pod])
    .needing(&[Need::Class, Need::Namespace]),
    replayed(
        "pod-template",
        "An object that makes pods has its pod template where its kind has it.",
        "Put the pod's metadata and spec there.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Namespace]),
    replayed(
        "projected-tokens",
        "A pod mounts tokens only for audiences, and for as long, as workflow and class declare, and takes no account of a Windows domain.",
        "Declare the audience in spec.identity.audiences of the AIWorkflow, or remove the token.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Class, Need::Namespace, Need::Workflow]),
    rule(
        "readable-times",
        "The API server can read again each time that an object says, so that controllers can PATCH it.",
        "Leave the time out: the API server writes the times of objects.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Namespace]),
    rule(
        "token-request",
        "Accounts of an enforced namespace get tokens through their pods: by kubelets, and nobody else.",
        "Run what needs the token as a pod of the workflow.",
    )
    .at(&[Door::Beside])
    .needing(&[Need::Namespace]),
    rule(
        "token-secret",
        "No Secret holds a token of a service account that never ends.",
        "Use a projected token, and delete the Secret.",
    )
    .at(&[Door::Beside, Door::Standing])
    .needing(&[Need::Namespace]),
    rule(
        "valid-declaration",
        "A declaration holds nothing that no class could accept.",
        "Correct the field that the refusal names.",
    )
    .at(&[Door::Declaration]),
    replayed(
        "volumes",
        "A pod mounts only volumes of types, and CSI volumes of drivers, that the class lists; and no devices.",
        "Use a listed type, or ask the platform team to add it to spec.volumes of the class.",
    )
    .at(&[Door::Template])
    .needing(&[Need::Class, Need::Namespace]),
    rule(
        "workflow-account",
        "The service account of an AIWorkflow is made by Ringfence alone: rights and cloud roles go by its name.",
        "Leave it to Ringfence, or give the account another name.",
    )
    .at(&[Door::Beside])
    .needing(&[Need::Namespace, Need::Workflow]),
];

/// The rule of that name.
pub fn rule_of(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::Path,
    };

    use serde_json::{Value, json};

    use super::*;
    use crate::fence::testing::{facts, pod, review, set, workflow_object, workload};
    use crate::fence::{self, Case, Facts, Subject};

    const ANNOTATION: (&str, &str) = ("eks.amazonaws.com/role-arn", "role-a");

    /// Texts in constants of these rooms that are no rules.
    const NO_RULES: [&str; 2] = ["metadata", "spec"];

    /// Rules as the code names them: a constant, or the field of a violation.
    fn of_sources() -> BTreeSet<String> {
        let named = regex::Regex::new(r#"(?:const [A-Z_]+: &str = |policy: )"([a-z]+(?:-[a-z]+)*)""#).unwrap();
        let mut found = BTreeSet::new();
        for room in ["fence", "findings"] {
            let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
            for entry in fs::read_dir(room).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() || path.ends_with("tests.rs") || path.ends_with("testing.rs") {
                    continue;
                }
                let source = fs::read_to_string(path).unwrap();
                let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
                found.extend(named.captures_iter(code).map(|found| found[1].to_owned()));
            }
        }
        for other in NO_RULES {
            assert!(found.remove(other), "{other} is no constant any more");
        }
        found
    }

    #[test]
    fn each_built_in_rule_is_described_and_no_other() {
        let described: BTreeSet<_> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
        assert_eq!(described, of_sources());
        assert_eq!(described.len(), RULES.len(), "a rule is described twice");
        for Rule { description, fix, .. } in RULES {
            assert!(description.ends_with('.') && fix.ends_with('.'), "{description} {fix}");
        }
    }

    /// The rules that find something, each with its words.
    fn found(object: &Value, kind: (&str, &str), facts: &Facts) -> BTreeMap<String, Vec<String>> {
        let review = review("CREATE", kind.0, kind.1, Some(object), None);
        let violations: Vec<_> = match fence::Door::of(&review).unwrap() {
            Some(door) => match door.modes(facts, |_| false) {
                Ok(modes) => modes.iter().flat_map(|(_, class)| door.check(facts, class)).collect(),
                Err(violation) => vec![*violation],
            },
            None => {
                let subject = Subject::of(&review).unwrap().unwrap();
                let case = Case::new(&subject, facts, |_| false);
                let modes = case.modes();
                let of_modes = modes.iter().flat_map(|(mode, class)| case.violations(*mode, class));
                case.refusals().into_iter().chain(of_modes).collect()
            }
        };
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for violation in violations {
            found
                .entry(violation.policy)
                .or_default()
                .push(format!("{} {}", violation.path, violation.message));
        }
        found
    }

    /// What is known, with an annotation that the class allows and the workflow declares.
    fn known() -> Facts {
        let mut facts = facts();
        let (key, value) = ANNOTATION;
        if let Some(Some(class)) = facts.classes.get_mut("default") {
            class["spec"]["identity"] = json!({"annotations": [key]});
        }
        if let Some(workflow) = &mut facts.workflow {
            workflow["spec"]["identity"] = json!({"annotations": {key: value}});
        }
        facts
    }

    /// Pods, workloads and accounts that each rule finds something in by some facts, and nothing by others.
    fn samples() -> Vec<(Value, (&'static str, &'static str))> {
        let spec = json!({
            "serviceAccountName": "other", "containers": [{"name": "a", "image": "quay.io/x"}],
            "volumes": [
                {"name": "h", "hostPath": {"path": "/"}}, {"name": "s", "secret": {"secretName": "s"}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}},
            ],
        });
        let labels = json!({"ringfence.dev/workflow": "triage"});
        let bad =
            json!({"metadata": {"name": "p", "labels": labels, "annotations": {"x.example/y": "z"}}, "spec": spec});
        let unlabelled = set(bad.clone(), "/metadata/labels", json!({}));
        let broken = set(workload("w"), "/spec/template", json!("x"));
        let account = json!({"metadata": {"name": "triage", "annotations": {ANNOTATION.0: ANNOTATION.1}}});
        vec![
            (pod(), ("", "Pod")),
            (bad, ("", "Pod")),
            (unlabelled, ("", "Pod")),
            (workload("w"), ("batch", "Job")),
            (broken, ("batch", "Job")),
            (account, ("", "ServiceAccount")),
        ]
    }

    /// Facts, and the same with one of them on the other side.
    fn changed() -> Vec<(Need, Facts)> {
        let all = known();
        let with = |change: fn(&mut Facts)| {
            let mut facts = all.clone();
            change(&mut facts);
            facts
        };
        vec![
            (Need::Namespace, with(|facts| facts.namespace = None)),
            (
                Need::Namespace,
                with(|facts| {
                    let namespace = json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": {"ringfence.dev/enforce": "default"}}});
                    facts.namespace = Some(namespace);
                }),
            ),
            (Need::Workflow, with(|facts| facts.workflow = None)),
            (
                Need::Workflow,
                with(|facts| {
                    let mut other = workflow_object();
                    other["spec"]["launchers"] = json!([{"user": "bob"}]);
                    other["spec"]["identity"] = json!({
                        "serviceAccountName": "other", "audiences": [{"audience": "vault", "maxExpirationSeconds": 3600}],
                    });
                    other["spec"]["engine"] = json!("argo");
                    facts.workflow = Some(other);
                }),
            ),
            (Need::Class, with(|facts| facts.classes.clear())),
            (
                Need::Class,
                with(|facts| {
                    let spec = json!({
                        "podSecurity": "Baseline", "podAnnotations": ["x.example/"], "cluster": {"dns": {"mode": "ClusterOnly"}},
                        "volumes": {"types": ["hostPath", "projected", "secret"]},
                    });
                    facts.classes = [(
                        "default".to_owned(),
                        Some(json!({"metadata": {"name": "default"}, "spec": spec})),
                    )]
                    .into();
                }),
            ),
            (Need::Account, with(|facts| facts.account = None)),
            (Need::DefaultDeny, with(|facts| facts.default_deny = None)),
        ]
    }

    /// A rule whose words change with a fact looks at it, and says so: without the fact it is not judged where no cluster is there.
    #[test]
    fn a_rule_names_the_facts_that_it_looks_at() {
        let mut seen: BTreeSet<(String, Need)> = BTreeSet::new();
        for (object, kind) in samples() {
            let before = found(&object, kind, &known());
            for (need, facts) in changed() {
                let after = found(&object, kind, &facts);
                let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
                    let rule = rule_of(name).unwrap();
                    assert!(
                        rule.needs.contains(&need),
                        "{name} looks at {need:?} and does not say so"
                    );
                    seen.insert((name.clone(), need));
                }
            }
        }
        for (rule, need) in [
            ("approved-images", Need::Class),
            ("cloud-identity", Need::Class),
            ("cloud-identity", Need::Workflow),
            ("workflow-account", Need::Workflow),
            ("approved-namespace", Need::Namespace),
            ("declared-secrets", Need::Workflow),
            ("declared-workflow", Need::Workflow),
            ("declared-workflow", Need::Class),
            ("default-deny", Need::DefaultDeny),
            ("launcher", Need::Workflow),
            ("own-service-account", Need::Account),
            ("own-service-account", Need::Workflow),
            ("pod-annotations", Need::Class),
            ("pod-dns", Need::Class),
            ("pod-security", Need::Namespace),
            ("pod-template", Need::Namespace),
            ("volumes", Need::Class),
        ] {
            assert!(
                seen.contains(&(rule.to_owned(), need)),
                "{rule} was not seen to look at {need:?}: {seen:?}"
            );
        }
    }

    #[test]
    fn rules_stand_in_order() {
        assert!(RULES.is_sorted_by_key(|rule| rule.name));
    }
}
