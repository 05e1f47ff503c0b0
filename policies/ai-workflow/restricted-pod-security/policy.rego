# METADATA
# title: Restricted pod security
# description: >-
#   A pod meets the Pod Security Standard "restricted" (v1.36) in all its containers: no privileges, no host, no root, no
#   capability, a seccomp profile. Where the class says so (spec.podSecurity: Baseline) it meets "baseline": no privileges, no
#   host. What the standard switches off for Windows stays on.
# custom:
#   name: restricted-pod-security
#   severity: critical
#   remediation: >-
#     Set the pod's securityContext as the Pod Security Standard "restricted" asks, and remove what it forbids.
#   scope: pod
#   controls: [PSS-restricted, CIS-Kubernetes-5.2, NSA-CISA-Kubernetes-Hardening]
package ringfence.restricted_pod_security

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

# Host namespaces.
deny contains finding if {
	some field in ["hostNetwork", "hostPID", "hostIPC"]
	value := spec[field]
	not unset_or_false(value)
	finding := {
		"path": at(concat(".", ["spec", field])),
		"value": shown(value),
		"msg": "the pod shares a namespace of the node",
		"fix": sprintf("remove %s", [field]),
	}
}

deny contains finding if {
	some scope in scopes
	value := scope.context.windowsOptions.hostProcess
	not unset_or_false(value)
	finding := {
		"path": concat(".", [place_of(scope), "windowsOptions.hostProcess"]),
		"value": shown(value),
		"msg": "the pod runs as a process of the node",
		"fix": "remove hostProcess",
	}
}

deny contains finding if {
	some container in containers
	value := container.context.privileged
	not unset_or_false(value)
	finding := {
		"path": sprintf("%s.securityContext.privileged", [place(container)]),
		"value": shown(value),
		"msg": "the container has all rights on the node",
		"fix": "remove privileged",
	}
}

deny contains finding if {
	restricted
	some container in containers
	not container.context.allowPrivilegeEscalation == false
	finding := {
		"path": sprintf("%s.securityContext.allowPrivilegeEscalation", [place(container)]),
		"msg": "a process in the container may gain more rights than its parent has",
		"fix": "set allowPrivilegeEscalation to false",
	}
}

# Capabilities.
deny contains finding if {
	restricted
	some container in containers
	not drops_all(container.context)
	finding := {
		"path": sprintf("%s.securityContext.capabilities.drop", [place(container)]),
		"msg": "the container keeps capabilities of root",
		"fix": "set capabilities.drop to [ALL]",
	}
}

deny contains finding if {
	some container in containers
	is_array(container.context.capabilities.add)
	some i, capability in container.context.capabilities.add
	not capability in addable
	finding := {
		"path": sprintf("%s.securityContext.capabilities.add[%v]", [place(container), i]),
		"value": shown(capability),
		"msg": "the container adds a capability",
		"fix": sprintf("remove it: allowed is %s", [concat(", ", addable)]),
	}
}

# Root.
deny contains finding if {
	restricted
	some container in may_run_as_root
	finding := {
		"path": sprintf("%s.securityContext.runAsNonRoot", [place(container)]),
		"msg": "the container may run as root",
		"fix": "set runAsNonRoot to true on the pod or on the container",
	}
}

# A pod may not say false either, whatever its containers say: a container added later takes it over.
deny contains finding if {
	restricted
	value := spec.securityContext.runAsNonRoot
	not value in [true, null]
	finding := {
		"path": at("spec.securityContext.runAsNonRoot"),
		"value": shown(value),
		"msg": "the pod allows its containers to run as root",
		"fix": "set runAsNonRoot to true",
	}
}

deny contains finding if {
	restricted
	some scope in scopes
	value := scope.context.runAsUser
	root(value)
	finding := {
		"path": concat(".", [place_of(scope), "runAsUser"]),
		"value": shown(value),
		"msg": "the container runs as root",
		"fix": "set runAsUser to another number than 0, or remove it",
	}
}

# Seccomp.
deny contains finding if {
	some container in unconfined
	finding := {
		"path": sprintf("%s.securityContext.seccompProfile.type", [place(container)]),
		"msg": "system calls of the container are not filtered",
		"fix": "set seccompProfile.type to RuntimeDefault on the pod or on the container",
	}
}

deny contains finding if {
	profile := spec.securityContext.seccompProfile
	profile != null
	not confining(profile)
	finding := {
		"path": at("spec.securityContext.seccompProfile.type"),
		"value": type_of_profile(profile),
		"msg": "system calls of the pod are not filtered",
		"fix": "set seccompProfile.type to RuntimeDefault",
	}
}

# AppArmor and SELinux.
deny contains finding if {
	some scope in scopes
	type := scope.context.appArmorProfile.type
	not type in profiles
	finding := {
		"path": concat(".", [place_of(scope), "appArmorProfile.type"]),
		"value": shown(type),
		"msg": "the AppArmor profile is switched off",
		"fix": "remove appArmorProfile, or set its type to RuntimeDefault",
	}
}

deny contains finding if {
	some key, value in input.pod.metadata.annotations
	startswith(key, "container.apparmor.security.beta.kubernetes.io/")
	not apparmor_annotation(value)
	finding := {
		"path": at(sprintf("metadata.annotations[%s]", [key])),
		"value": shown(value),
		"msg": "the AppArmor profile is switched off",
		"fix": "remove the annotation, or set it to runtime/default",
	}
}

deny contains finding if {
	some scope in scopes
	type := scope.context.seLinuxOptions.type
	not type in ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"]
	finding := {
		"path": concat(".", [place_of(scope), "seLinuxOptions.type"]),
		"value": shown(type),
		"msg": "the SELinux type is not one of containers",
		"fix": "remove seLinuxOptions.type",
	}
}

deny contains finding if {
	some scope in scopes
	options := scope.context.seLinuxOptions
	some field in ["user", "role"]
	value := options[field]
	value != ""
	finding := {
		"path": concat(".", [place_of(scope), "seLinuxOptions", field]),
		"value": shown(value),
		"msg": "the SELinux user and role may not be set",
		"fix": sprintf("remove seLinuxOptions.%s", [field]),
	}
}

deny contains finding if {
	some container in containers
	type := container.context.procMount
	not type in ["Default", null]
	finding := {
		"path": sprintf("%s.securityContext.procMount", [place(container)]),
		"value": shown(type),
		"msg": "/proc is not masked in the container",
		"fix": "remove procMount",
	}
}

deny contains finding if {
	some i, sysctl in spec.securityContext.sysctls
	not object.get(sysctl, "name", "") in safe_sysctls
	finding := {
		"path": at(sprintf("spec.securityContext.sysctls[%v]", [i])),
		"value": shown(object.get(sysctl, "name", "")),
		"msg": "the kernel parameter is not one that is safe to set",
		"fix": "remove it",
	}
}

# Volumes, by what is allowed: a type that is newer than this policy is refused.
deny contains finding if {
	some i, volume in spec.volumes
	some type, _ in volume
	not volume_types[type]
	reaches_out(type)
	finding := {
		"path": at(sprintf("spec.volumes[%v].%s", [i, type])),
		"msg": sprintf("volumes of type %s reach beyond the pod", [type]),
		"fix": "use a persistentVolumeClaim, configMap, secret, projected, downwardAPI, csi, ephemeral or emptyDir volume",
	}
}

# Ports of the node, and probes and hooks that the node sends elsewhere.
deny contains finding if {
	some container in containers
	some i, port in container.container.ports
	value := port.hostPort
	not value in [0, null]
	finding := {
		"path": sprintf("%s.ports[%v].hostPort", [place(container), i]),
		"value": shown(value),
		"msg": "the container opens a port of the node",
		"fix": "remove hostPort, and use a Service",
	}
}

deny contains finding if {
	some container in containers
	some name in ["livenessProbe", "readinessProbe", "startupProbe"]
	handler := container.container[name]
	some action in ["httpGet", "tcpSocket"]
	value := handler[action].host
	value != ""
	finding := sent_elsewhere(sprintf("%s.%s.%s.host", [place(container), name, action]), value)
}

deny contains finding if {
	some container in containers
	some name, handler in container.container.lifecycle
	some action in ["httpGet", "tcpSocket"]
	value := handler[action].host
	value != ""
	finding := sent_elsewhere(sprintf("%s.lifecycle.%s.%s.host", [place(container), name, action]), value)
}

# What has the wrong shape has not been judged.
deny contains finding if {
	some kind in kinds
	value := spec[kind]
	not is_array(value)
	not is_null(value)
	finding := {"path": at(concat(".", ["spec", kind])), "msg": "is not a list", "fix": "make it a list of containers"}
}

deny contains finding if {
	some container in containers
	not is_object(container.container)
	finding := {"path": place(container), "msg": "is not a container", "fix": "remove it"}
}

# A context that cannot be read asks for nothing, and must not pass for one that asks for nothing.
deny contains finding if {
	some holder in array.concat([{"container": spec}], containers)
	value := holder.container.securityContext
	value != null
	not is_object(value)
	finding := {"path": place_of(holder), "msg": "is not an object", "fix": "write it as fields and values"}
}

deny contains finding if {
	some scope in scopes
	value := scope.context.capabilities
	value != null
	not is_object(value)
	finding := {
		"path": concat(".", [place_of(scope), "capabilities"]),
		"msg": "is not an object",
		"fix": "write it as fields and values",
	}
}

deny contains finding if {
	some container in containers
	value := container.context.capabilities.add
	not value == null
	not is_array(value)
	finding := {
		"path": sprintf("%s.securityContext.capabilities.add", [place(container)]),
		"msg": "is not a list",
		"fix": "make it a list of capabilities, or remove it",
	}
}

deny contains finding if {
	not spec.containers
	finding := {"path": at("spec.containers"), "msg": "the pod has no containers", "fix": "add a container"}
}

# The level that the class asks for. What cannot be read asks for the strict one.
default restricted := true

restricted := false if input.class.spec.podSecurity == "Baseline"

# Capabilities that may be added.
addable := ["NET_BIND_SERVICE"] if restricted

addable := [
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
	"SETPCAP", "SETUID", "SYS_CHROOT",
] if not restricted

default spec := {}

spec := input.pod.spec if is_object(input.pod.spec)

kinds := ["initContainers", "containers", "ephemeralContainers"]

containers := [{"kind": kind, "index": i, "container": container, "context": context_of(container)} |
	some kind in kinds
	is_array(spec[kind])
	some i, container in spec[kind]
]

# An element that is no object, or a context that is none, has nothing set, and so fails every rule that asks for something.
context_of(container) := container.securityContext if {
	is_object(container.securityContext)
} else := {}

# The pod's context and each container's.
scopes := array.concat([{"context": context_of(spec)}], containers)

# Where something stands is written out for findings alone.
place(container) := at(sprintf("spec.%s[%v]", [container.kind, container.index]))

place_of_holder(holder) := place(holder) if {
	holder.kind
} else := at("spec")

place_of(scope) := concat(".", [place_of_holder(scope), "securityContext"])

sent_elsewhere(path, value) := {
	"path": path,
	"value": shown(value),
	"msg": "the node would send the request to another host than the pod, past every NetworkPolicy",
	"fix": "remove host",
}

unset_or_false(value) if value in [false, null]

drops_all(context) if "ALL" in context.capabilities.drop

# What the pod says counts for containers that say nothing; asked for once, most pods need no look at their containers.
may_run_as_root contains container if {
	not spec.securityContext.runAsNonRoot == true
	some container in containers
	object.get(container.context, "runAsNonRoot", null) == null
}

may_run_as_root contains container if {
	some container in containers
	value := container.context.runAsNonRoot
	not value in [true, null]
}

root(value) if not is_number(value)

root(value) if value == 0

unconfined contains container if {
	restricted
	not pod_is_confined
	some container in containers
	object.get(container.context, "seccompProfile", null) == null
}

unconfined contains container if {
	some container in containers
	profile := container.context.seccompProfile
	profile != null
	not confining(profile)
}

pod_is_confined if spec.securityContext.seccompProfile.type in profiles

confining(profile) if profile.type in profiles

profiles := ["RuntimeDefault", "Localhost"]

type_of_profile(profile) := shown(object.get(profile, "type", "")) if is_object(profile)

type_of_profile(profile) := type_name(profile) if not is_object(profile)

apparmor_annotation(value) if value in ["", "runtime/default"]

apparmor_annotation(value) if startswith(value, "localhost/")

safe_sysctls := [
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_wmem",
]

reaches_out(_) if restricted

reaches_out("hostPath") if not restricted

volume_types := {
	"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}

# A value of another type than a word or a number is shown by its type.
shown(value) := value if is_string(value)

shown(value) := sprintf("%v", [value]) if {
	not is_string(value)
	not is_object(value)
	not is_array(value)
}

shown(value) := type_name(value) if is_object(value)

shown(value) := type_name(value) if is_array(value)

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
