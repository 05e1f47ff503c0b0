//! The built-in rules in words: what each demands, and what to do when it refuses. For whoever reads its name in a line later.
//!
//! Must never: miss a rule of `fence` or `findings`, or name one that is gone; a test reads their sources.

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
}

const fn rule(name: &'static str, description: &'static str, fix: &'static str) -> Rule {
    Rule {
        name,
        description,
        fix,
        replays: false,
    }
}

const fn replayed(name: &'static str, description: &'static str, fix: &'static str) -> Rule {
    Rule {
        replays: true,
        ..rule(name, description, fix)
    }
}

/// Every built-in rule, by name.
pub const RULES: [Rule; 29] = [
    rule(
        "accepted-declaration",
        "An AIWorkflow, grant or exception that its class would not accept today is stored all the same, with a warning.",
        "Correct what the warning names, or ask the platform team to widen the class.",
    ),
    replayed(
        "approved-images",
        "Every image comes from a repository that both the workflow and the class name, or that the class names as injected; by digest where the class asks for that.",
        "Use an image of such a repository, or add the repository to spec.images of the AIWorkflow.",
    ),
    replayed(
        "approved-namespace",
        "What carries the workflow label lies in a namespace with a mode.",
        "Remove the label, or ask the platform team to label the namespace ringfence.dev/enforce.",
    ),
    rule(
        "closed-service",
        "A Service of an enforced namespace is of type ClusterIP, selects its pods, and has no external address.",
        "Use type ClusterIP with a selector, and declare who may reach it in spec.network of the AIWorkflow.",
    ),
    rule(
        "cloud-identity",
        "What a cloud or Vault knows an account of an enforced namespace by comes from its AIWorkflow.",
        "Declare the annotation in spec.identity.annotations of the AIWorkflow, and leave it out of the service account.",
    ),
    rule(
        "debug-window",
        "Nobody opens anything into a fenced pod unless its workflow declares a window, its class allows windows, and it is open now.",
        "Declare spec.debug in the AIWorkflow with what to open and until when.",
    ),
    rule(
        "declaration-size",
        "A declaration does not grow beyond what Ringfence can hold of many.",
        "Make its metadata smaller: annotations above all.",
    ),
    rule(
        "declared-workflow",
        "A pod, and whatever makes pods, names an AIWorkflow of its namespace that is there, reviewed and accepted by the class.",
        "Set the label ringfence.dev/workflow on the object and its pod template, and see kubectl describe aiworkflow.",
    ),
    rule(
        "default-deny",
        "A pod is made only where the namespace's default-deny NetworkPolicy stands unchanged.",
        "Wait until Ringfence has made it; kubectl get networkpolicy ringfence shows it.",
    ),
    rule(
        "exempt-namespace",
        "Declarations lie in namespaces that can be fenced: never in the platform's own.",
        "Put it into another namespace.",
    ),
    rule(
        "extra-binding",
        "No RoleBinding or ClusterRoleBinding gives an account of a fenced namespace more than is declared.",
        "Declare the rights in spec.permissions of the AIWorkflow, and take the subject out of the binding.",
    ),
    replayed(
        "fixed-label",
        "A pod keeps the workflow label that it was made with.",
        "Delete the pod, and create it with the right label.",
    ),
    rule(
        "foreign-endpoints",
        "Who is behind a Service of an enforced namespace, the built-in controllers find out from its selector.",
        "Give the Service a selector, and leave Endpoints and EndpointSlices to the controllers.",
    ),
    rule(
        "foreign-network-policy",
        "No NetworkPolicy beside Ringfence's opens what is not declared, and no policy of a network plugin's own kind overrules it.",
        "Declare what it opens in spec.network of the AIWorkflow, and delete it.",
    ),
    rule(
        "launcher",
        "What runs as a workflow is made or changed by its launchers alone: those of the AIWorkflow or the class, and built-in controllers for an owner that holds.",
        "Have a launcher do it, or add who did to spec.launchers of the AIWorkflow.",
    ),
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
    ),
    rule(
        "own-service-account",
        "A pod runs as its workflow's service account, and that account is the one that Ringfence made.",
        "Set spec.serviceAccountName to the workflow's account, and wait until the AIWorkflow is Ready.",
    ),
    rule(
        "ownerless-object",
        "What Ringfence made for an owner goes with it.",
        "Delete what was left behind, or make the owner again.",
    ),
    replayed(
        "pod-annotations",
        "A pod carries only annotations that the class or the engine lists: runtimes, meshes and network plugins obey them.",
        "Remove the annotation, or ask the platform team to list its key in spec.podAnnotations of the class.",
    ),
    replayed(
        "pod-security",
        "The API server itself holds the namespace's pods to the class's Pod Security Standard.",
        "Have the namespace labelled pod-security.kubernetes.io/enforce with at least that level.",
    ),
    replayed(
        "pod-template",
        "An object that makes pods has its pod template where its kind has it.",
        "Put the pod's metadata and spec there.",
    ),
    replayed(
        "projected-tokens",
        "A pod mounts tokens only for audiences, and for as long, as workflow and class declare.",
        "Declare the audience in spec.identity.audiences of the AIWorkflow, or remove the token.",
    ),
    rule(
        "token-request",
        "Accounts of an enforced namespace get tokens through their pods: by kubelets, and nobody else.",
        "Run what needs the token as a pod of the workflow.",
    ),
    rule(
        "token-secret",
        "No Secret holds a token of a service account that never ends.",
        "Use a projected token, and delete the Secret.",
    ),
    rule(
        "valid-declaration",
        "A declaration holds nothing that no class could accept.",
        "Correct the field that the refusal names.",
    ),
    replayed(
        "volumes",
        "A pod mounts only volumes of types, and CSI volumes of drivers, that the class lists; and no devices.",
        "Use a listed type, or ask the platform team to add it to spec.volumes of the class.",
    ),
    rule(
        "workflow-account",
        "The service account of an AIWorkflow is made by Ringfence alone: rights and cloud roles go by its name.",
        "Leave it to Ringfence, or give the account another name.",
    ),
];

/// The rule of that name.
pub fn rule_of(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// Texts in constants of these rooms that are no rules.
    const NO_RULES: [&str; 1] = ["spec"];

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

    #[test]
    fn rules_stand_in_order() {
        assert!(RULES.is_sorted_by_key(|rule| rule.name));
    }
}
