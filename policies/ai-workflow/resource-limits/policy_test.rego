package ringfence.resource_limits_test

import data.ringfence.resource_limits as policy

full := {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}

with_spec(spec) := {
	"podPath": "", "pod": {"spec": spec},
	"parameters": {"action": "warn", "required": {"requests": ["cpu", "memory"], "limits": ["memory"]}},
}

with_resources(resources) := with_spec({"containers": [{"name": "good", "resources": full}, {"name": "main", "resources": resources}]})

denying := {"parameters": {"action": "deny"}}

test_admits_what_says_all if {
	every resources in [
		full,
		{"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
		{"limits": {"cpu": "0.5", "memory": "1e9"}},
		object.union(full, {"requests": {"cpu": "0"}}),
	] {
		count(policy.deny) + count(policy.warn) == 0 with input as object.union(with_resources(resources), denying)
		count(policy.warn) == 0 with input as with_resources(resources)
	}
}

test_admits_what_the_pod_says_for_all if {
	count(policy.deny) == 0 with input as object.union(with_spec({"resources": full, "containers": [{"name": "main"}]}), denying)
	partly := {"resources": {"limits": {"memory": "1Gi"}}, "containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]}
	count(policy.deny) == 0 with input as object.union(with_spec(partly), denying)
}

test_admits_ephemeral_containers_which_can_say_nothing if {
	count(policy.deny) == 0 with input as object.union(with_spec({"ephemeralContainers": [{"name": "debug"}]}), denying)
}

test_refuses_what_is_missing_where_the_action_is_not_to_warn if {
	every action in ["deny", "Deny", "wran", ""] {
		every missing, resources in {
			"requests.cpu": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}},
			"requests.memory": {"requests": {"cpu": "1"}, "limits": {"memory": "0"}},
			"limits.memory": {"requests": {"cpu": "1", "memory": "1Gi"}},
		} {
			changed := object.union(with_resources(resources), {"parameters": {"action": action}})
			some finding in policy.deny with input as changed
			finding.path == concat("", ["spec.containers[1].resources.", missing])
			count(policy.warn) == 0 with input as changed
		}
	}
}

test_warns_of_what_is_missing if {
	count(policy.warn) == 3 with input as with_spec({"containers": [{"name": "main"}]})
	count(policy.deny) == 0 with input as with_spec({"containers": [{"name": "main"}]})
	some finding in policy.warn with input as with_spec({"initContainers": [{"name": "prepare", "resources": {"limits": {"memory": "1Gi"}}}]})
	finding.path == "spec.initContainers[0].resources.requests.cpu"
	finding.msg == "the container does not say how much processor time it needs"
}

test_refuses_limits_that_are_none if {
	every limit in ["0", 0, "0Mi", "0e5", "0.0", "", null, false, "-0"] {
		resources := object.union(full, {"limits": {"memory": limit}})
		some finding in policy.deny with input as object.union(with_resources(resources), denying)
		finding.path == "spec.containers[1].resources.limits.memory"
	}
}

test_refuses_more_where_more_is_required if {
	disk := {"parameters": {"action": "deny", "required": {"requests": [], "limits": ["ephemeral-storage", "nvidia.com/gpu"]}}}
	count(policy.deny) == 4 with input as object.union(with_resources(full), disk)
	holds := {"limits": {"ephemeral-storage": "1Gi", "nvidia.com/gpu": "1"}}
	count(policy.deny) == 0 with input as object.union(with_spec({"containers": [{"name": "main", "resources": holds}]}), disk)
}

test_refuses_in_a_template_with_its_path if {
	template := object.union(with_spec({"containers": [{"name": "main"}]}), {"podPath": "spec.template", "parameters": {"action": "deny"}})
	some finding in policy.deny with input as template
	startswith(finding.path, "spec.template.spec.containers[0].resources.")
}

test_refuses_a_pod_without_spec if {
	count(policy.deny) == 1 with input as object.union(with_spec("x"), denying)
	count(policy.deny) == 1 with input as {}
}
