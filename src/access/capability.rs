//! What steps over a fence, as data: rights of RBAC, what they are good for, and what to do about who holds them.
//!
//! What Ringfence's webhook refuses in an enforced namespace whoever asks (exec, attach, `services/proxy`, changes of an account)
//! is not here: the right alone does nothing there.

/// Something that can be done past the fence.
#[derive(Debug)]
pub struct Capability {
    /// Name, for machines.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What somebody can do who holds it.
    pub hazard: &'static str,
    /// What to do about who should not.
    pub fix: &'static str,
    /// Where it counts.
    pub reach: Reach,
    /// Any of these.
    pub rights: &'static [Right],
}

/// Where a capability counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// In fenced namespaces.
    Fenced,
    /// In namespaces of launchers that are service accounts, where nothing is enforced.
    Launchers,
    /// In namespaces whose service accounts stand above every fence: Ringfence's own, the system's, those of approvers.
    Platform,
    /// In the cluster: bound by a ClusterRoleBinding alone.
    Cluster,
    /// In the cluster; and who holds it is expected to hold everything else.
    Above,
}

/// Verbs on resources of one group.
#[derive(Debug)]
pub struct Right {
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources, with their subresource behind a `/`; `*` stands for any subresource.
    pub resources: &'static [&'static str],
    /// Names that count where a rule is narrowed by name. None: every name.
    pub names: &'static [&'static str],
}

const fn right(verbs: &'static [&'static str], group: &'static str, resources: &'static [&'static str]) -> Right {
    Right {
        verbs,
        group,
        resources,
        names: &[],
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
/// What makes a pod, or changes what one runs.
const SHAPE: &[&str] = &["create", "update", "patch"];
/// The answer to each of them carries the Secret.
const READ_SECRETS: &[&str] = &["get", "list", "watch", "patch", "delete", "deletecollection"];
/// Signers whose certificates the API server takes for somebody's name.
const CLIENT_SIGNERS: &[&str] = &[
    "kubernetes.io/kube-apiserver-client",
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/*",
];

/// The image of a running pod may be changed: its kubelet starts another in its place, with the same account.
const PODS: Right = right(SHAPE, "", &["pods"]);
const APPS: Right = right(
    SHAPE,
    "apps",
    &["daemonsets", "deployments", "replicasets", "statefulsets"],
);
const JOBS: Right = right(SHAPE, "batch", &["cronjobs", "jobs"]);
const CONTROLLERS: Right = right(SHAPE, "", &["replicationcontrollers"]);
const SESSIONS: Right = right(&["get", "create"], "", &["pods/attach", "pods/exec"]);
const DEBUGGING: Right = right(&["update", "patch"], "", &["pods/ephemeralcontainers"]);
const TOKENS: Right = right(&["create"], "", &["serviceaccounts/token"]);
/// One of type `kubernetes.io/service-account-token` is filled with a token.
const TOKEN_SECRETS: Right = right(SHAPE, "", &["secrets"]);
const SECRETS: Right = right(READ_SECRETS, "", &["secrets"]);
const ACCOUNTS: Right = right(&["impersonate"], "", &["serviceaccounts"]);
/// By constrained impersonation, which Kubernetes 1.36 has on by default. Takes `impersonate-on:` rights beside it, which say little
/// about what is meant to be kept from whom: whoever holds this half is told of.
const CONSTRAINED_ACCOUNTS: Right = right(&["impersonate:serviceaccount"], AUTHENTICATION, &["serviceaccounts"]);
/// By these somebody gives himself what he does not hold, in the namespace where he holds them.
const GRANTS: Right = right(&["bind", "escalate"], RBAC, &["roles"]);
const CLUSTER_GRANTS: Right = right(&["bind"], RBAC, &["clusterroles"]);

/// What the operator puts back as guards and registrations, and which proxies the API server takes anybody's name from. In such a namespace
/// others say as much: who approves is configured beside it. One that is there is said anew by whoever may delete it and create another;
/// to create alone is not counted, for it takes who deletes, and controllers hold it in the system's namespace to elect a leader by.
const SETTINGS: Right = Right {
    verbs: &["update", "patch", "delete", "deletecollection"],
    group: "",
    resources: &["configmaps"],
    names: &["extension-apiserver-authentication", "ringfence-registrations"],
};

/// All of them, the worst first.
pub static CAPABILITIES: [Capability; 15] = [
    Capability {
        name: "impersonate-accounts",
        title: "Impersonate service accounts",
        hazard: "reads as the workflow, whatever its account may read",
        fix: "bind ringfence-tenant instead of edit or admin",
        reach: Reach::Fenced,
        rights: &[ACCOUNTS, CONSTRAINED_ACCOUNTS],
    },
    Capability {
        name: "read-secrets",
        title: "Read Secrets",
        hazard: "has every key that the workflow has",
        fix: "bind ringfence-tenant instead of edit or admin; an operator that must read Secrets gets ringfence-trusted",
        reach: Reach::Fenced,
        rights: &[SECRETS],
    },
    Capability {
        name: "request-tokens",
        title: "Request tokens of service accounts",
        hazard: "is the workflow wherever its account is known; Ringfence refuses it while the namespace enforces",
        fix: "bind ringfence-tenant instead of edit or admin",
        reach: Reach::Fenced,
        rights: &[TOKENS],
    },
    Capability {
        name: "grant-rights",
        title: "Grant rights that one does not hold",
        hazard: "can give anybody there any right, all of the above too",
        fix: "take the verbs bind and escalate out of the role",
        reach: Reach::Fenced,
        rights: &[GRANTS, CLUSTER_GRANTS],
    },
    Capability {
        name: "be-the-launcher",
        title: "Be the launcher",
        hazard: "whoever runs a pod, enters one or gets a token in a launcher's namespace is that launcher, and whoever may give rights there gives himself these",
        fix: "give the launcher a namespace of its own, or let another service account launch",
        reach: Reach::Launchers,
        rights: &[
            PODS,
            APPS,
            JOBS,
            CONTROLLERS,
            SESSIONS,
            DEBUGGING,
            TOKENS,
            TOKEN_SECRETS,
            ACCOUNTS,
            CONSTRAINED_ACCOUNTS,
            GRANTS,
            CLUSTER_GRANTS,
        ],
    },
    Capability {
        name: "be-the-platform",
        title: "Be the platform",
        hazard: "whoever runs a pod, enters one, gets a token or a Secret there, or changes or deletes a ConfigMap, is Ringfence, a built-in controller or an approver, or says what they do",
        fix: "bind nothing in the platform's namespaces to people who are not the platform",
        reach: Reach::Platform,
        rights: &[
            PODS,
            APPS,
            JOBS,
            CONTROLLERS,
            SESSIONS,
            DEBUGGING,
            TOKENS,
            TOKEN_SECRETS,
            SECRETS,
            ACCOUNTS,
            CONSTRAINED_ACCOUNTS,
            GRANTS,
            CLUSTER_GRANTS,
            SETTINGS,
        ],
    },
    Capability {
        name: "impersonate-people",
        title: "Impersonate users, groups or nodes",
        hazard: "is whoever they like: an approver, a launcher, a node that gets the tokens of its pods",
        fix: "narrow the rule by resourceNames to who is meant, or take it away",
        reach: Reach::Cluster,
        rights: &[
            right(&["impersonate"], "", &["users", "groups"]),
            right(&["impersonate"], AUTHENTICATION, &["uids", "userextras/*"]),
            right(
                &["impersonate:user-info"],
                AUTHENTICATION,
                &["users", "groups", "uids", "userextras/*"],
            ),
            right(
                &["impersonate:arbitrary-node", "impersonate:associated-node"],
                AUTHENTICATION,
                &["nodes"],
            ),
        ],
    },
    Capability {
        name: "reach-kubelets",
        title: "Reach the kubelets",
        hazard: "runs commands in every pod, or reads what it writes, past the API server",
        fix: "take nodes/proxy out of the role; metrics need nodes/metrics and nodes/stats only",
        reach: Reach::Cluster,
        // nodes/metrics, stats, healthz and configz tell of no pod's content.
        rights: &[
            right(&["get", "create", "update", "patch", "delete"], "", &["nodes/proxy"]),
            right(&["get"], "", &["nodes/log", "nodes/pods"]),
            right(&["create"], "", &["nodes/checkpoint"]),
        ],
    },
    Capability {
        name: "write-admission",
        title: "Write what admission rests on",
        hazard: "can take the fence's registrations and guards away, or change what others send",
        fix: "leave these kinds to the platform",
        reach: Reach::Cluster,
        rights: &[right(
            WRITE,
            "admissionregistration.k8s.io",
            &[
                "validatingwebhookconfigurations",
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "mutatingwebhookconfigurations",
                "mutatingadmissionpolicies",
                "mutatingadmissionpolicybindings",
            ],
        )],
    },
    Capability {
        name: "write-definitions",
        title: "Write definitions of kinds",
        hazard: "can change what an AIWorkflow is, or who answers for a kind",
        fix: "leave these kinds to the platform",
        reach: Reach::Cluster,
        rights: &[
            right(WRITE, "apiextensions.k8s.io", &["customresourcedefinitions"]),
            right(WRITE, "apiregistration.k8s.io", &["apiservices"]),
        ],
    },
    Capability {
        name: "grant-cluster-rights",
        title: "Grant rights in the cluster that one does not hold",
        hazard: "can give anybody any right",
        fix: "take the verbs bind and escalate out of the role",
        reach: Reach::Cluster,
        rights: &[right(&["bind", "escalate"], RBAC, &["clusterroles"])],
    },
    Capability {
        name: "certify-names",
        title: "Approve or sign certificates of users",
        hazard: "can make a certificate for any name",
        fix: "leave the verbs approve and sign on the client signers to the platform",
        reach: Reach::Cluster,
        rights: &[Right {
            verbs: &["approve", "sign"],
            group: "certificates.k8s.io",
            resources: &["signers"],
            names: CLIENT_SIGNERS,
        }],
    },
    Capability {
        name: "write-cluster-settings",
        title: "Write classes, policies and network policies of the cluster",
        hazard: "says what is allowed in every fence, or overrules its NetworkPolicies",
        fix: "leave these kinds to the platform",
        reach: Reach::Cluster,
        rights: &[
            right(WRITE, "ringfence.dev", &["aiworkflowclasses", "regopolicies"]),
            right(
                WRITE,
                "cilium.io",
                &["ciliumclusterwideenvoyconfigs", "ciliumclusterwidenetworkpolicies"],
            ),
            right(WRITE, "crd.projectcalico.org", &["globalnetworkpolicies"]),
            right(WRITE, "projectcalico.org", &["globalnetworkpolicies"]),
            right(WRITE, "crd.antrea.io", &["clusternetworkpolicies"]),
            right(WRITE, "networking.k8s.aws", &["clusternetworkpolicies"]),
            right(
                WRITE,
                "policy.networking.k8s.io",
                &[
                    "adminnetworkpolicies",
                    "baselineadminnetworkpolicies",
                    "clusternetworkpolicies",
                ],
            ),
        ],
    },
    Capability {
        name: "approve",
        title: "Approve (break-glass)",
        hazard: "sets and removes modes: is the platform",
        fix: "unbind ringfence-approver, or narrow it to one class by resourceNames",
        reach: Reach::Above,
        rights: &[right(&["approve"], "ringfence.dev", &["aiworkflowclasses"])],
    },
    Capability {
        name: "trust",
        title: "Trusted to hold more",
        hazard: "nothing by itself: whoever bound it knows of what else this holder holds",
        fix: "unbind ringfence-trusted",
        reach: Reach::Above,
        rights: &[right(&["trust"], "ringfence.dev", &["aiworkflowclasses"])],
    },
];

impl Capability {
    /// Whether it lets tenants be more than tenants: what the condition `TenantsBounded` is about.
    pub fn unbinds_tenants(&self) -> bool {
        matches!(
            self.name,
            "impersonate-accounts" | "read-secrets" | "request-tokens" | "impersonate-people"
        )
    }
}
