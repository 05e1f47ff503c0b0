package ringfence.no_wildcard_rbac_test

import data.ringfence.no_wildcard_rbac as policy

role(rules) := of("Role", "ai-secure", {"rules": rules})

cluster_role(fields) := of("ClusterRole", "", fields)

of(kind, namespace, fields) := {
	"request": {
		"operation": "CREATE", "namespace": namespace, "userInfo": {"username": "dev"},
		"object": object.union({"kind": kind, "metadata": {"name": "reader"}}, fields),
	},
	"parameters": {"allowedClusterRoles": []},
}

good := {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}

test_admits_what_is_named if {
	count(policy.deny) == 0 with input as role([good])
	count(policy.deny) == 0 with input as role([good, {"nonResourceURLs": ["/healthz/*", "/metrics"], "verbs": ["get"]}])
	count(policy.deny) == 0 with input as role([])
	count(policy.deny) == 0 with input as role(null)
	count(policy.deny) == 0 with input as of("Role", "ai-secure", {})
	count(policy.deny) == 0 with input as role([{"apiGroups": null, "resources": null, "verbs": ["get"], "nonResourceURLs": ["/x"]}])
}

test_refuses_a_wildcard_in_any_list if {
	every field in ["apiGroups", "resources", "verbs"] {
		every value in ["*", "*/*", "pods/*", "*/scale"] {
			some finding in policy.deny with input as role([good, object.union(good, {field: ["get", value]})])
			finding.path == sprintf("rules[1].%s[1]", [field])
		}
	}
	every url in ["*", "/*", "//*"] {
		count(policy.deny) == 1 with input as cluster_role({"rules": [{"nonResourceURLs": [url], "verbs": ["get"]}]})
	}
}

test_refuses_verbs_that_hand_out_rights if {
	every verb in ["escalate", "bind", "impersonate", "ESCALATE", "impersonate:user-info", "impersonate-on:user-info:get"] {
		some finding in policy.deny with input as role([object.union(good, {"verbs": ["get", verb]})])
		finding.path == "rules[0].verbs[1]"
	}
}

test_refuses_aggregation_of_what_nobody_chose if {
	every selector in [
		{},
		{"matchLabels": {}},
		{"matchLabels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
		{"matchExpressions": []},
		{"matchExpressions": [{"key": "a", "operator": "Exists"}]},
		{"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]},
		{"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]},
		{"matchExpressions": [{"key": "kubernetes.io/bootstrapping", "operator": "In", "values": ["rbac-defaults"]}]},
	] {
		chosen := {"matchLabels": {"example.com/aggregate-to-triage": "true"}}
		some finding in policy.deny with input as cluster_role({"aggregationRule": {"clusterRoleSelectors": [chosen, selector]}})
		finding.path == "aggregationRule.clusterRoleSelectors[1]"
	}
}

test_admits_aggregation_by_a_label_of_ones_own if {
	every selector in [
		{"matchLabels": {"example.com/aggregate-to-triage": "true"}},
		{"matchExpressions": [{"key": "example.com/a", "operator": "In", "values": ["true"]}]},
	] {
		count(policy.deny) == 0 with input as cluster_role({"aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": null})
	}
}

wild := {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}

test_refuses_rules_that_cannot_be_read if {
	every rules in ["*", {"a": wild}, ["*"], [{"verbs": "*"}], [{"verbs": {"a": "*"}}], [{"verbs": [["*"]]}]] {
		count(policy.deny) > 0 with input as role(rules)
	}
	count(policy.deny) == 1 with input as {"request": {"object": null}}
	count(policy.deny) == 1 with input as {}
}

update(old, new) := {
	"request": {"operation": "UPDATE", "namespace": "ai-secure", "object": new, "oldObject": old},
	"parameters": {"allowedClusterRoles": []},
}

test_admits_an_update_that_leaves_the_rules if {
	old := {"kind": "Role", "metadata": {"name": "reader", "finalizers": ["a"]}, "rules": [wild]}
	count(policy.deny) == 0 with input as update(old, object.union(old, {"metadata": {"finalizers": []}}))
}

test_refuses_an_update_of_rules_and_a_claim_that_there_was_one if {
	old := {"kind": "Role", "rules": [wild]}
	count(policy.deny) == 3 with input as update({"kind": "Role", "rules": [good]}, old)
	count(policy.deny) == 4 with input as update(old, {"kind": "Role", "rules": [wild, object.union(good, {"verbs": ["*"]})]})
	count(policy.deny) == 3 with input as object.union(update(old, old), {"request": {"operation": "CREATE"}})
	count(policy.deny) == 3 with input as update(null, old)
	aggregated := {"kind": "ClusterRole", "aggregationRule": {"clusterRoleSelectors": [{}]}}
	count(policy.deny) == 1 with input as update({"kind": "ClusterRole"}, aggregated)
}

by(user, request) := object.union(request, {"request": {"userInfo": {"username": user}}})

test_admits_what_the_control_plane_makes_of_the_cluster_and_only_that if {
	every user in ["system:apiserver", "system:serviceaccount:kube-system:clusterrole-aggregation-controller"] {
		count(policy.deny) == 0 with input as by(user, cluster_role({"rules": [wild]}))
		count(policy.deny) == 3 with input as by(user, role([wild]))
	}
	count(policy.deny) == 3 with input as by("system:serviceaccount:ai-secure:clusterrole-aggregation-controller", cluster_role({"rules": [wild]}))
}

test_admits_cluster_roles_that_the_platform_names if {
	named := {"parameters": {"allowedClusterRoles": ["reader"]}}
	count(policy.deny) == 0 with input as object.union(cluster_role({"rules": [wild]}), named)
	count(policy.deny) == 3 with input as object.union(role([wild]), named)
	count(policy.deny) == 3 with input as object.union(cluster_role({"rules": [wild]}), {"parameters": {"allowedClusterRoles": ["read"]}})
}
