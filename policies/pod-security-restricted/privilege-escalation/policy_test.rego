package ringfence.pss.restricted.privilege_escalation_test

import data.ringfence.pss.restricted.privilege_escalation as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

test_admits_what_forbids_it if {
	count(policy.deny) == 0 with input as latest({"initContainers": [fine], "containers": [fine], "ephemeralContainers": [fine]})
	count(policy.deny) == 0 with input as latest({"containers": []})
}

test_refuses_what_does_not_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every context in [{}, null, {"allowPrivilegeEscalation": true}, {"allowPrivilegeEscalation": null}, {"AllowPrivilegeEscalation": false}] {
			findings := policy.deny with input as latest({kind: [fine, {"securityContext": context}]})
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].securityContext.allowPrivilegeEscalation", [kind])}
		}
		count(policy.deny) == 1 with input as latest({kind: [{"name": "bare"}]})
	}
}

test_admits_windows if {
	count(policy.deny) == 0 with input as latest(object.union(bad, {"os": {"name": "windows"}}))
}

test_refuses_what_only_looks_like_windows if {
	every os in [{"name": "Windows"}, {"name": "linux"}, {"name": null}, {}, null, "windows", ["windows"]] {
		count(policy.deny) == 1 with input as latest(object.union(bad, {"os": os}))
	}
}

test_refuses_what_cannot_be_read if {
	every value in ["false", 0, [], {}] {
		spec := {"os": {"name": "windows"}, "containers": [{"securityContext": {"allowPrivilegeEscalation": value}}]}
		some finding in policy.deny with input as latest(spec)
		finding.path == "spec.containers[0].securityContext.allowPrivilegeEscalation"
	}
}

fine := {"securityContext": {"allowPrivilegeEscalation": false}}

good := {"containers": [fine]}

bad := {"containers": [{"securityContext": {"allowPrivilegeEscalation": true}}]}

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
	finding.path == "spec.template.spec.containers[0].securityContext.allowPrivilegeEscalation"
}
