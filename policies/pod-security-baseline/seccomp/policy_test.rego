package ringfence.pss.baseline.seccomp_test

import data.ringfence.pss.baseline.seccomp as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

of_pod(profile) := latest({"securityContext": {"seccompProfile": profile}})

of_container(kind, profile) := latest({kind: [{}, {"securityContext": {"seccompProfile": profile}}]})

test_admits_profiles_that_filter_and_none if {
	every profile in [null, {"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "app.json"}] {
		count(policy.deny) == 0 with input as of_pod(profile)
		count(policy.deny) == 0 with input as of_container("containers", profile)
	}
}

test_refuses_other_profiles if {
	every profile in [{"type": "Unconfined"}, {"type": "runtime/default"}, {"type": ""}, {"type": null}, {"type": 1}, {}, "RuntimeDefault", [], true] {
		findings := policy.deny with input as of_pod(profile)
		{finding.path | some finding in findings} == {"spec.securityContext.seccompProfile.type"}
		every kind in ["initContainers", "containers", "ephemeralContainers"] {
			found := policy.deny with input as of_container(kind, profile)
			{finding.path | some finding in found} == {sprintf("spec.%s[1].securityContext.seccompProfile.type", [kind])}
		}
	}
}

test_refuses_them_also_for_windows if {
	spec := {"os": {"name": "windows"}, "securityContext": {"seccompProfile": {"type": "Unconfined"}}}
	count(policy.deny) == 1 with input as latest(spec)
}

good := {"containers": [{"name": "main"}]}

bad := {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}

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

test_refuses_a_context_of_the_pod_that_cannot_be_read if {
	every context in ["x", [], true, 1] {
		some finding in policy.deny with input as latest({"securityContext": context, "containers": []})
		finding.path == "spec.securityContext"
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
	finding.path == "spec.template.spec.securityContext.seccompProfile.type"
}
