# METADATA
# title: No wildcard RBAC
# description: >-
#   Roles of fenced namespaces, and ClusterRoles anywhere, name what they grant: no `*` for verbs, resources, API groups or all paths,
#   no right to hand out rights (escalate, bind, impersonate), and no aggregation of roles that nobody chose. What an update leaves as
#   it was is not judged again, and neither is what the API server makes at start and the aggregation controller puts together.
# custom:
#   name: no-wildcard-rbac
#   severity: critical
#   remediation: Name the verbs, resources, API groups and paths that are needed, one by one, in a role for this purpose alone.
#   scope: object
#   match:
#     resourceRules:
#     - apiGroups: [rbac.authorization.k8s.io]
#       apiVersions: [v1]
#       resources: [roles, clusterroles]
#       operations: [CREATE, UPDATE]
#     namespaceSelector:
#       matchExpressions: [{key: ringfence.dev/enforce, operator: Exists}]
#   controls:
#   - CIS-Kubernetes-5.1.3
#   - CIS-Kubernetes-5.1.8
#   - NIST-800-53-AC-6
#   - NSA-CISA-Kubernetes-Hardening
#   - OWASP-K03
#   - OWASP-LLM06-2025
#   parameters:
#     allowedClusterRoles: []
package ringfence.no_wildcard_rbac

deny contains finding if {
	not is_object(object.get(input, ["request", "object"], null))
	finding := {"msg": "there is no role that can be judged", "fix": "send a Role or a ClusterRole"}
}

deny contains finding if {
	judged
	some i, rule in rules
	some field in ["apiGroups", "resources", "verbs", "nonResourceURLs"]
	some j
	value := rule[field][j]
	is_string(value)
	is_wild(field, value)
	finding := {
		"path": sprintf("rules[%v].%s[%v]", [i, field, j]),
		"value": value,
		"msg": sprintf("%s in %s grants what is there today and whatever is added tomorrow", [value, field]),
		"fix": fixes[field],
	}
}

deny contains finding if {
	judged
	some i, rule in rules
	some j
	verb := rule.verbs[j]
	is_string(verb)
	hands_out(lower(verb))
	finding := {
		"path": sprintf("rules[%v].verbs[%v]", [i, j]),
		"value": verb,
		"msg": sprintf("who may %s can take any right of the cluster", [verb]),
		"fix": "remove the verb, and let the platform team hand out rights",
	}
}

deny contains finding if {
	judged
	some i
	selector := role.aggregationRule.clusterRoleSelectors[i]
	not chooses(selector)
	finding := {
		"path": sprintf("aggregationRule.clusterRoleSelectors[%v]", [i]),
		"msg": "the selector also takes ClusterRoles that nobody chose, and so what they grant",
		"fix": "select by a label of your own and its value, in matchLabels or with the operator In",
	}
}

# What has the wrong shape has not been judged.
deny contains finding if {
	judged
	unreadable
	finding := {"path": "rules", "msg": "is not a list of rules whose fields are lists", "fix": "write it as a list of rules"}
}

default role := {}

role := input.request.object if is_object(input.request.object)

default rules := []

rules := role.rules if is_array(role.rules)

unreadable if not object.get(role, "rules", null) in [null, rules]

unreadable if {
	some rule in rules
	not is_object(rule)
}

unreadable if {
	some rule in rules
	some field in ["apiGroups", "resources", "verbs", "nonResourceURLs"]
	value := rule[field]
	value != null
	not is_list(value)
}

is_list(value) if {
	is_array(value)
	every entry in value {
		is_string(entry)
	}
}

is_wild(field, value) if {
	field != "nonResourceURLs"
	contains(value, "*")
}

is_wild("nonResourceURLs", value) if {
	contains(value, "*")
	trim(value, "*/") == ""
}

fixes := {
	"apiGroups": "name the API groups that are needed; the core group is \"\"",
	"resources": "name the resources and subresources that are needed",
	"verbs": "name the verbs that are needed, such as get, list and watch",
	"nonResourceURLs": "name the paths that are needed",
}

hands_out(verb) if verb in ["escalate", "bind"]

# impersonate, and its newer forms such as impersonate-on:user-info:get.
hands_out(verb) if startswith(verb, "impersonate")

# Only a value narrows a selector: Exists, NotIn and DoesNotExist take what others will make, and this label is on all that the API
# server brings, cluster-admin included.
chooses(selector) if {
	keys := {key | some key; selector.matchLabels[key]} | {expression.key |
		some expression in selector.matchExpressions
		expression.operator == "In"
	}
	count(keys - {"kubernetes.io/bootstrapping"}) > 0
}

judged if {
	not is_unchanged
	not is_builtin
	not is_allowed
}

# A role of before may still be labelled, annotated and deleted.
is_unchanged if {
	input.request.operation == "UPDATE"
	is_object(input.request.oldObject)
	object.get(input.request.oldObject, "rules", null) == object.get(role, "rules", null)
	object.get(input.request.oldObject, "aggregationRule", null) == object.get(role, "aggregationRule", null)
}

# The API server, which makes its own roles at start, and the controller that copies rules of roles that were judged themselves.
is_builtin if {
	is_of_cluster
	input.request.userInfo.username in [
		"system:apiserver",
		"system:kube-controller-manager",
		"system:serviceaccount:kube-system:clusterrole-aggregation-controller",
	]
}

is_allowed if {
	is_of_cluster
	role.metadata.name in input.parameters.allowedClusterRoles
}

is_of_cluster if object.get(input.request, "namespace", "") in ["", null]
