package ringfence.pss.baseline.host_ports_test

import data.ringfence.pss.baseline.host_ports as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

with_ports(kind, ports) := latest({kind: [{}, {"ports": ports}]})

test_admits_ports_of_its_own if {
	every ports in [null, [], [{"containerPort": 80}], [{"containerPort": 80, "hostPort": 0}, {"hostPort": null}, {"HostPort": 1}]] {
		count(policy.deny) == 0 with input as with_ports("containers", ports)
	}
}

test_refuses_ports_of_the_node_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every port in [80, 1, -1, "0", "80", true, [], {}] {
			findings := policy.deny with input as with_ports(kind, [{"containerPort": 80}, {"hostPort": port}])
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].ports[1].hostPort", [kind])}
		}
	}
}

test_refuses_ports_that_cannot_be_read if {
	every ports in ["80", {"hostPort": 80}, {}, true] {
		some finding in policy.deny with input as with_ports("containers", ports)
		finding.path == "spec.containers[1].ports"
	}
	every port in ["80", 80, null, []] {
		some finding in policy.deny with input as with_ports("containers", [port])
		finding.path == "spec.containers[1].ports[0]"
	}
}

good := {"containers": [{"ports": [{"containerPort": 80}]}]}

bad := {"containers": [{"ports": [{"hostPort": 80}]}]}

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
	finding.path == "spec.template.spec.containers[0].ports[0].hostPort"
}
