package ringfence.pss.baseline.host_path_volumes_test

import data.ringfence.pss.baseline.host_path_volumes as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

test_admits_volumes_of_other_types if {
	every volumes in [null, [], [{"name": "a", "nfs": {}}, {"name": "b", "emptyDir": {}, "hostPath": null}], [{"name": "HostPath"}]] {
		count(policy.deny) == 0 with input as latest({"volumes": volumes})
	}
}

test_refuses_folders_of_the_node if {
	every value in [{"path": "/"}, {}, "/", false, []] {
		findings := policy.deny with input as latest({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": value}]})
		{finding.path | some finding in findings} == {"spec.volumes[1].hostPath"}
	}
}

test_refuses_volumes_that_cannot_be_read if {
	every list in ["x", {"a": {}}, true, 1] {
		some finding in policy.deny with input as latest({"volumes": list})
		finding.path == "spec.volumes"
	}
	every volume in ["hostPath", null, [], 1] {
		some finding in policy.deny with input as latest({"volumes": [{"name": "a", "emptyDir": {}}, volume]})
		finding.path == "spec.volumes[1]"
	}
}

good := {"volumes": [{"name": "a", "emptyDir": {}}]}

bad := {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}

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
	finding.path == "spec.template.spec.volumes[0].hostPath"
}
