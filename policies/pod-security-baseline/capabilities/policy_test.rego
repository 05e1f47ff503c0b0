package ringfence.pss.baseline.capabilities_test

import data.ringfence.pss.baseline.capabilities as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

with_capabilities(kind, capabilities) := latest({kind: [{}, {"securityContext": {"capabilities": capabilities}}]})

test_admits_the_usual_capabilities if {
	usual := [
		"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
		"SETPCAP", "SETUID", "SYS_CHROOT",
	]
	every capabilities in [{"add": usual}, {"add": []}, {"add": null}, {"drop": ["NET_RAW"]}, {}, null] {
		count(policy.deny) == 0 with input as with_capabilities("containers", capabilities)
	}
}

test_refuses_any_other_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every capability in ["NET_RAW", "SYS_ADMIN", "ALL", "CAP_CHOWN", "chown", "", null, 1, [], {}] {
			findings := policy.deny with input as with_capabilities(kind, {"add": ["CHOWN", capability]})
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].securityContext.capabilities.add[1]", [kind])}
		}
	}
}

test_refuses_capabilities_that_cannot_be_read if {
	every capabilities in ["x", ["SYS_ADMIN"], true, 1] {
		some finding in policy.deny with input as with_capabilities("containers", capabilities)
		finding.path == "spec.containers[1].securityContext.capabilities"
	}
	every list in ["CHOWN", {}, {"0": "CHOWN"}, true, 1] {
		some finding in policy.deny with input as with_capabilities("containers", {"add": list})
		finding.path == "spec.containers[1].securityContext.capabilities.add"
	}
}

good := {"containers": [{"name": "main"}]}

bad := {"containers": [{"securityContext": {"capabilities": {"add": ["NET_RAW"]}}}]}

test_refuses_containers_that_cannot_be_read if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every list in ["x", {"a": {}}, true, 1] {
			some finding in policy.deny with input as latest({kind: list})
			finding.path == sprintf("spec.%s", [kind])
		}
		every container in ["x", null, [], 1] {
			some finding in policy.deny with input as latest({kind: [{}, container]})
			finding.path == sprintf("spec.%s[1]", [kind])
		}
		count(policy.deny) == 0 with input as latest({kind: null})
	}
}

test_refuses_a_context_that_cannot_be_read if {
	every context in ["x", [], true, 1] {
		some finding in policy.deny with input as latest({"containers": [{"securityContext": context}]})
		finding.path == "spec.containers[0].securityContext"
	}
}

test_refuses_where_the_version_is_not_known if {
	every version in ["v1.30", "v1.37", "1.36", "Latest", "", null, 1.36] {
		some finding in policy.deny with input as asked(version, good)
		contains(finding.msg, "version")
	}
	some finding in policy.deny with input as {"podPath": "", "pod": {"spec": good}}
	contains(finding.msg, "version")
	every version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"] {
		count(policy.deny) == 0 with input as asked(version, good)
	}
}

test_refuses_a_pod_without_a_spec if {
	every pod in [{}, {"spec": null}, {"spec": "x"}, [], "x"] {
		some finding in policy.deny with input as {"podPath": "", "pod": pod, "parameters": {"version": "latest"}}
		finding.path == "spec"
	}
	some finding in policy.deny with input as {"parameters": {"version": "latest"}}
	finding.path == "spec"
}

test_refuses_in_a_template_with_its_path if {
	request := {"podPath": "spec.template", "pod": {"spec": bad}, "parameters": {"version": "latest"}}
	some finding in policy.deny with input as request
	finding.path == "spec.template.spec.containers[0].securityContext.capabilities.add[0]"
}
