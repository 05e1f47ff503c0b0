package ringfence.namespace_baseline_test

import data.ringfence.namespace_baseline as policy

case(labels) := {
	"request": {"object": {"metadata": {"name": "ai-secure", "labels": labels}}},
	"parameters": {"ownerLabel": "owner"},
}

good := {"owner": "finance-ml", "pod-security.kubernetes.io/enforce": "restricted"}

test_admits_owner_and_level if {
	count(policy.deny) == 0 with input as case(good)
	count(policy.deny) == 0 with input as case(object.union(good, {"pod-security.kubernetes.io/enforce": "baseline"}))
}

test_admits_another_owner_label if {
	labels := {"team": "finance-ml", "pod-security.kubernetes.io/enforce": "baseline"}
	count(policy.deny) == 0 with input as object.union(case(labels), {"parameters": {"ownerLabel": "team"}})
}

test_admits_the_namespace_that_is_there if {
	count(policy.deny) == 0 with input as {"namespace": {"metadata": {"labels": good}}, "parameters": {"ownerLabel": "owner"}}
}

test_refuses_no_labels if {
	count(policy.deny) == 2 with input as case({})
	count(policy.deny) == 2 with input as {"request": {"object": {"metadata": {"name": "a"}}}, "parameters": {}}
}

test_refuses_a_missing_or_empty_owner if {
	every owner in [{}, {"owner": ""}, {"owner": "  "}, {"Owner": "a"}] {
		labels := object.union(owner, {"pod-security.kubernetes.io/enforce": "baseline"})
		some finding in policy.deny with input as case(labels)
		finding.path == "metadata.labels[owner]"
	}
}

test_refuses_the_usual_label_where_another_is_asked_for if {
	count(policy.deny) == 1 with input as object.union(case(good), {"parameters": {"ownerLabel": "team"}})
}

test_refuses_other_levels if {
	every level in ["privileged", "", "Restricted", "restricted ", "bаseline"] {
		labels := {"owner": "a", "pod-security.kubernetes.io/enforce": level}
		some finding in policy.deny with input as case(labels)
		finding.value == level
	}
}

test_refuses_a_level_that_only_warns if {
	labels := {"owner": "a", "pod-security.kubernetes.io/warn": "restricted"}
	count(policy.deny) == 1 with input as case(labels)
}

test_refuses_the_new_object_although_the_old_one_was_good if {
	both := {"namespace": {"metadata": {"labels": good}}}
	count(policy.deny) == 2 with input as object.union(case({}), both)
}

test_refuses_nothing_at_all if {
	count(policy.deny) == 3 with input as {}
}

test_warns_of_a_missing_classification if {
	every labels in [good, object.union(good, {"classification": " "}), object.union(good, {"Classification": "internal"})] {
		some finding in policy.warn with input as case(labels)
		finding.path == "metadata.labels[classification]"
		count(policy.deny) == 0 with input as case(labels)
	}
	some none in policy.warn with input as {"request": {"object": {"metadata": {}}}}
	contains(none.fix, "classification")
}

test_admits_a_classification if {
	classified := object.union(good, {"classification": "internal"})
	count(policy.warn) == 0 with input as case(classified)
	listed := {"parameters": {"classificationLabel": "data-class", "classifications": ["public", "internal"]}}
	count(policy.deny) + count(policy.warn) == 0 with input as object.union(case(object.union(good, {"data-class": "internal"})), listed)
	count(policy.warn) == 0 with input as object.union(case(good), {"parameters": {"classificationLabel": ""}})
}

test_refuses_another_classification_than_those_that_there_are if {
	listed := {"parameters": {"classifications": ["public", "internal"]}}
	every labels in [good, object.union(good, {"classification": "Internal"}), object.union(good, {"classification": ""})] {
		some finding in policy.deny with input as object.union(case(labels), listed)
		finding.path == "metadata.labels[classification]"
		finding.fix == "set label classification to one of public, internal"
		count(policy.warn) == 0 with input as object.union(case(labels), listed)
	}
	labels := object.union(good, {"classification": "internal"})
	moved := {"parameters": {"classificationLabel": "data-class", "classifications": ["internal"]}}
	count(policy.deny) == 1 with input as object.union(case(labels), moved)
}
