# METADATA
# title: No cluster-admin binding
# description: >-
#   No binding in a fenced namespace, and no ClusterRoleBinding anywhere, gives somebody cluster-admin or a role of the control plane
#   (parameter `roles`, where a `*` at the end stands for any rest; add admin and edit where nobody may hold them), or gives anything
#   at all to everybody (parameter `groups`, and system:anonymous). What an update leaves as it was is not judged again, and neither is
#   what the API server makes at start.
# custom:
#   name: no-cluster-admin-binding
#   severity: critical
#   remediation: Bind a role that grants what is needed, to the accounts that need it.
#   scope: object
#   match:
#     resourceRules:
#     - apiGroups: [rbac.authorization.k8s.io]
#       apiVersions: [v1]
#       resources: [rolebindings, clusterrolebindings]
#       operations: [CREATE, UPDATE]
#     namespaceSelector:
#       matchExpressions: [{key: ringfence.dev/enforce, operator: Exists}]
#   controls:
#   - CIS-Kubernetes-5.1.1
#   - CIS-Kubernetes-5.1.7
#   - NIST-800-53-AC-6
#   - NSA-CISA-Kubernetes-Hardening
#   - OWASP-K03
#   - OWASP-LLM06-2025
#   parameters:
#     roles: [cluster-admin, "system:controller:*", "system:kube-controller-manager", "system:kube-scheduler", "system:node"]
#     groups: ["system:authenticated", "system:unauthenticated", "system:serviceaccounts", "system:masters"]
#     allowedBindings: []
package ringfence.no_cluster_admin_binding

deny contains finding if {
	not is_object(object.get(input, ["request", "object"], null))
	finding := {"msg": "there is no binding that can be judged", "fix": "send a RoleBinding or a ClusterRoleBinding"}
}

deny contains finding if {
	judged
	role := binding.roleRef
	role.kind != "Role"
	is_string(role.name)
	some entry in input.parameters.roles
	names(entry, role.name)
	finding := {
		"path": "roleRef.name",
		"value": role.name,
		"msg": sprintf("ClusterRole %s is for who runs the cluster", [role.name]),
		"fix": "bind a role that grants what is needed and no more",
	}
}

deny contains finding if {
	judged
	some i, subject in subjects
	subject.kind != "ServiceAccount"
	subject.name in array.concat(input.parameters.groups, ["system:anonymous"])
	finding := {
		"path": sprintf("subjects[%v].name", [i]),
		"value": subject.name,
		"msg": sprintf("%s is not somebody: whoever belongs to it, today or tomorrow, would hold this role", [subject.name]),
		"fix": "name the accounts, users or groups that need the role",
	}
}

# What has the wrong shape has not been judged.
deny contains finding if {
	judged
	not is_string(object.get(binding, ["roleRef", "name"], null))
	finding := {"path": "roleRef.name", "msg": "names no role", "fix": "name the role"}
}

deny contains finding if {
	judged
	not object.get(binding, "subjects", null) in [null, subjects]
	finding := {"path": "subjects", "msg": "is not a list", "fix": "write it as a list of subjects"}
}

default binding := {}

binding := input.request.object if is_object(input.request.object)

default subjects := []

subjects := binding.subjects if is_array(binding.subjects)

names(entry, role) if entry == role

names(entry, role) if {
	endswith(entry, "*")
	startswith(role, trim_suffix(entry, "*"))
}

judged if {
	not is_unchanged
	not is_builtin
	not is_allowed
}

# A binding of before may still be labelled, annotated and deleted.
is_unchanged if {
	input.request.operation == "UPDATE"
	is_object(input.request.oldObject)
	object.get(input.request.oldObject, "subjects", null) == object.get(binding, "subjects", null)
	object.get(input.request.oldObject, "roleRef", null) == object.get(binding, "roleRef", null)
}

# The API server makes its own bindings at start.
is_builtin if {
	is_of_cluster
	input.request.userInfo.username == "system:apiserver"
}

is_allowed if {
	is_of_cluster
	binding.metadata.name in input.parameters.allowedBindings
}

is_of_cluster if object.get(input.request, "namespace", "") in ["", null]
