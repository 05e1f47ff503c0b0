package ringfence.pss.baseline.selinux_test

import data.ringfence.pss.baseline.selinux as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

of_pod(options) := latest({"securityContext": {"seLinuxOptions": options}})

of_container(kind, options) := latest({kind: [{}, {"securityContext": {"seLinuxOptions": options}}]})

test_admits_types_of_containers if {
	every type in ["", null, "container_t", "container_init_t", "container_kvm_t", "container_engine_t"] {
		options := {"type": type, "user": "", "role": null, "level": "s0:c1,c2"}
		count(policy.deny) == 0 with input as of_pod(options)
		count(policy.deny) == 0 with input as of_container("containers", options)
	}
	count(policy.deny) == 0 with input as of_pod(null)
	count(policy.deny) == 0 with input as of_pod({})
}

test_refuses_other_types if {
	every type in ["spc_t", "Container_t", " ", 1, true, [], {}] {
		findings := policy.deny with input as of_pod({"type": type})
		{finding.path | some finding in findings} == {"spec.securityContext.seLinuxOptions.type"}
		every kind in ["initContainers", "containers", "ephemeralContainers"] {
			found := policy.deny with input as of_container(kind, {"type": type})
			{finding.path | some finding in found} == {sprintf("spec.%s[1].securityContext.seLinuxOptions.type", [kind])}
		}
	}
}

test_refuses_users_and_roles if {
	every field in ["user", "role"] {
		every value in ["system_u", " ", 1, false, []] {
			findings := policy.deny with input as of_pod({field: value})
			{finding.path | some finding in findings} == {sprintf("spec.securityContext.seLinuxOptions.%s", [field])}
			count(policy.deny) == 1 with input as of_container("containers", {field: value})
		}
	}
}

test_refuses_options_that_cannot_be_read if {
	every options in ["container_t", [], true] {
		some finding in policy.deny with input as of_pod(options)
		finding.path == "spec.securityContext.seLinuxOptions"
		count(policy.deny) == 1 with input as of_container("containers", options)
	}
}

good := {"securityContext": {"seLinuxOptions": {"type": "container_t"}}}

bad := {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}

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
	finding.path == "spec.template.spec.securityContext.seLinuxOptions.type"
}
