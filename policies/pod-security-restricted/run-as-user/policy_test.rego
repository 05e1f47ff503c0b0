package ringfence.pss.restricted.run_as_user_test

import data.ringfence.pss.restricted.run_as_user as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

test_admits_other_users_and_none if {
	every user in [1, 1000, 4294967296, null] {
		context := {"runAsUser": user}
		count(policy.deny) == 0 with input as latest({"securityContext": context, "containers": [{"securityContext": context}]})
	}
	count(policy.deny) == 0 with input as latest({"securityContext": null, "containers": [{"securityContext": {"RunAsUser": 0}}]})
}

test_refuses_user_0 if {
	findings := policy.deny with input as latest({"securityContext": {"runAsUser": 0}})
	{finding.path | some finding in findings} == {"spec.securityContext.runAsUser"}
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		found := policy.deny with input as latest({kind: [{}, {"securityContext": {"runAsUser": 0}}]})
		{finding.path | some finding in found} == {sprintf("spec.%s[1].securityContext.runAsUser", [kind])}
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
	every value in ["0", "1000", true, 0.5, [], {}] {
		some finding in policy.deny with input as latest({"hostUsers": false, "securityContext": {"runAsUser": value}})
		finding.path == "spec.securityContext.runAsUser"
		some found in policy.deny with input as latest({"containers": [{"securityContext": {"runAsUser": value}}]})
		found.path == "spec.containers[0].securityContext.runAsUser"
	}
}

good := {"securityContext": {"runAsUser": 1000}}

bad := {"securityContext": {"runAsUser": 0}}

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
	finding.path == "spec.template.spec.securityContext.runAsUser"
}
