package ringfence.pss.restricted.capabilities_test

import data.ringfence.pss.restricted.capabilities as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

with_capabilities(kind, capabilities) := latest({kind: [fine, {"securityContext": {"capabilities": capabilities}}]})

test_admits_containers_that_drop_all if {
	every capabilities in [{"drop": ["ALL"]}, {"drop": ["NET_RAW", "ALL"]}, {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, {"drop": ["ALL"], "add": null}] {
		every kind in ["initContainers", "containers", "ephemeralContainers"] {
			count(policy.deny) == 0 with input as with_capabilities(kind, capabilities)
		}
	}
}

test_refuses_kept_capabilities_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every capabilities in [null, {}, {"drop": null}, {"drop": []}, {"drop": ["all"]}, {"drop": ["CAP_ALL"]}, {"drop": ["NET_RAW", null]}] {
			findings := policy.deny with input as with_capabilities(kind, capabilities)
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].securityContext.capabilities.drop", [kind])}
		}
		count(policy.deny) == 1 with input as latest({kind: [{"name": "bare"}]})
	}
}

test_refuses_added_capabilities_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every capability in ["CHOWN", "SYS_ADMIN", "ALL", "net_bind_service", "CAP_NET_BIND_SERVICE", "", null, 1] {
			findings := policy.deny with input as with_capabilities(kind, {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", capability]})
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].securityContext.capabilities.add[1]", [kind])}
		}
	}
}

test_admits_windows if {
	every capabilities in [null, {}, {"add": ["SYS_ADMIN"]}] {
		spec := {"os": {"name": "windows"}, "containers": [{"securityContext": {"capabilities": capabilities}}]}
		count(policy.deny) == 0 with input as latest(spec)
	}
}

test_refuses_what_only_looks_like_windows if {
	every os in [{"name": "Windows"}, {"name": "linux"}, {"name": null}, {}, null, "windows", ["windows"]] {
		count(policy.deny) == 1 with input as latest(object.union(bad, {"os": os}))
	}
}

test_refuses_what_cannot_be_read if {
	every value in ["ALL", ["ALL"], true] {
		spec := {"os": {"name": "windows"}, "containers": [{"securityContext": {"capabilities": value}}]}
		some finding in policy.deny with input as latest(spec)
		finding.path == "spec.containers[0].securityContext.capabilities"
	}
	every field in ["add", "drop"] {
		every list in ["ALL", {}, {"0": "ALL"}, true] {
			spec := {"os": {"name": "windows"}, "containers": [{"securityContext": {"capabilities": {field: list}}}]}
			some finding in policy.deny with input as latest(spec)
			finding.path == sprintf("spec.containers[0].securityContext.capabilities.%s", [field])
		}
		every element in [1, true, ["ALL"], {}] {
			spec := {"os": {"name": "windows"}, "containers": [{"securityContext": {"capabilities": {field: ["ALL", element]}}}]}
			some finding in policy.deny with input as latest(spec)
			finding.path == sprintf("spec.containers[0].securityContext.capabilities.%s[1]", [field])
		}
	}
}

fine := {"securityContext": {"capabilities": {"drop": ["ALL"]}}}

good := {"containers": [fine]}

bad := {"containers": [{"securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}]}

test_refuses_containers_that_cannot_be_read if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every list in ["x", {"a": fine}, true, 1] {
			some finding in policy.deny with input as latest({kind: list})
			finding.path == sprintf("spec.%s", [kind])
		}
		every container in ["x", null, [], 1] {
			some finding in policy.deny with input as latest({kind: [fine, container]})
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
	finding.path == "spec.template.spec.containers[0].securityContext.capabilities.drop"
}
