package ringfence.pss.restricted.run_as_non_root_test

import data.ringfence.pss.restricted.run_as_non_root as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

test_admits_what_is_bound_by_the_pod_or_by_itself if {
	by_pod := {"runAsNonRoot": true}
	every context in [{}, null, {"runAsNonRoot": null}, {"runAsNonRoot": true}] {
		count(policy.deny) == 0 with input as latest({"securityContext": by_pod, "containers": [{"securityContext": context}]})
	}
	every context in [{}, null, {"runAsNonRoot": null}] {
		count(policy.deny) == 0 with input as latest({"securityContext": context, "containers": [fine], "ephemeralContainers": [fine]})
	}
}

test_refuses_a_pod_that_says_false if {
	every value in [false, "true", 1] {
		findings := policy.deny with input as latest({"securityContext": {"runAsNonRoot": value}, "containers": [fine]})
		{finding.path | some finding in findings} == {"spec.securityContext.runAsNonRoot"}
	}
}

test_refuses_a_container_that_is_not_bound if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		path := sprintf("spec.%s[1].securityContext.runAsNonRoot", [kind])
		every context in [{}, null, {"runAsNonRoot": null}, {"RunAsNonRoot": true}, {"runAsUser": 1000}] {
			findings := policy.deny with input as latest({kind: [fine, {"securityContext": context}]})
			{finding.path | some finding in findings} == {path}
		}
		unbound := {"securityContext": {"runAsNonRoot": true}, kind: [fine, {"securityContext": {"runAsNonRoot": false}}]}
		found := policy.deny with input as latest(unbound)
		{finding.path | some finding in found} == {path}
	}
}

test_admits_root_where_the_pod_has_users_of_its_own if {
	every version in ["v1.35", "v1.36", "latest"] {
		count(policy.deny) == 0 with input as asked(version, object.union(bad, {"hostUsers": false}))
	}
}

test_refuses_root_all_the_same_in_older_versions_or_with_other_users if {
	every version in ["v1.31", "v1.32", "v1.33", "v1.34"] {
		count(policy.deny) > 0 with input as asked(version, object.union(bad, {"hostUsers": false}))
	}
	every users in [true, null, "false", 0, {}] {
		count(policy.deny) > 0 with input as latest(object.union(bad, {"hostUsers": users}))
	}
}

test_refuses_what_cannot_be_read if {
	every value in ["true", 1, [], {}] {
		of_pod := {"hostUsers": false, "securityContext": {"runAsNonRoot": value}}
		some finding in policy.deny with input as latest(of_pod)
		finding.path == "spec.securityContext.runAsNonRoot"
		of_container := {"hostUsers": false, "containers": [{"securityContext": {"runAsNonRoot": value}}]}
		some found in policy.deny with input as latest(of_container)
		found.path == "spec.containers[0].securityContext.runAsNonRoot"
	}
}

test_refuses_also_windows if {
	count(policy.deny) == 2 with input as latest(object.union(bad, {"os": {"name": "windows"}}))
}

fine := {"securityContext": {"runAsNonRoot": true}}

good := {"containers": [fine]}

bad := {"securityContext": {"runAsNonRoot": false}, "containers": [{"name": "main"}]}

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
	finding.path == "spec.template.spec.securityContext.runAsNonRoot"
}
