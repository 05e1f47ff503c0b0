package ringfence.approved_namespaces_test

import data.ringfence.approved_namespaces as policy

case(name, labels, allowed) := {
	"request": {"namespace": name},
	"namespace": {"metadata": {"name": name, "labels": labels}},
	"parameters": {"allowed": allowed},
}

test_admits_enforce if {
	count(policy.deny) == 0 with input as case("ai-secure", {"ringfence.dev/enforce": "default"}, [])
}

test_admits_warn_and_audit if {
	every label in ["ringfence.dev/warn", "ringfence.dev/audit"] {
		count(policy.deny) == 0 with input as case("ai-secure", {label: "default"}, [])
	}
}

test_admits_a_listed_namespace_without_label if {
	count(policy.deny) == 0 with input as case("ai-secure", {}, ["other", "ai-secure"])
}

test_refuses_a_namespace_without_label if {
	some finding in policy.deny with input as case("team-a", {"team": "a"}, [])
	finding.value == "team-a"
	contains(finding.fix, "ringfence.dev/enforce")
}

test_refuses_an_empty_label if {
	count(policy.deny) == 1 with input as case("team-a", {"ringfence.dev/enforce": ""}, [])
}

test_refuses_a_label_that_only_looks_alike if {
	every label in ["ringfence.dev/Enforce", "ringfence.dev/enforce ", "ringfence.dev/workflow", "ringfence·dev/enforce"] {
		count(policy.deny) == 1 with input as case("team-a", {label: "default"}, [])
	}
}

test_refuses_a_labelled_namespace_that_is_not_listed if {
	some finding in policy.deny with input as case("team-a", {"ringfence.dev/enforce": "default"}, ["ai-secure"])
	contains(finding.fix, "ai-secure")
}

test_refuses_a_listed_name_in_another_case if {
	count(policy.deny) == 1 with input as case("AI-Secure", {}, ["ai-secure"])
}

test_refuses_an_unknown_namespace if {
	count(policy.deny) == 1 with input as {"request": {"namespace": "ai-secure"}, "parameters": {"allowed": []}}
}

test_refuses_another_namespaces_object if {
	other := {"metadata": {"name": "ai-secure", "labels": {"ringfence.dev/enforce": "default"}}}
	count(policy.deny) == 1 with input as {"request": {"namespace": "b"}, "namespace": other, "parameters": {"allowed": []}}
}

test_refuses_a_request_without_namespace if {
	count(policy.deny) == 1 with input as {"request": {}, "parameters": {"allowed": ["", "a"]}}
	count(policy.deny) == 1 with input as {"request": {"namespace": ""}, "parameters": {"allowed": ["", "a"]}}
	count(policy.deny) == 1 with input as {}
}

test_refuses_with_a_list_too_long_to_print if {
	allowed := ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9", "n10"]
	some finding in policy.deny with input as case("team-a", {}, allowed)
	contains(finding.fix, "the list")
}
