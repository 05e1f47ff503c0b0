package ringfence.pss.restricted.proc_mount_test

import data.ringfence.pss.restricted.proc_mount as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

with_mount(kind, type) := {kind: [{}, {"securityContext": {"procMount": type}}]}

test_admits_what_is_masked if {
	every type in ["Default", null] {
		count(policy.deny) == 0 with input as latest(with_mount("containers", type))
	}
	count(policy.deny) == 0 with input as latest({"containers": [{"securityContext": {"ProcMount": "Unmasked"}}]})
}

test_refuses_what_is_not_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every type in ["Unmasked", "default", ""] {
			findings := policy.deny with input as latest(with_mount(kind, type))
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].securityContext.procMount", [kind])}
		}
		every type in [1, true, [], {}] {
			count(policy.deny) > 0 with input as latest(with_mount(kind, type))
		}
	}
}

test_refuses_it_also_where_the_pod_has_users_of_its_own if {
	spec := object.union(with_mount("containers", "Unmasked"), {"hostUsers": false})
	every version in ["v1.31", "v1.34", "v1.35", "v1.36", "latest"] {
		count(policy.deny) == 1 with input as asked(version, spec)
	}
}

good := {"containers": [{"name": "main"}]}

bad := {"containers": [{"securityContext": {"procMount": "Unmasked"}}]}

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
	finding.path == "spec.template.spec.containers[0].securityContext.procMount"
}
