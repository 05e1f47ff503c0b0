# METADATA
# title: Short-lived tokens
# description: >-
#   A token of a service account of a fenced namespace lives no longer than the class says (spec.identity.maxTokenSeconds), or where
#   there is no class, the parameter `maxTokenSeconds`. A request that names no time asks for an hour. Kubelets are not judged: they
#   ask for pods, whose volumes were judged when the pods were made.
# custom:
#   name: short-lived-tokens
#   severity: high
#   remediation: Ask for a shorter time, and ask again before it is over.
#   scope: object
#   match:
#     resourceRules:
#     - apiGroups: [""]
#       apiVersions: [v1]
#       resources: [serviceaccounts/token]
#       operations: [CREATE]
#     namespaceSelector:
#       matchExpressions: [{key: ringfence.dev/enforce, operator: Exists}]
#   controls: [CIS-Kubernetes-5.1.13, NIST-800-53-IA-5, OWASP-K06, MITRE-ATLAS-AML.T0012]
#   parameters:
#     maxTokenSeconds: 3600
package ringfence.short_lived_tokens

deny contains finding if {
	not is_object(object.get(input, ["request", "object"], null))
	finding := {"msg": "there is no TokenRequest that can be judged", "fix": "send a TokenRequest"}
}

deny contains finding if {
	not is_kubelet
	not is_short
	finding := {
		"path": "spec.expirationSeconds",
		"value": shown,
		"msg": sprintf("the token would live longer than the %v seconds that %s", [longest, source]),
		"fix": sprintf("set expirationSeconds to at most %v (kubectl create token --duration=%vs)", [longest, longest]),
	}
}

is_short if {
	is_number(seconds)
	seconds <= longest
}

# The API server's own default.
default seconds := 3600

seconds := value if {
	value := input.request.object.spec.expirationSeconds
	value != null
}

shown := seconds if is_number(seconds)

shown := type_name(seconds) if not is_number(seconds)

longest := of_class

longest := input.parameters.maxTokenSeconds if not has_class

of_class := input.class.spec.identity.maxTokenSeconds if is_number(input.class.spec.identity.maxTokenSeconds)

has_class if of_class

default source := "parameter maxTokenSeconds allows"

source := sprintf("AIWorkflowClass %s allows (spec.identity.maxTokenSeconds)", [input.class.metadata.name]) if has_class

# The API server binds such a token to a pod of the kubelet's own node.
is_kubelet if {
	startswith(input.request.userInfo.username, "system:node:")
	"system:nodes" in input.request.userInfo.groups
	input.request.object.spec.boundObjectRef.kind == "Pod"
}
