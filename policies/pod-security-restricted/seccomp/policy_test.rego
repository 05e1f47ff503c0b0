package ringfence.pss.restricted.seccomp_test

import data.ringfence.pss.restricted.seccomp as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

test_admits_what_is_filtered_by_the_pod_or_by_itself if {
	every type in ["RuntimeDefault", "Localhost"] {
		profile := {"seccompProfile": {"type": type}}
		every context in [{}, null, {"seccompProfile": null}, profile] {
			count(policy.deny) == 0 with input as latest({"securityContext": profile, "containers": [{"securityContext": context}]})
		}
		count(policy.deny) == 0 with input as latest({"containers": [{"securityContext": profile}], "initContainers": [fine]})
	}
}

test_refuses_profiles_that_do_not_filter if {
	every profile in [{"type": "Unconfined"}, {"type": "runtimedefault"}, {"type": ""}, {"type": null}, {}] {
		of_pod := policy.deny with input as latest({"securityContext": {"seccompProfile": profile}, "containers": [fine]})
		{finding.path | some finding in of_pod} == {"spec.securityContext.seccompProfile.type"}
		every kind in ["initContainers", "containers", "ephemeralContainers"] {
			container := {"securityContext": {"seccompProfile": profile}}
			findings := policy.deny with input as latest(object.union(filtered, {kind: [fine, container]}))
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].securityContext.seccompProfile.type", [kind])}
		}
	}
}

test_refuses_containers_without_one if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every context in [{}, null, {"seccompProfile": null}, {"SeccompProfile": {"type": "RuntimeDefault"}}] {
			findings := policy.deny with input as latest({kind: [fine, {"securityContext": context}]})
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].securityContext.seccompProfile.type", [kind])}
		}
	}
}

test_admits_windows if {
	every spec in [bad, {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}] {
		count(policy.deny) == 0 with input as latest(object.union(spec, {"os": {"name": "windows"}}))
	}
}

test_refuses_what_only_looks_like_windows if {
	every os in [{"name": "Windows"}, {"name": "linux"}, {"name": null}, {}, null, "windows", ["windows"]] {
		count(policy.deny) == 1 with input as latest(object.union(bad, {"os": os}))
	}
}

test_refuses_what_cannot_be_read if {
	every profile in ["RuntimeDefault", ["RuntimeDefault"], true] {
		spec := {"os": {"name": "windows"}, "containers": [{"securityContext": {"seccompProfile": profile}}]}
		some finding in policy.deny with input as latest(spec)
		finding.path == "spec.containers[0].securityContext.seccompProfile"
	}
	every type in [1, true, [], {}] {
		spec := {"os": {"name": "windows"}, "securityContext": {"seccompProfile": {"type": type}}}
		some finding in policy.deny with input as latest(spec)
		finding.path == "spec.securityContext.seccompProfile.type"
	}
}

filtered := {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}

fine := {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}

good := {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "main"}]}

bad := {"containers": [{"name": "main"}]}

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
	finding.path == "spec.template.spec.containers[0].securityContext.seccompProfile.type"
}
