//! What anybody may try in one place: made up at random, from a seed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Who tries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// A service account of the other namespace, by its own token: a launcher of most workflows.
    Account,
    /// Built-in `admin` of the namespace.
    Ada,
    /// Built-in `edit` of the namespace.
    Edith,
    /// A launcher of most workflows, whom RBAC lets do anything.
    Lea,
    /// Somebody who impersonates the service account.
    Mask,
    /// Built-in `admin` of the other namespace.
    Otto,
    /// RBAC lets him do anything, and no declaration names him.
    Root,
    /// The role for tenants: a launcher of some.
    Tess,
}

/// AIWorkflows by name.
pub const WORKFLOWS: [&str; 3] = ["alpha", "beta", "gamma"];
/// Names of everything else.
pub const NAMES: [&str; 3] = ["one", "two", "three"];
/// Kinds that are pods or make some.
pub const RUNNING: [&str; 6] = ["Pod", "Pod", "Job", "CronJob", "Deployment", "ReplicaSet"];

/// One field by which a pod does not fit, or may not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Twist {
    /// None.
    Clean,
    /// No label on object and template.
    NoLabel,
    /// A label on the object, none on the template.
    NoLabelInside,
    /// Another workflow's label on the template alone.
    OtherLabelInside,
    /// Another account.
    OtherAccount,
    /// Another image: of a container, an init container, a volume.
    Image(&'static str, &'static str),
    /// The node's network, processes, ports or files.
    Node(&'static str),
    /// A Secret, by the way it is referred to.
    Secret(&'static str, &'static str),
    /// A token for somebody else.
    Audience,
    /// A second network interface.
    Interface,
    /// Somebody else's object as controlling owner.
    Owner,
}

/// What a patch does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patch {
    /// Another image in the template.
    Image(&'static str),
    /// The label of another workflow, or none.
    Label(Option<&'static str>),
    /// A label that means nothing to Ringfence.
    Tag,
    /// Replicas, or suspension: free.
    Scale(u8),
    /// An annotation of a plugin.
    Interface,
    /// Somebody else's object as controlling owner.
    Owner,
    /// A container for debugging.
    Ephemeral,
    /// Labels through `pods/status`.
    Status,
    /// Labels through `pods/binding`.
    Binding,
}

/// Parts of a declaration, by number: what they are is in `declarations.rs`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parts {
    pub launchers: usize,
    pub images: usize,
    pub rules: usize,
    pub secrets: usize,
    pub network: usize,
    pub account: usize,
}

/// One thing that somebody tries.
#[derive(Clone, Debug)]
pub enum Operation {
    Declare {
        name: &'static str,
        parts: Parts,
    },
    Withdraw {
        name: &'static str,
        orphan: bool,
    },
    Make {
        kind: &'static str,
        name: &'static str,
        workflow: &'static str,
        twist: Twist,
    },
    /// Of something that was made here.
    Change {
        pick: Index,
        patch: Patch,
    },
    Delete {
        pick: Index,
    },
    /// A binding of an account: `ServiceAccount`, `User` or `Group`.
    Bind {
        elsewhere: bool,
        cluster: bool,
        subject: &'static str,
        workflow: &'static str,
    },
    /// A service account: made, annotated, deleted.
    Account {
        name: &'static str,
        act: &'static str,
    },
    /// A token by request, or by a Secret.
    Token {
        secret: bool,
        workflow: &'static str,
    },
    /// What Ringfence made is changed or deleted.
    Tamper {
        kind: &'static str,
        how: &'static str,
    },
    Policy {
        opens: bool,
    },
    Service {
        type_: &'static str,
    },
    Slice,
    /// A plain ConfigMap or Secret, or one with the workflow's label.
    Plain {
        kind: &'static str,
        name: &'static str,
        label: Option<&'static str>,
    },
    /// A reserved key.
    Key {
        kind: &'static str,
        key: &'static str,
    },
    /// A mode label, through one of the doors of a Namespace.
    Mode {
        door: &'static str,
        value: Option<&'static str>,
    },
    /// The platform changes its class.
    Class {
        images: usize,
        rules: bool,
    },
    /// The platform takes the fence away, or puts it there.
    Fence {
        stands: bool,
    },
}

fn who() -> impl Strategy<Value = Who> {
    select(vec![
        Who::Account,
        Who::Ada,
        Who::Edith,
        Who::Lea,
        Who::Lea,
        Who::Mask,
        Who::Otto,
        Who::Root,
        Who::Tess,
        Who::Tess,
    ])
}

fn twist() -> impl Strategy<Value = Twist> {
    let images = select(vec![
        "docker.io/library/miner",
        "registry.example.com/other/tool:1",
        "registry.example.com.evil.example/finance/a",
        "registry.example.com/finance/sub/tool@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    prop_oneof![
        10 => Just(Twist::Clean),
        1 => select(vec![
            Twist::NoLabel, Twist::NoLabelInside, Twist::OtherLabelInside, Twist::OtherAccount, Twist::Audience,
            Twist::Interface, Twist::Owner,
        ]),
        1 => (select(vec!["container", "init", "volume"]), images).prop_map(|(place, image)| Twist::Image(place, image)),
        1 => select(vec!["hostNetwork", "hostPID", "hostPath", "hostPort"]).prop_map(Twist::Node),
        1 => (select(vec!["env", "envFrom", "volume", "projected", "pull"]), select(vec!["model", "payroll"]))
            .prop_map(|(way, secret)| Twist::Secret(way, secret)),
    ]
}

fn patch() -> impl Strategy<Value = Patch> {
    select(vec![
        Patch::Image("registry.example.com/finance/next:2"),
        Patch::Image("docker.io/library/miner"),
        Patch::Label(None),
        Patch::Label(Some("alpha")),
        Patch::Label(Some("beta")),
        Patch::Tag,
        Patch::Scale(0),
        Patch::Scale(2),
        Patch::Interface,
        Patch::Owner,
        Patch::Ephemeral,
        Patch::Status,
        Patch::Binding,
    ])
}

fn parts() -> impl Strategy<Value = Parts> {
    let small = || prop_oneof![12 => Just(0usize), 1 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(4)];
    (small(), small(), small(), small(), 0usize..9, small()).prop_map(
        |(launchers, images, rules, secrets, network, account)| Parts {
            launchers,
            images,
            rules,
            secrets,
            network,
            account,
        },
    )
}

/// Somebody makes something that runs.
fn make() -> impl Strategy<Value = Operation> {
    // Mostly of the workflow that is there from the beginning.
    let workflow = prop_oneof![3 => Just("alpha"), 1 => select(WORKFLOWS.to_vec())];
    (select(RUNNING.to_vec()), select(NAMES.to_vec()), workflow, twist()).prop_map(|(kind, name, workflow, twist)| {
        Operation::Make {
            kind,
            name,
            workflow,
            twist,
        }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    // Mostly the one that is there from the beginning.
    let workflow = || prop_oneof![3 => Just("alpha"), 1 => select(WORKFLOWS.to_vec())];
    let name = || select(NAMES.to_vec());
    prop_oneof![
        4 => (workflow(), parts()).prop_map(|(name, parts)| Operation::Declare { name, parts }),
        1 => (select(WORKFLOWS.to_vec()), any::<bool>()).prop_map(|(name, orphan)| Operation::Withdraw { name, orphan }),
        8 => make(),
        6 => (any::<Index>(), patch()).prop_map(|(pick, patch)| Operation::Change { pick, patch }),
        1 => any::<Index>().prop_map(|pick| Operation::Delete { pick }),
        2 => (any::<bool>(), any::<bool>(), select(vec!["ServiceAccount", "User", "Group"]), workflow())
            .prop_map(|(elsewhere, cluster, subject, workflow)| Operation::Bind { elsewhere, cluster, subject, workflow }),
        1 => (select(vec!["alpha", "beta", "gamma", "helper"]), select(vec!["make", "cloud", "own", "delete"]))
            .prop_map(|(name, act)| Operation::Account { name, act }),
        1 => (any::<bool>(), workflow()).prop_map(|(secret, workflow)| Operation::Token { secret, workflow }),
        2 => (select(vec!["NetworkPolicy", "Role", "RoleBinding", "ServiceAccount"]), select(vec!["change", "unmark", "orphan", "delete"]))
            .prop_map(|(kind, how)| Operation::Tamper { kind, how }),
        1 => any::<bool>().prop_map(|opens| Operation::Policy { opens }),
        2 => select(vec!["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "externalIPs", "none"])
            .prop_map(|type_| Operation::Service { type_ }),
        1 => Just(Operation::Slice),
        1 => (select(vec!["ConfigMap", "Secret"]), name(), prop::option::of(workflow()))
            .prop_map(|(kind, name, label)| Operation::Plain { kind, name, label }),
        1 => (select(vec!["ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "AIWorkflow"]),
              select(vec!["ringfence.dev/owner-uid", "ringfence.dev/adopt", "ringfence.dev/reviewed", "ringfence.dev/aggregate-to-ceiling"]))
            .prop_map(|(kind, key)| Operation::Key { kind, key }),
        1 => (select(vec!["", "/status", "/finalize"]), prop::option::of(select(vec!["default", "else"])))
            .prop_map(|(door, value)| Operation::Mode { door, value }),
        1 => (select(vec![0, 0, 1, 2]), prop::bool::weighted(0.8)).prop_map(|(images, rules)| Operation::Class { images, rules }),
    ]
}

/// A sequence for one place. `gaps` says whether the platform takes its fence away in the middle of it.
pub fn sequence(seed: u64, case: u64, length: usize, gaps: bool) -> Vec<(Who, Operation)> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&case.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let launcher = select(vec![Who::Account, Who::Lea]);
    let act = prop_oneof![2 => (launcher, make()).boxed(), 5 => (who(), operation()).boxed()];
    let strategy = vec(act, length);
    let mut sequence = strategy.new_tree(&mut runner).expect("a sequence").current();
    if gaps {
        sequence.insert(length / 3, (Who::Root, Operation::Fence { stands: false }));
        sequence.insert(length / 2, (Who::Root, Operation::Fence { stands: true }));
    }
    sequence
}
