package ringfence.encrypted_storage_test

import data.ringfence.encrypted_storage as policy

marked := {"storageClasses": ["encrypted", "encrypted-fast"]}

old_way := "volume.beta.kubernetes.io/storage-class"

claim(fields) := object.union({"kind": "PersistentVolumeClaim", "metadata": {"name": "data"}}, fields)

asked(fields) := {"request": {"operation": "CREATE", "kind": {"kind": "PersistentVolumeClaim"}, "object": claim(fields)}, "parameters": marked}

test_admits_marked_classes if {
	count(policy.deny) == 0 with input as asked({"spec": {"storageClassName": "encrypted"}})
	count(policy.deny) == 0 with input as asked({"metadata": {"annotations": {old_way: "encrypted-fast"}}, "spec": {}})
}

test_refuses_other_classes if {
	every class in ["standard", "", "Encrypted", "encrypted ", "еncrypted", ["encrypted"], 1] {
		some finding in policy.deny with input as asked({"spec": {"storageClassName": class, "volumeName": "pv-1"}})
		finding.path == "spec.storageClassName"
		finding.value == class
		finding.fix == "set storageClassName to encrypted or encrypted-fast"
	}
}

test_refuses_a_claim_without_a_class if {
	every spec in [{}, {"storageClassName": null}, {"volumeName": "pv-1"}] {
		some finding in policy.deny with input as asked({"spec": spec})
		contains(finding.msg, "no StorageClass")
	}
	count(policy.deny) == 1 with input as asked({})
}

test_refuses_an_annotation_that_goes_before_the_field if {
	some finding in policy.deny with input as asked({"metadata": {"annotations": {old_way: "standard"}}, "spec": {"storageClassName": "encrypted"}})
	finding.path == "metadata.annotations[volume.beta.kubernetes.io/storage-class]"
}

test_admits_no_class_by_name_where_the_platform_says_so if {
	count(policy.deny) == 0 with input as object.union(asked({"spec": {"storageClassName": ""}}), {"parameters": {"storageClasses": [""]}})
}

test_refuses_every_claim_where_nothing_is_marked if {
	nothing := {"parameters": {"storageClasses": []}}
	some finding in policy.deny with input as object.union(asked({"spec": {"storageClassName": "encrypted"}}), nothing)
	contains(finding.fix, "parameter storageClasses")
}

set_of(templates) := {
	"request": {"operation": "CREATE", "kind": {"kind": "StatefulSet"}, "object": {"spec": {"volumeClaimTemplates": templates, "template": {}}}},
	"pod": {}, "podPath": "spec.template", "parameters": marked,
}

test_refuses_templates_of_a_stateful_set if {
	good := {"spec": {"storageClassName": "encrypted"}}
	count(policy.deny) == 0 with input as set_of([good])
	some finding in policy.deny with input as set_of([good, {"spec": {"storageClassName": "standard"}}])
	finding.path == "spec.volumeClaimTemplates[1].spec.storageClassName"
	count(policy.deny) == 1 with input as set_of([good, {}])
}

pod(path, class) := {
	"request": {"operation": "CREATE", "kind": {"kind": "Pod"}, "object": {"kind": "Pod"}},
	"pod": {"spec": {"volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": class}}}}]}},
	"podPath": path, "parameters": marked,
}

test_refuses_ephemeral_volumes if {
	count(policy.deny) == 0 with input as pod("", "encrypted")
	some finding in policy.deny with input as pod("", "standard")
	finding.path == "spec.volumes[1].ephemeral.volumeClaimTemplate.spec.storageClassName"
	some template in policy.deny with input as pod("spec.jobTemplate.spec.template", "standard")
	startswith(template.path, "spec.jobTemplate.spec.template.spec.volumes[1].")
}

test_admits_what_claims_nothing if {
	plain := {"request": {"operation": "CREATE", "kind": {"kind": "Pod"}, "object": {"kind": "Pod"}}, "pod": {"spec": {}}, "podPath": "", "parameters": marked}
	count(policy.deny) == 0 with input as plain
	mounting := {"pod": {"spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}}}
	count(policy.deny) == 0 with input as object.union(plain, mounting)
}

update(old, new) := object.union(asked(new), {"request": {"operation": "UPDATE", "oldObject": claim(old)}})

test_admits_an_update_that_leaves_the_class if {
	count(policy.deny) == 0 with input as update({"spec": {"storageClassName": "standard"}}, {"spec": {"storageClassName": "standard", "resources": {"requests": {"storage": "2Gi"}}}})
	count(policy.deny) == 0 with input as update({"spec": {}}, {"spec": {}})
}

test_refuses_an_update_of_the_class if {
	count(policy.deny) == 1 with input as update({"spec": {"storageClassName": null}}, {"spec": {"storageClassName": "standard"}})
	annotated := {"metadata": {"annotations": {old_way: "standard"}}, "spec": {"storageClassName": "encrypted"}}
	count(policy.deny) == 1 with input as update({"spec": {"storageClassName": "encrypted"}}, annotated)
	count(policy.deny) == 1 with input as object.union(update({}, {}), {"request": {"operation": "CREATE"}})
}

rolled_out(old, new) := object.union(pod("spec.template", new), {"request": {
	"operation": "UPDATE", "kind": {"kind": "Deployment"},
	"oldObject": {"spec": {"template": pod("", old).pod}}, "object": {"spec": {"template": pod("", new).pod}},
}})

test_admits_a_rollout_that_leaves_the_claims if {
	count(policy.deny) == 0 with input as rolled_out("standard", "standard")
}

test_refuses_a_rollout_that_changes_them if {
	count(policy.deny) == 1 with input as rolled_out("encrypted", "standard")
}

test_refuses_nothing_at_all if {
	count(policy.deny) == 1 with input as {"request": {"object": null}}
	count(policy.deny) == 1 with input as {}
}
