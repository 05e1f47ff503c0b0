package ringfence.restricted_pod_security_test

import data.ringfence.restricted_pod_security as policy

good_context := {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}

good_spec := {
	"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
	"containers": [{"name": "main", "image": "a", "securityContext": good_context}],
}

pod(spec) := {"podPath": "", "pod": {"spec": spec}}

with_spec(change) := pod(object.union(good_spec, change))

with_pod_context(change) := with_spec({"securityContext": change})

with_context(change) := with_spec({"containers": [{"name": "main", "securityContext": object.union(good_context, change)}]})

with_container(change) := with_spec({"containers": [object.union({"name": "main", "securityContext": good_context}, change)]})

test_admits_a_restricted_pod if {
	count(policy.deny) == 0 with input as pod(good_spec)
}

test_admits_settings_on_the_container_alone if {
	context := object.union(good_context, {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "Localhost"}})
	count(policy.deny) == 0 with input as pod({"containers": [{"securityContext": context}]})
}

test_admits_all_allowed_volumes if {
	volumes := [
		{"name": "a", "configMap": {}}, {"name": "b", "csi": {}}, {"name": "c", "downwardAPI": {}}, {"name": "d", "emptyDir": {}},
		{"name": "e", "ephemeral": {}}, {"name": "f", "persistentVolumeClaim": {}}, {"name": "g", "projected": {}},
		{"name": "h", "secret": {}}, {"name": "i", "image": {}}, {"name": "j"},
	]
	count(policy.deny) == 0 with input as with_spec({"volumes": volumes})
}

test_admits_what_says_no_in_words if {
	count(policy.deny) == 0 with input as with_spec({"hostNetwork": false, "hostPID": null})
	count(policy.deny) == 0 with input as with_context({"privileged": false, "procMount": "Default"})
	count(policy.deny) == 0 with input as with_context({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}})
	count(policy.deny) == 0 with input as with_container({"ports": [{"containerPort": 80, "hostPort": 0}]})
	count(policy.deny) == 0 with input as with_container({"livenessProbe": {"httpGet": {"port": 80, "host": ""}}})
	count(policy.deny) == 0 with input as with_pod_context({"seLinuxOptions": {"type": "container_t", "level": "s0"}})
	count(policy.deny) == 0 with input as with_pod_context({"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]})
}

test_admits_empty_lists_of_other_containers if {
	count(policy.deny) == 0 with input as with_spec({"initContainers": [], "ephemeralContainers": null})
}

test_refuses_host_namespaces if {
	every field in ["hostNetwork", "hostPID", "hostIPC"] {
		some finding in policy.deny with input as with_spec({field: true})
		finding.path == concat(".", ["spec", field])
		count(policy.deny) == 1 with input as with_spec({field: "true"})
	}
}

test_refuses_host_processes if {
	count(policy.deny) == 1 with input as with_pod_context({"windowsOptions": {"hostProcess": true}})
	count(policy.deny) == 1 with input as with_context({"windowsOptions": {"hostProcess": true}})
}

test_refuses_privileged if {
	some finding in policy.deny with input as with_context({"privileged": true})
	finding.path == "spec.containers[0].securityContext.privileged"
	count(policy.deny) == 1 with input as with_context({"privileged": "yes"})
}

test_refuses_privilege_escalation_unless_switched_off if {
	count(policy.deny) == 1 with input as with_context({"allowPrivilegeEscalation": true})
	count(policy.deny) == 1 with input as with_context({"allowPrivilegeEscalation": "false"})
	count(policy.deny) == 1 with input as with_spec({"containers": [{"securityContext": {"capabilities": {"drop": ["ALL"]}}}]})
}

test_refuses_kept_capabilities if {
	every drop in [[], ["all"], ["CAP_ALL"], ["NET_RAW"], "ALL"] {
		count(policy.deny) == 1 with input as with_context({"capabilities": {"drop": drop}})
	}
	count(policy.deny) == 1 with input as with_spec({"containers": [{"securityContext": {"allowPrivilegeEscalation": false}}]})
}

test_refuses_added_capabilities if {
	every capability in ["SYS_ADMIN", "ALL", "CAP_NET_BIND_SERVICE", "net_bind_service", "NET_RAW", 1] {
		count(policy.deny) == 1 with input as with_context({"capabilities": {"drop": ["ALL"], "add": [capability]}})
	}
}

test_refuses_root if {
	count(policy.deny) == 1 with input as with_pod_context({"runAsUser": 0})
	count(policy.deny) == 1 with input as with_context({"runAsUser": 0})
	count(policy.deny) == 1 with input as with_context({"runAsUser": "0"})
	count(policy.deny) == 1 with input as with_context({"runAsNonRoot": false})
	count(policy.deny) == 1 with input as with_context({"runAsNonRoot": "true"})
	count(policy.deny) == 2 with input as with_pod_context({"runAsNonRoot": false})
	spec := object.union(object.remove(good_spec, ["securityContext"]), {"securityContext": {"seccompProfile": {"type": "Localhost"}}})
	count(policy.deny) == 1 with input as pod(spec)
}

test_refuses_no_seccomp if {
	count(policy.deny) == 1 with input as pod(object.union(object.remove(good_spec, ["securityContext"]), {"securityContext": {"runAsNonRoot": true}}))
	count(policy.deny) == 2 with input as with_pod_context({"seccompProfile": {"type": "Unconfined"}})
	count(policy.deny) == 1 with input as with_context({"seccompProfile": {"type": "Unconfined"}})
	count(policy.deny) == 1 with input as with_context({"seccompProfile": {}})
	count(policy.deny) == 1 with input as with_context({"seccompProfile": {"type": "runtimedefault"}})
}

test_refuses_no_apparmor if {
	count(policy.deny) == 1 with input as with_pod_context({"appArmorProfile": {"type": "Unconfined"}})
	count(policy.deny) == 1 with input as with_context({"appArmorProfile": {"type": "Unconfined"}})
	annotations := {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}
	some finding in policy.deny with input as {"podPath": "", "pod": {"metadata": {"annotations": annotations}, "spec": good_spec}}
	startswith(finding.path, "metadata.annotations[")
}

test_admits_apparmor_by_annotation if {
	annotations := {"container.apparmor.security.beta.kubernetes.io/main": "localhost/mine", "x": "unconfined"}
	count(policy.deny) == 0 with input as {"podPath": "", "pod": {"metadata": {"annotations": annotations}, "spec": good_spec}}
}

test_refuses_selinux_options if {
	count(policy.deny) == 1 with input as with_pod_context({"seLinuxOptions": {"type": "spc_t"}})
	count(policy.deny) == 1 with input as with_context({"seLinuxOptions": {"user": "root"}})
	count(policy.deny) == 1 with input as with_context({"seLinuxOptions": {"role": "sysadm_r"}})
}

test_refuses_an_unmasked_proc if {
	count(policy.deny) == 1 with input as with_context({"procMount": "Unmasked"})
}

test_refuses_unsafe_sysctls if {
	some finding in policy.deny with input as with_pod_context({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})
	finding.value == "kernel.msgmax"
	count(policy.deny) == 1 with input as with_pod_context({"sysctls": [{"value": "1"}]})
}

test_refuses_volumes_that_reach_out if {
	every type in ["hostPath", "nfs", "iscsi", "cephfs", "rbd", "glusterfs", "flexVolume", "gitRepo", "awsElasticBlockStore", "HostPath", "new"] {
		some finding in policy.deny with input as with_spec({"volumes": [{"name": "a"}, {"name": "b", type: {}}]})
		finding.path == sprintf("spec.volumes[1].%s", [type])
	}
}

test_refuses_a_hidden_second_type_of_volume if {
	count(policy.deny) == 1 with input as with_spec({"volumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]})
}

test_refuses_host_ports if {
	some finding in policy.deny with input as with_container({"ports": [{"containerPort": 80}, {"hostPort": 443}]})
	finding.path == "spec.containers[0].ports[1].hostPort"
}

test_refuses_probes_and_hooks_to_other_hosts if {
	every name in ["livenessProbe", "readinessProbe", "startupProbe"] {
		every action in ["httpGet", "tcpSocket"] {
			some finding in policy.deny with input as with_container({name: {action: {"host": "169.254.169.254"}}})
			finding.path == sprintf("spec.containers[0].%s.%s.host", [name, action])
		}
	}
	every name in ["postStart", "preStop"] {
		count(policy.deny) == 1 with input as with_container({"lifecycle": {name: {"httpGet": {"host": "169.254.169.254"}}}})
	}
}

test_refuses_in_every_kind_of_container if {
	every kind in ["initContainers", "ephemeralContainers"] {
		bad := {"securityContext": object.union(good_context, {"privileged": true})}
		some finding in policy.deny with input as with_spec({kind: [{"securityContext": good_context}, bad]})
		finding.path == sprintf("spec.%s[1].securityContext.privileged", [kind])
		count(policy.deny) == 2 with input as with_spec({kind: [{"name": "bare"}]})
	}
}

test_refuses_the_same_for_windows if {
	spec := {"os": {"name": "windows"}, "containers": [{"name": "bare"}]}
	count(policy.deny) == 4 with input as pod(spec)
}

test_refuses_wrong_shapes if {
	count(policy.deny) > 0 with input as with_spec({"initContainers": {"a": {"privileged": true}}})
	count(policy.deny) > 0 with input as with_spec({"initContainers": "x"})
	some element in policy.deny with input as with_spec({"containers": ["x"]})
	element.msg == "is not a container"
	count(policy.deny) > 0 with input as with_spec({"containers": [{"securityContext": "x"}]})
	count(policy.deny) > 0 with input as with_spec({"containers": [{"securityContext": [good_context]}]})
}

test_refuses_a_pod_without_spec_or_containers if {
	count(policy.deny) > 0 with input as pod({"securityContext": {}})
	count(policy.deny) > 0 with input as {"podPath": "", "pod": {}}
	every broken in [{"podPath": "", "pod": {"spec": "x"}}, {"podPath": "", "pod": []}, {}] {
		some finding in policy.deny with input as broken
		finding.path == "spec"
	}
}

test_refuses_in_a_template_with_its_path if {
	spec := object.union(good_spec, {"hostNetwork": true})
	some finding in policy.deny with input as {"podPath": "spec.template", "pod": {"spec": spec}}
	finding.path == "spec.template.spec.hostNetwork"
}

baseline := {"class": {"spec": {"podSecurity": "Baseline"}}}

at_baseline(spec) := object.union(pod(spec), baseline)

bare := {"containers": [{"name": "main"}], "initContainers": [{"name": "init"}], "ephemeralContainers": [{"name": "debug"}]}

bare_with(context) := object.union(bare, {"containers": [{"name": "main", "securityContext": context}]})

test_admits_at_baseline_what_only_the_strict_standard_refuses if {
	every spec in [
		bare,
		bare_with({"runAsUser": 0, "runAsNonRoot": false, "allowPrivilegeEscalation": true}),
		bare_with({"capabilities": {"add": ["CHOWN", "SYS_CHROOT", "NET_BIND_SERVICE"]}}),
		object.union(bare, {"securityContext": {"runAsNonRoot": false, "runAsUser": 0}}),
		object.union(bare, {"volumes": [{"name": "a", "nfs": {}}, {"name": "b", "iscsi": {}}]}),
	] {
		count(policy.deny) == 0 with input as at_baseline(spec)
		count(policy.deny) > 0 with input as pod(spec)
	}
}

test_refuses_at_baseline_what_leads_out_of_a_container if {
	every context in [
		{"privileged": true},
		{"capabilities": {"add": ["SYS_ADMIN"]}},
		{"capabilities": {"add": ["NET_RAW"]}},
		{"capabilities": {"add": ["ALL"]}},
		{"seccompProfile": {"type": "Unconfined"}},
		{"seccompProfile": {}},
		{"appArmorProfile": {"type": "Unconfined"}},
		{"seLinuxOptions": {"type": "spc_t"}},
		{"seLinuxOptions": {"user": "root"}},
		{"procMount": "Unmasked"},
		{"windowsOptions": {"hostProcess": true}},
	] {
		count(policy.deny) == 1 with input as at_baseline(bare_with(context))
	}
	every change in [
		{"hostNetwork": true},
		{"hostPID": true},
		{"hostIPC": true},
		{"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
		{"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
		{"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
		{"containers": [{"name": "main", "ports": [{"hostPort": 80}]}]},
		{"containers": [{"name": "main", "livenessProbe": {"httpGet": {"host": "169.254.169.254"}}}]},
	] {
		count(policy.deny) == 1 with input as at_baseline(object.union(bare, change))
	}
}

test_refuses_by_the_strict_standard_where_the_class_says_nothing_readable if {
	every class in [{}, {"spec": {}}, {"spec": {"podSecurity": "baseline"}}, {"spec": {"podSecurity": true}}, {"spec": "Baseline"}, null] {
		count(policy.deny) > 0 with input as object.union(pod(bare), {"class": class})
	}
	strict := {"class": {"spec": {"podSecurity": "Restricted"}}}
	count(policy.deny) > 0 with input as object.union(pod(bare), strict)
	count(policy.deny) == 0 with input as object.union(pod(good_spec), strict)
}

test_refuses_at_baseline_contexts_that_cannot_be_read if {
	every context in ["privileged", [{"privileged": true}], true] {
		some finding in policy.deny with input as at_baseline(bare_with(context))
		finding.path == "spec.containers[0].securityContext"
		some of_pod in policy.deny with input as at_baseline(object.union(bare, {"securityContext": context}))
		of_pod.path == "spec.securityContext"
	}
	every capabilities in [["SYS_ADMIN"], "SYS_ADMIN", {"add": "SYS_ADMIN"}, {"add": {"0": "SYS_ADMIN"}}] {
		count(policy.deny) > 0 with input as at_baseline(bare_with({"capabilities": capabilities}))
	}
	every profile in ["Unconfined", ["RuntimeDefault"], true] {
		count(policy.deny) > 0 with input as at_baseline(bare_with({"seccompProfile": profile}))
		count(policy.deny) > 0 with input as at_baseline(object.union(bare, {"securityContext": {"seccompProfile": profile}}))
	}
}
