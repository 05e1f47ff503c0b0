package ringfence.pss.baseline.host_namespaces_test

import data.ringfence.pss.baseline.host_namespaces as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

test_admits_namespaces_of_its_own if {
	count(policy.deny) == 0 with input as latest({"hostNetwork": false, "hostPID": null})
	count(policy.deny) == 0 with input as latest({"HostNetwork": true, "hostUsers": true})
}

test_refuses_each_namespace_of_the_node if {
	every field in ["hostNetwork", "hostPID", "hostIPC"] {
		every value in [true, "true", "false", 1, 0, [], {}] {
			findings := policy.deny with input as latest({field: value})
			{finding.path | some finding in findings} == {sprintf("spec.%s", [field])}
		}
	}
	count(policy.deny) == 3 with input as latest({"hostNetwork": true, "hostPID": true, "hostIPC": true})
}

good := {"containers": [{"name": "main"}]}

bad := {"hostPID": true}

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
	finding.path == "spec.template.spec.hostPID"
}
