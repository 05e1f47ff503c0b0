package ringfence.pss.baseline.host_probes_test

import data.ringfence.pss.baseline.host_probes as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

with_probe(kind, probe, handler) := {kind: [{}, {probe: handler}]}

with_hook(kind, hook, handler) := {kind: [{}, {"lifecycle": {hook: handler}}]}

test_admits_probes_and_hooks_of_the_pod if {
	every action in [null, {}, {"host": ""}, {"host": null}, {"port": 80, "Host": "x"}] {
		count(policy.deny) == 0 with input as latest(with_probe("containers", "livenessProbe", {"httpGet": action}))
		count(policy.deny) == 0 with input as latest(with_hook("containers", "preStop", {"httpGet": action}))
	}
	every none in [null, {}, {"exec": {"command": ["true"]}}] {
		count(policy.deny) == 0 with input as latest(with_probe("containers", "livenessProbe", none))
		count(policy.deny) == 0 with input as latest(with_hook("containers", "preStop", none))
	}
	count(policy.deny) == 0 with input as latest({"containers": [{"lifecycle": null}]})
}

test_refuses_probes_to_other_hosts if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
			every action in ["httpGet", "tcpSocket"] {
				findings := policy.deny with input as latest(with_probe(kind, probe, {action: {"host": "169.254.169.254"}}))
				{finding.path | some finding in findings} == {sprintf("spec.%s[1].%s.%s.host", [kind, probe, action])}
			}
		}
	}
}

test_refuses_hooks_to_other_hosts if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every hook in ["postStart", "preStop"] {
			every action in ["httpGet", "tcpSocket"] {
				findings := policy.deny with input as latest(with_hook(kind, hook, {action: {"host": "127.0.0.1"}}))
				{finding.path | some finding in findings} == {sprintf("spec.%s[1].lifecycle.%s.%s.host", [kind, hook, action])}
			}
		}
	}
}

test_admits_them_in_versions_that_did_not_ask if {
	every version in ["v1.31", "v1.32", "v1.33"] {
		count(policy.deny) == 0 with input as asked(version, bad)
	}
}

test_refuses_them_from_1_34_on if {
	every version in ["v1.34", "v1.35", "v1.36", "latest"] {
		count(policy.deny) == 1 with input as asked(version, bad)
	}
}

test_refuses_handlers_that_cannot_be_read if {
	every value in ["x", [], true, 1] {
		every version in ["v1.31", "latest"] {
			some probe in policy.deny with input as asked(version, with_probe("containers", "startupProbe", value))
			probe.path == "spec.containers[1].startupProbe"
			some action in policy.deny with input as asked(version, with_probe("containers", "startupProbe", {"tcpSocket": value}))
			action.path == "spec.containers[1].startupProbe.tcpSocket"
			some hook in policy.deny with input as asked(version, with_hook("containers", "preStop", value))
			hook.path == "spec.containers[1].lifecycle.preStop"
			some hooked in policy.deny with input as asked(version, with_hook("containers", "preStop", {"httpGet": value}))
			hooked.path == "spec.containers[1].lifecycle.preStop.httpGet"
			some lifecycle in policy.deny with input as asked(version, {"containers": [{"lifecycle": value}]})
			lifecycle.path == "spec.containers[0].lifecycle"
		}
	}
	every host in [1, true, [], {}] {
		some finding in policy.deny with input as asked("v1.31", with_probe("containers", "startupProbe", {"httpGet": {"host": host}}))
		finding.path == "spec.containers[1].startupProbe.httpGet.host"
	}
}

good := {"containers": [{"livenessProbe": {"httpGet": {"port": 80}}}]}

bad := {"containers": [{"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}}]}

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
	finding.path == "spec.template.spec.containers[0].livenessProbe.httpGet.host"
}
