package ringfence.no_cluster_admin_binding_test

import data.ringfence.no_cluster_admin_binding as policy

parameters := {
	"roles": ["cluster-admin", "system:controller:*", "system:node"],
	"groups": ["system:authenticated", "system:unauthenticated", "system:serviceaccounts", "system:masters"],
	"allowedBindings": [],
}

account := {"kind": "ServiceAccount", "name": "triage", "namespace": "ai-secure"}

binding(namespace, kind, role, subjects) := {
	"request": {
		"operation": "CREATE", "namespace": namespace, "userInfo": {"username": "dev"},
		"object": {"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": subjects},
	},
	"parameters": parameters,
}

test_admits_ordinary_roles_for_somebody if {
	every role in ["view", "edit", "admin", "cluster-administrator", "system:nodes-reader", "my-cluster-admin"] {
		every namespace in ["ai-secure", "", null] {
			count(policy.deny) == 0 with input as binding(namespace, "ClusterRole", role, [account])
		}
	}
	count(policy.deny) == 0 with input as binding("ai-secure", "Role", "cluster-admin", [account])
	count(policy.deny) == 0 with input as binding("ai-secure", "ClusterRole", "view", [{"kind": "Group", "name": "system:serviceaccounts:ai-secure"}])
	count(policy.deny) == 0 with input as binding("ai-secure", "ClusterRole", "view", [{"kind": "ServiceAccount", "name": "system:masters"}])
	count(policy.deny) == 0 with input as binding("ai-secure", "ClusterRole", "view", null)
}

test_refuses_roles_of_the_cluster_in_a_namespace_and_anywhere if {
	every role in ["cluster-admin", "system:node", "system:controller:generic-garbage-collector"] {
		every namespace in ["ai-secure", ""] {
			some finding in policy.deny with input as binding(namespace, "ClusterRole", role, [account])
			finding.path == "roleRef.name"
			finding.value == role
		}
	}
}

test_refuses_more_roles_where_the_platform_names_them if {
	strict := {"parameters": {"roles": ["cluster-admin", "admin", "edit"]}}
	count(policy.deny) == 1 with input as object.union(binding("ai-secure", "ClusterRole", "edit", [account]), strict)
}

test_refuses_everybody if {
	every name in array.concat(parameters.groups, ["system:anonymous"]) {
		some finding in policy.deny with input as binding("ai-secure", "Role", "reader", [account, {"kind": "Group", "name": name}])
		finding.path == "subjects[1].name"
	}
	count(policy.deny) == 1 with input as binding("", "ClusterRole", "view", [{"kind": "User", "name": "system:anonymous"}])
	count(policy.deny) == 2 with input as binding("", "ClusterRole", "cluster-admin", [{"kind": "Group", "name": "system:masters"}])
}

test_refuses_what_cannot_be_read if {
	count(policy.deny) == 1 with input as binding("ai-secure", "ClusterRole", null, [account])
	count(policy.deny) == 1 with input as binding("ai-secure", "ClusterRole", "view", {"a": {"kind": "Group", "name": "system:masters"}})
	every broken in [{}, {"request": {"object": []}}, {"request": {"object": null}}] {
		some finding in policy.deny with input as broken
		contains(finding.msg, "no binding")
	}
}

update(old, new) := object.union(binding("ai-secure", "ClusterRole", "view", []), {"request": {
	"operation": "UPDATE",
	"oldObject": binding("ai-secure", "ClusterRole", "cluster-admin", old).request.object,
	"object": binding("ai-secure", "ClusterRole", "cluster-admin", new).request.object,
}})

test_admits_an_update_that_leaves_role_and_subjects if {
	count(policy.deny) == 0 with input as update([account], [account])
}

test_refuses_an_update_of_the_subjects if {
	count(policy.deny) == 1 with input as update([account], [account, {"kind": "User", "name": "mallory"}])
	count(policy.deny) == 1 with input as object.union(update([account], [account]), {"request": {"operation": "CREATE"}})
}

by(user, request) := object.union(request, {"request": {"userInfo": {"username": user}}})

test_admits_what_the_api_server_makes_of_the_cluster_and_only_that if {
	masters := [{"kind": "Group", "name": "system:masters"}]
	count(policy.deny) == 0 with input as by("system:apiserver", binding("", "ClusterRole", "cluster-admin", masters))
	count(policy.deny) == 2 with input as by("system:apiserver", binding("ai-secure", "ClusterRole", "cluster-admin", masters))
	count(policy.deny) == 2 with input as by("system:admin", binding("", "ClusterRole", "cluster-admin", masters))
}

test_admits_bindings_that_the_platform_names if {
	named := {"parameters": {"allowedBindings": ["b"]}}
	count(policy.deny) == 0 with input as object.union(binding("", "ClusterRole", "cluster-admin", [account]), named)
	count(policy.deny) == 1 with input as object.union(binding("ai-secure", "ClusterRole", "cluster-admin", [account]), named)
}
