# METADATA
# title: Namespace baseline
# description: >-
#   A namespace for AI workflows names its owner in a label, and the API server itself enforces at least the Pod Security
#   Standard "baseline" in it.
# custom:
#   name: namespace-baseline
#   severity: medium
#   remediation: >-
#     Set the owner label and pod-security.kubernetes.io/enforce to baseline or restricted on the namespace.
#   scope: namespace
#   controls: [CIS-Kubernetes-5.2.1, NIST-800-53-CM-8]
#   parameters:
#     ownerLabel: owner
package ringfence.namespace_baseline

deny contains finding if {
	not is_object(object.get(namespace, "metadata", null))
	finding := {"msg": "there is no Namespace that can be judged", "fix": "send the Namespace"}
}

deny contains finding if {
	not owned
	finding := {
		"path": sprintf("metadata.labels[%s]", [owner_label]),
		"msg": sprintf("nobody answers for the namespace: label %s is missing or empty", [owner_label]),
		"fix": sprintf("set label %s to the team that answers for the namespace", [owner_label]),
	}
}

deny contains finding if {
	not level in ["baseline", "restricted"]
	finding := {
		"path": "metadata.labels[pod-security.kubernetes.io/enforce]",
		"value": level,
		"msg": "the API server does not enforce a Pod Security Standard in the namespace",
		"fix": "set label pod-security.kubernetes.io/enforce to baseline or restricted",
	}
}

# On a request about the Namespace the new object counts, on a scan the one that is there.
default namespace := {}

namespace := input.request.object if is_object(input.request.object)

namespace := input.namespace if {
	not sent
	is_object(input.namespace)
}

# A rule, because `not` of a call with a missing argument is neither true nor false.
sent if is_object(input.request.object)

owned if trim_space(namespace.metadata.labels[owner_label]) != ""

default owner_label := "owner"

owner_label := input.parameters.ownerLabel if input.parameters.ownerLabel != ""

default level := ""

level := namespace.metadata.labels["pod-security.kubernetes.io/enforce"]
