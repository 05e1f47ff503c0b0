//! What is readable of each object that the fence judges: names, kinds, images, what a container may do, and how much of it.
//!
//! Must never: list a field that can hold what somebody made up (env values, arguments, annotations, data of ConfigMaps and
//! Secrets). What a newer Kubernetes adds is masked until it stands here.

use super::mask::Shape::{self, Closed, Dropped, Fields, Image, List, Map, Object, OneOf, Open, Plain, Who};
use crate::api::GROUP;

static NAMES: Shape = List(&Plain);
static LABELS: Shape = Map(&Plain);
static ANNOTATIONS: Shape = Map(&Closed);
static KIND: Shape = Fields(&[
    ("group", &Plain),
    ("version", &Plain),
    ("kind", &Plain),
    ("resource", &Plain),
]);
static NAMED: Shape = Fields(&[("name", &Plain), ("optional", &Plain)]);

/// An AdmissionRequest.
pub(super) static REQUEST: Shape = Fields(&[
    ("uid", &Plain),
    ("kind", &KIND),
    ("resource", &KIND),
    ("subResource", &Plain),
    ("requestKind", &KIND),
    ("requestResource", &KIND),
    ("requestSubResource", &Plain),
    ("name", &Plain),
    ("namespace", &Plain),
    ("operation", &Plain),
    ("userInfo", &USER),
    ("object", &Object),
    ("oldObject", &Object),
    ("dryRun", &Plain),
    ("options", &OPTIONS),
]);
// What an authenticator adds in `extra` may be a credential: its keys tell enough.
static USER: Shape = Fields(&[("username", &Who), ("uid", &Plain), ("groups", &Who)]);
static OPTIONS: Shape = Fields(&[
    ("apiVersion", &Plain),
    ("kind", &Plain),
    ("fieldManager", &Plain),
    ("fieldValidation", &Plain),
    ("dryRun", &NAMES),
]);

static OWNERS: Shape = List(&Fields(&[
    ("apiVersion", &Plain),
    ("kind", &Plain),
    ("name", &Plain),
    ("uid", &Plain),
]));
static METADATA: Shape = Fields(&[
    ("name", &Plain),
    ("generateName", &Plain),
    ("namespace", &Plain),
    ("uid", &Plain),
    ("resourceVersion", &Plain),
    ("generation", &Plain),
    ("creationTimestamp", &Plain),
    ("deletionTimestamp", &Plain),
    ("deletionGracePeriodSeconds", &Plain),
    ("labels", &LABELS),
    ("annotations", &ANNOTATIONS),
    ("ownerReferences", &OWNERS),
    ("finalizers", &NAMES),
    ("managedFields", &Dropped),
]);

/// An object of a kind that is not known here.
static OTHER: Shape = Fields(&[("apiVersion", &Plain), ("kind", &Plain), ("metadata", &METADATA)]);
/// Of our own kinds: declarations, which hold names, patterns and addresses.
pub(super) static OURS: Shape = Fields(&[
    ("apiVersion", &Plain),
    ("kind", &Plain),
    ("metadata", &METADATA),
    ("spec", &Open),
    ("status", &Open),
]);
static EXCEPTION: Shape = Fields(&[
    ("apiVersion", &Plain),
    ("kind", &Plain),
    ("metadata", &METADATA),
    (
        "spec",
        &Fields(&[
            ("policies", &NAMES),
            ("names", &NAMES),
            ("objectSelector", &SELECTOR),
            ("expiresAt", &Plain),
        ]),
    ),
]);
/// What the class makes of an engine's profile.
pub(super) static ENGINE: Shape = Open;
/// A Namespace.
pub(super) static NAMESPACE: Shape = Fields(&[
    ("apiVersion", &Plain),
    ("kind", &Plain),
    ("metadata", &METADATA),
    ("spec", &Fields(&[("finalizers", &NAMES)])),
    ("status", &Fields(&[("phase", &Plain)])),
]);
/// What controllers count; what they say is masked.
static STATUS: Shape = Fields(&[
    ("phase", &Plain),
    ("qosClass", &Plain),
    ("replicas", &Plain),
    ("active", &Plain),
]);
static POD: Shape = Fields(&[
    ("apiVersion", &Plain),
    ("kind", &Plain),
    ("metadata", &METADATA),
    ("spec", &POD_SPEC),
    ("status", &STATUS),
]);
static POD_TEMPLATE: Shape = Fields(&[
    ("apiVersion", &Plain),
    ("kind", &Plain),
    ("metadata", &METADATA),
    ("template", &POD),
]);
static WORKLOAD: Shape = Fields(&[
    ("apiVersion", &Plain),
    ("kind", &Plain),
    ("metadata", &METADATA),
    ("spec", &WORKLOAD_SPEC),
    ("status", &STATUS),
]);

static SELECTOR: Shape = Fields(&[("matchLabels", &LABELS), ("matchExpressions", &EXPRESSIONS)]);
static EXPRESSIONS: Shape = List(&Fields(&[("key", &Plain), ("operator", &Plain), ("values", &NAMES)]));

/// Deployments, Jobs and their like; a ReplicationController's selector is a map.
static WORKLOAD_SPEC: Shape = Fields(&[
    ("replicas", &Plain),
    ("selector", &SELECTOR),
    ("template", &POD),
    ("jobTemplate", &WORKLOAD),
    ("serviceName", &Plain),
    ("minReadySeconds", &Plain),
    ("revisionHistoryLimit", &Plain),
    ("progressDeadlineSeconds", &Plain),
    ("podManagementPolicy", &Plain),
    ("strategy", &STRATEGY),
    ("updateStrategy", &STRATEGY),
    ("volumeClaimTemplates", &List(&CLAIM)),
    ("parallelism", &Plain),
    ("completions", &Plain),
    ("completionMode", &Plain),
    ("podReplacementPolicy", &Plain),
    ("backoffLimit", &Plain),
    ("activeDeadlineSeconds", &Plain),
    ("ttlSecondsAfterFinished", &Plain),
    ("managedBy", &Plain),
    ("timeZone", &Plain),
    ("concurrencyPolicy", &Plain),
    ("startingDeadlineSeconds", &Plain),
    ("successfulJobsHistoryLimit", &Plain),
    ("failedJobsHistoryLimit", &Plain),
]);
static STRATEGY: Shape = Fields(&[("type", &Plain), ("rollingUpdate", &Map(&Plain))]);

static POD_SPEC: Shape = Fields(&[
    ("containers", &List(&CONTAINER)),
    ("initContainers", &List(&CONTAINER)),
    ("ephemeralContainers", &List(&CONTAINER)),
    ("volumes", &List(&VOLUME)),
    ("securityContext", &SECURITY),
    ("serviceAccountName", &Plain),
    ("serviceAccount", &Plain),
    ("imagePullSecrets", &List(&NAMED)),
    ("restartPolicy", &Plain),
    ("nodeName", &Plain),
    ("nodeSelector", &LABELS),
    ("hostname", &Plain),
    ("subdomain", &Plain),
    ("schedulerName", &Plain),
    ("priorityClassName", &Plain),
    ("priority", &Plain),
    ("preemptionPolicy", &Plain),
    ("runtimeClassName", &Plain),
    ("os", &NAMED),
    ("dnsPolicy", &Plain),
    ("terminationGracePeriodSeconds", &Plain),
    ("activeDeadlineSeconds", &Plain),
    ("tolerations", &List(&TOLERATION)),
    ("affinity", &AFFINITY),
    ("topologySpreadConstraints", &List(&SPREAD)),
    ("resources", &RESOURCES),
    ("overhead", &LABELS),
    ("hostAliases", &List(&Fields(&[("ip", &Plain), ("hostnames", &NAMES)]))),
    ("dnsConfig", &Fields(&[("nameservers", &NAMES), ("searches", &NAMES)])),
    (
        "resourceClaims",
        &List(&Fields(&[("name", &Plain), ("resourceClaimName", &Plain)])),
    ),
]);
static TOLERATION: Shape = Fields(&[
    ("key", &Plain),
    ("operator", &Plain),
    ("value", &Plain),
    ("effect", &Plain),
    ("tolerationSeconds", &Plain),
]);
static SPREAD: Shape = Fields(&[
    ("maxSkew", &Plain),
    ("topologyKey", &Plain),
    ("whenUnsatisfiable", &Plain),
    ("labelSelector", &SELECTOR),
]);
static AFFINITY: Shape = Fields(&[("podAffinity", &POD_AFFINITY), ("podAntiAffinity", &POD_AFFINITY)]);
static POD_AFFINITY: Shape = Fields(&[
    ("requiredDuringSchedulingIgnoredDuringExecution", &List(&TERM)),
    (
        "preferredDuringSchedulingIgnoredDuringExecution",
        &List(&Fields(&[("weight", &Plain), ("podAffinityTerm", &TERM)])),
    ),
]);
static TERM: Shape = Fields(&[
    ("labelSelector", &SELECTOR),
    ("namespaceSelector", &SELECTOR),
    ("namespaces", &NAMES),
    ("topologyKey", &Plain),
]);

static CONTAINER: Shape = Fields(&[
    ("name", &Plain),
    ("image", &Image),
    ("imagePullPolicy", &Plain),
    ("env", &List(&ENV)),
    ("envFrom", &List(&ENV_FROM)),
    ("ports", &List(&PORT)),
    ("resources", &RESOURCES),
    ("securityContext", &SECURITY),
    ("volumeMounts", &List(&MOUNT)),
    (
        "volumeDevices",
        &List(&Fields(&[("name", &Plain), ("devicePath", &Plain)])),
    ),
    ("restartPolicy", &Plain),
    ("livenessProbe", &PROBE),
    ("readinessProbe", &PROBE),
    ("startupProbe", &PROBE),
    (
        "lifecycle",
        &Fields(&[("preStop", &PROBE), ("postStart", &PROBE), ("stopSignal", &Plain)]),
    ),
    ("terminationMessagePath", &OneOf(&["/dev/termination-log"])),
    ("terminationMessagePolicy", &Plain),
    ("targetContainerName", &Plain),
]);
/// What is asked, not what is sent along: paths and headers hold tokens.
static PROBE: Shape = Fields(&[
    (
        "httpGet",
        &Fields(&[("host", &Plain), ("port", &Plain), ("scheme", &Plain)]),
    ),
    ("tcpSocket", &Fields(&[("host", &Plain), ("port", &Plain)])),
    ("grpc", &Fields(&[("port", &Plain)])),
    ("sleep", &Fields(&[("seconds", &Plain)])),
    ("periodSeconds", &Plain),
    ("timeoutSeconds", &Plain),
    ("failureThreshold", &Plain),
    ("successThreshold", &Plain),
    ("initialDelaySeconds", &Plain),
    ("terminationGracePeriodSeconds", &Plain),
]);
static ENV: Shape = Fields(&[
    ("name", &Plain),
    (
        "valueFrom",
        &Fields(&[
            ("secretKeyRef", &KEY),
            ("configMapKeyRef", &KEY),
            ("fieldRef", &FIELD),
            ("resourceFieldRef", &RESOURCE_FIELD),
            (
                "fileKeyRef",
                &Fields(&[("volumeName", &Plain), ("path", &Plain), ("key", &Plain)]),
            ),
        ]),
    ),
]);
static ENV_FROM: Shape = Fields(&[("prefix", &Plain), ("configMapRef", &NAMED), ("secretRef", &NAMED)]);
static KEY: Shape = Fields(&[("name", &Plain), ("key", &Plain)]);
static FIELD: Shape = Fields(&[("apiVersion", &Plain), ("fieldPath", &Plain)]);
static RESOURCE_FIELD: Shape = Fields(&[("containerName", &Plain), ("resource", &Plain), ("divisor", &Plain)]);
static PORT: Shape = Fields(&[
    ("name", &Plain),
    ("containerPort", &Plain),
    ("hostPort", &Plain),
    ("hostIP", &Plain),
    ("protocol", &Plain),
]);
static RESOURCES: Shape = Fields(&[
    ("requests", &LABELS),
    ("limits", &LABELS),
    ("claims", &List(&Fields(&[("name", &Plain), ("request", &Plain)]))),
]);
static MOUNT: Shape = Fields(&[
    ("name", &Plain),
    ("mountPath", &Plain),
    ("subPath", &Plain),
    ("mountPropagation", &Plain),
    ("recursiveReadOnly", &Plain),
]);

/// Of pods and of containers.
static SECURITY: Shape = Fields(&[
    ("runAsUser", &Plain),
    ("runAsGroup", &Plain),
    ("fsGroup", &Plain),
    ("fsGroupChangePolicy", &Plain),
    ("supplementalGroups", &NAMES),
    ("supplementalGroupsPolicy", &Plain),
    ("procMount", &Plain),
    ("capabilities", &Fields(&[("add", &NAMES), ("drop", &NAMES)])),
    ("seLinuxOptions", &LABELS),
    ("seLinuxChangePolicy", &Plain),
    ("seccompProfile", &PROFILE),
    ("appArmorProfile", &PROFILE),
    // Names alone: what a sysctl is set to, and credential specs of Windows, are texts.
    ("sysctls", &List(&Fields(&[("name", &Plain)]))),
    (
        "windowsOptions",
        &Fields(&[("gmsaCredentialSpecName", &Plain), ("runAsUserName", &Plain)]),
    ),
]);
static PROFILE: Shape = Fields(&[("type", &Plain), ("localhostProfile", &Plain)]);

/// Of a type that is not here, such as one that dials out, the settings are masked, and that it is one stays.
static VOLUME: Shape = Fields(&[
    ("name", &Plain),
    ("configMap", &CONFIG_MAP),
    (
        "secret",
        &Fields(&[("secretName", &Plain), ("items", &List(&ITEM)), ("defaultMode", &Plain)]),
    ),
    ("emptyDir", &Fields(&[("medium", &Plain), ("sizeLimit", &Plain)])),
    ("persistentVolumeClaim", &Fields(&[("claimName", &Plain)])),
    ("hostPath", &Fields(&[("path", &Plain), ("type", &Plain)])),
    ("downwardAPI", &DOWNWARD),
    (
        "projected",
        &Fields(&[
            ("defaultMode", &Plain),
            (
                "sources",
                &List(&Fields(&[
                    ("configMap", &CONFIG_MAP),
                    ("secret", &CONFIG_MAP),
                    ("downwardAPI", &DOWNWARD),
                    ("serviceAccountToken", &TOKEN),
                ])),
            ),
        ]),
    ),
    ("ephemeral", &Fields(&[("volumeClaimTemplate", &CLAIM)])),
    (
        "csi",
        &Fields(&[
            ("driver", &Plain),
            ("fsType", &Plain),
            ("volumeAttributes", &Fields(&[("secretName", &Plain)])),
            ("nodePublishSecretRef", &NAMED),
        ]),
    ),
    ("image", &Fields(&[("reference", &Image), ("pullPolicy", &Plain)])),
    ("azureFile", &Fields(&[("secretName", &Plain)])),
    ("cephfs", &LOGS_IN),
    ("flexVolume", &LOGS_IN),
    ("iscsi", &LOGS_IN),
    ("rbd", &LOGS_IN),
    ("scaleIO", &LOGS_IN),
    ("storageos", &LOGS_IN),
]);
/// Of a driver, the Secret that it logs in with.
static LOGS_IN: Shape = Fields(&[("secretRef", &NAMED)]);
static ITEM: Shape = Fields(&[("key", &Plain), ("path", &Plain), ("mode", &Plain)]);
static CONFIG_MAP: Shape = Fields(&[("name", &Plain), ("items", &List(&ITEM)), ("defaultMode", &Plain)]);
static DOWNWARD: Shape = Fields(&[(
    "items",
    &List(&Fields(&[
        ("path", &Plain),
        ("mode", &Plain),
        ("fieldRef", &FIELD),
        ("resourceFieldRef", &RESOURCE_FIELD),
    ])),
)]);
static TOKEN: Shape = Fields(&[("audience", &Who), ("expirationSeconds", &Plain), ("path", &Plain)]);
static CLAIM: Shape = Fields(&[
    ("metadata", &METADATA),
    (
        "spec",
        &Fields(&[
            ("accessModes", &NAMES),
            ("resources", &RESOURCES),
            ("storageClassName", &Plain),
            ("volumeMode", &Plain),
            ("volumeName", &Plain),
        ]),
    ),
]);

/// What is readable of the object of a request about that kind.
pub(super) fn of_kind(group: &str, kind: &str) -> &'static Shape {
    match (group, kind) {
        ("", "Pod") => &POD,
        ("", "PodTemplate") => &POD_TEMPLATE,
        ("", "ReplicationController")
        | ("apps", "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet")
        | ("batch", "CronJob" | "Job") => &WORKLOAD,
        ("", "Namespace") => &NAMESPACE,
        (GROUP, "AIWorkflow" | "AIWorkflowClass" | "AIWorkflowGrant") => &OURS,
        (GROUP, "RegoPolicyException") => &EXCEPTION,
        _ => &OTHER,
    }
}
