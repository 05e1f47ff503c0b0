//! What the standard restricts: each field, with values that it allows and forbids and that lie beside those, and with values of a
//! wrong shape.

use serde_json::{Value, json};

/// Where a field stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Of {
    /// From the pod on.
    Pod,
    /// From every container on.
    Container,
}

/// A field of the standard.
#[derive(Clone, Debug)]
pub struct Field {
    pub of: Of,
    /// Its names, from the pod or the container on.
    pub path: Vec<&'static str>,
    /// Policies that judge it.
    pub policies: Vec<&'static str>,
    /// What an API server can read.
    pub values: Vec<Value>,
    /// What it cannot.
    pub broken: Vec<Value>,
}

const CAPABILITIES: &str = "\
     AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT \
     NET_RAW SYS_ADMIN ALL all CAP_CHOWN chown net_bind_service";

const SYSCTLS: &str = "\
     kernel.shm_rmid_forced net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports \
     net.ipv4.ip_unprivileged_port_start net.ipv4.ping_group_range net.ipv4.tcp_fin_timeout net.ipv4.tcp_keepalive_intvl \
     net.ipv4.tcp_keepalive_probes net.ipv4.tcp_keepalive_time net.ipv4.tcp_rmem net.ipv4.tcp_syncookies \
     net.ipv4.tcp_wmem kernel.msgmax net.ipv4.tcp_mem net/ipv4/tcp_rmem Kernel.shm_rmid_forced";

/// Types of volumes.
const VOLUMES: &str = "\
     configMap csi downwardAPI emptyDir ephemeral image persistentVolumeClaim projected secret hostPath gcePersistentDisk \
     awsElasticBlockStore gitRepo nfs iscsi glusterfs rbd flexVolume cinder cephfs flocker fc azureFile vsphereVolume \
     quobyte azureDisk portworxVolume photonPersistentDisk scaleIO storageos";

const SECCOMP: [&str; 2] = ["pss-baseline-seccomp", "pss-restricted-seccomp"];

/// All of them.
pub fn all() -> Vec<Field> {
    let mut fields = of_the_pod();
    fields.extend(volumes());
    fields.extend(of_each_container());
    fields.extend(handlers());
    for (of, context) in [
        (Of::Pod, vec!["spec", "securityContext"]),
        (Of::Container, vec!["securityContext"]),
    ] {
        fields.extend(of_both(of, &context));
    }
    fields
}

/// One value for each of the words.
fn each(words: &str, value: impl Fn(&str) -> Value) -> Vec<Value> {
    words.split_whitespace().map(value).collect()
}

fn flag(of: Of, path: Vec<&'static str>, policies: &[&'static str]) -> Field {
    let broken = vec![
        json!("true"),
        json!("false"),
        json!(0),
        json!(1),
        json!(""),
        json!({}),
        json!([true]),
    ];
    Field {
        of,
        path,
        policies: policies.to_vec(),
        values: vec![json!(true), json!(false)],
        broken,
    }
}

fn word(of: Of, path: Vec<&'static str>, policies: &[&'static str], words: &[&str]) -> Field {
    Field {
        of,
        path,
        policies: policies.to_vec(),
        values: words.iter().map(|word| json!(word)).collect(),
        broken: vec![json!(1), json!(true), json!({}), json!([words[0]])],
    }
}

fn of_the_pod() -> Vec<Field> {
    let mut fields: Vec<_> = ["hostNetwork", "hostPID", "hostIPC"]
        .map(|name| flag(Of::Pod, vec!["spec", name], &["pss-baseline-host-namespaces"]))
        .into();
    // What these two loosen is in the pods that they are set in. One that cannot be read loosens nothing.
    fields.push(Field {
        broken: Vec::new(),
        ..flag(Of::Pod, vec!["spec", "hostUsers"], &[])
    });
    let systems = ["windows", "linux", "Windows", "WINDOWS", " windows", "windows ", ""];
    fields.push(Field {
        broken: Vec::new(),
        ..word(Of::Pod, vec!["spec", "os", "name"], &[], &systems)
    });
    let mut sysctls = each(SYSCTLS, |name| json!([{"name": name, "value": "1"}]));
    let two = json!([{"name": "kernel.shm_rmid_forced", "value": "1"}, {"name": "kernel.msgmax", "value": "1"}]);
    sysctls.extend([
        json!([]),
        json!([{}]),
        json!([{"value": "1"}]),
        json!([{"name": null}]),
        json!([{"name": ""}]),
        json!([null]),
        two,
    ]);
    fields.push(Field {
        of: Of::Pod,
        path: vec!["spec", "securityContext", "sysctls"],
        policies: vec!["pss-baseline-sysctls"],
        values: sysctls,
        broken: vec![
            json!({}),
            json!("x"),
            json!(["kernel.msgmax"]),
            json!([[]]),
            json!([{"name": 1}]),
            json!(true),
        ],
    });
    let key = "container.apparmor.security.beta.kubernetes.io/second";
    let values = [
        "runtime/default",
        "localhost/app",
        "localhost/",
        "localhost",
        "",
        "unconfined",
        "Runtime/default",
        "runtime",
    ];
    let mut annotations: Vec<_> = values.map(|value| json!({key: value})).into();
    annotations.extend([
        json!({key: null}),
        json!({}),
        json!({"container.apparmor.security.beta.kubernetes.io/": "unconfined"}),
        json!({"container.apparmor.security.beta.kubernetes.io/nobody": "unconfined"}),
        json!({"container.apparmor.security.beta.kubernetes.io": "unconfined"}),
        json!({"Container.apparmor.security.beta.kubernetes.io/second": "unconfined"}),
        json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}),
        json!({"container.seccomp.security.alpha.kubernetes.io/second": "unconfined"}),
    ]);
    fields.push(Field {
        of: Of::Pod,
        path: vec!["metadata", "annotations"],
        policies: vec!["pss-baseline-apparmor"],
        values: annotations,
        broken: vec![
            json!([]),
            json!("x"),
            json!(true),
            json!({key: 1}),
            json!({key: {}}),
            json!({key: ["localhost/x"]}),
        ],
    });
    fields
}

fn volumes() -> Vec<Field> {
    let mut values = each(
        VOLUMES,
        |name| json!([{"name": "scratch", "emptyDir": {}}, {"name": "x", name: {}}]),
    );
    values.extend(each(VOLUMES, |name| json!([{"name": "x", name: null}])));
    values.extend([
        json!([]),
        json!([{"name": "x"}]),
        json!([{}]),
        json!([{"name": "x", "emptyDir": {}, "hostPath": null}]),
    ]);
    let both = ["pss-baseline-host-path-volumes", "pss-restricted-volume-types"];
    let field = |policies: &[&'static str], values, broken| Field {
        of: Of::Pod,
        path: vec!["spec", "volumes"],
        policies: policies.to_vec(),
        values,
        broken,
    };
    let hosts = [json!("/"), json!(true), json!(0), json!(["/"]), json!("")];
    vec![
        field(
            &both,
            values,
            vec![
                json!({}),
                json!("x"),
                json!(["hostPath"]),
                json!([[]]),
                json!(true),
                json!([1]),
            ],
        ),
        field(
            &both,
            Vec::new(),
            hosts.map(|host| json!([{"name": "x", "hostPath": host}])).into(),
        ),
    ]
}

fn of_each_container() -> Vec<Field> {
    let context = |name| vec!["securityContext", name];
    let capabilities = |name| vec!["securityContext", "capabilities", name];
    let mut added = each(CAPABILITIES, |name| json!([name]));
    added.extend([
        json!([]),
        json!([null]),
        json!([""]),
        json!(["CHOWN", "NET_RAW"]),
        json!(["NET_BIND_SERVICE", "NET_BIND_SERVICE"]),
    ]);
    let dropped = [
        json!([]),
        json!(["ALL"]),
        json!(["all"]),
        json!(["CAP_ALL"]),
        json!(["NET_RAW"]),
        json!([null]),
    ];
    let mut dropped = dropped.to_vec();
    dropped.extend([json!(["NET_RAW", "ALL"]), json!(["ALL", null]), json!([""])]);
    let broken = |name| {
        vec![
            json!(name),
            json!({"0": name}),
            json!({}),
            json!([1]),
            json!([[name]]),
            json!([{}]),
            json!(true),
        ]
    };
    let ports = [
        json!(0),
        json!(null),
        json!(1),
        json!(80),
        json!(65535),
        json!(-1),
        json!(99_999),
    ];
    let mut ports: Vec<_> = ports
        .map(|port| json!([{"containerPort": 80, "hostPort": port}]))
        .into();
    ports.extend([
        json!([]),
        json!([{}]),
        json!([{"containerPort": 80}]),
        json!([{}, {"hostPort": 443}]),
    ]);
    let broken_ports = [
        json!({}),
        json!("80"),
        json!([80]),
        json!([[]]),
        json!([{"hostPort": "80"}]),
        json!([{"hostPort": true}]),
    ];
    let mut broken_ports = broken_ports.to_vec();
    broken_ports.extend([json!([{"hostPort": 0.5}]), json!([{"hostPort": {}}]), json!(true)]);
    let proc_mount = ["Default", "Unmasked", "default", "", "Masked"];
    vec![
        flag(Of::Container, context("privileged"), &["pss-baseline-privileged"]),
        flag(
            Of::Container,
            context("allowPrivilegeEscalation"),
            &["pss-restricted-privilege-escalation"],
        ),
        word(
            Of::Container,
            context("procMount"),
            &["pss-baseline-proc-mount", "pss-restricted-proc-mount"],
            &proc_mount,
        ),
        Field {
            of: Of::Container,
            path: capabilities("add"),
            policies: vec!["pss-baseline-capabilities", "pss-restricted-capabilities"],
            values: added,
            broken: broken("CHOWN"),
        },
        Field {
            of: Of::Container,
            path: capabilities("drop"),
            policies: vec!["pss-restricted-capabilities"],
            values: dropped,
            broken: broken("ALL"),
        },
        Field {
            of: Of::Container,
            path: vec!["ports"],
            policies: vec!["pss-baseline-host-ports"],
            values: ports,
            broken: broken_ports,
        },
    ]
}

fn handlers() -> Vec<Field> {
    let hosts = ["", "127.0.0.1", "169.254.169.254", "localhost", " "];
    let mut fields = Vec::new();
    for action in ["httpGet", "tcpSocket"] {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| vec![probe, action, "host"]);
        let hooks = ["postStart", "preStop"].map(|hook| vec!["lifecycle", hook, action, "host"]);
        let paths = probes.into_iter().chain(hooks);
        fields.extend(paths.map(|path| word(Of::Container, path, &["pss-baseline-host-probes"], &hosts)));
    }
    fields
}

fn of_both(of: Of, context: &[&'static str]) -> Vec<Field> {
    let at = |names: &[&'static str]| [context, names].concat();
    let profiles = [
        "RuntimeDefault",
        "Localhost",
        "Unconfined",
        "runtimedefault",
        "runtime/default",
        "",
    ];
    let types = [
        "",
        "container_t",
        "container_init_t",
        "container_kvm_t",
        "container_engine_t",
        "spc_t",
        "Container_t",
    ];
    let users = [json!(0), json!(1), json!(1000), json!(-1), json!(4_294_967_296_u64)];
    vec![
        word(
            of,
            at(&["appArmorProfile", "type"]),
            &["pss-baseline-apparmor"],
            &profiles,
        ),
        word(of, at(&["seccompProfile", "type"]), &SECCOMP, &profiles),
        word(of, at(&["seLinuxOptions", "type"]), &["pss-baseline-selinux"], &types),
        word(
            of,
            at(&["seLinuxOptions", "user"]),
            &["pss-baseline-selinux"],
            &["system_u", "", " "],
        ),
        word(
            of,
            at(&["seLinuxOptions", "role"]),
            &["pss-baseline-selinux"],
            &["sysadm_r", "", " "],
        ),
        flag(
            of,
            at(&["windowsOptions", "hostProcess"]),
            &["pss-baseline-windows-host-process"],
        ),
        flag(of, at(&["runAsNonRoot"]), &["pss-restricted-run-as-non-root"]),
        Field {
            of,
            path: at(&["runAsUser"]),
            policies: vec!["pss-restricted-run-as-user"],
            values: users.to_vec(),
            broken: vec![
                json!("0"),
                json!("1000"),
                json!(true),
                json!({}),
                json!([0]),
                json!(""),
                json!(1000.5),
            ],
        },
    ]
}
