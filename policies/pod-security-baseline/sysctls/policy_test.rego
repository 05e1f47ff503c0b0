package ringfence.pss.baseline.sysctls_test

import data.ringfence.pss.baseline.sysctls as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

with_sysctls(sysctls) := {"securityContext": {"sysctls": sysctls}}

since_1_32 := ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"]

test_admits_safe_ones if {
	safe := [
		"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
		"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
		"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_syncookies",
	]
	sysctls := [{"name": name, "value": "1"} | some name in safe]
	count(policy.deny) == 0 with input as asked("v1.31", with_sysctls(sysctls))
	every name in since_1_32 {
		every version in ["v1.32", "v1.33", "v1.36", "latest"] {
			count(policy.deny) == 0 with input as asked(version, with_sysctls([{"name": name}]))
		}
	}
	count(policy.deny) == 0 with input as latest(with_sysctls(null))
	count(policy.deny) == 0 with input as latest({"securityContext": null})
}

test_refuses_others if {
	every sysctl in [{"name": "kernel.msgmax"}, {"name": ""}, {"name": null}, {"name": 1}, {"name": []}, {"value": "1"}, {}, null, "kernel.shm_rmid_forced"] {
		findings := policy.deny with input as latest(with_sysctls([{"name": "kernel.shm_rmid_forced"}, sysctl]))
		{finding.path | some finding in findings} == {"spec.securityContext.sysctls[1]"}
	}
}

test_refuses_what_became_safe_later if {
	every name in since_1_32 {
		count(policy.deny) == 1 with input as asked("v1.31", with_sysctls([{"name": name}]))
	}
}

test_refuses_sysctls_that_cannot_be_read if {
	every sysctls in ["x", {}, {"name": "kernel.shm_rmid_forced"}, true] {
		some finding in policy.deny with input as latest(with_sysctls(sysctls))
		finding.path == "spec.securityContext.sysctls"
	}
}

good := {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}}

bad := {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}

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
	finding.path == "spec.template.spec.securityContext.sysctls[0]"
}
