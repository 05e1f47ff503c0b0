# METADATA
# title: Namespace baseline
# description: >-
#   A namespace for AI workflows names in labels its owner and how its data is classified, and the API server itself enforces at least
#   the Pod Security Standard "baseline" in it. A missing classification warns, and where the parameter `classifications` lists those
#   that there are, another or none is refused.
# custom:
#   name: namespace-baseline
#   severity: medium
#   remediation: >-
#     Set the labels for owner and classification, and pod-security.kubernetes.io/enforce to baseline or restricted, on the namespace.
#   scope: namespace
#   controls: [CIS-Kubernetes-5.2.1, NIST-800-53-CM-8, NIST-800-53-RA-2]
#   parameters:
#     ownerLabel: owner
#     classificationLabel: classification
#     classifications: []
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
	count(classifications) > 0
	not classification in classifications
	finding := {
		"path": sprintf("metadata.labels[%s]", [classification_label]),
		"value": classification,
		"msg": sprintf("label %s does not say how the data of the namespace is classified", [classification_label]),
		"fix": sprintf("set label %s to one of %s", [classification_label, concat(", ", classifications)]),
	}
}

# Without a list nobody has said yet which there are.
warn contains finding if {
	count(classifications) == 0
	classification_label != ""
	is_object(object.get(namespace, "metadata", null))
	trim_space(classification) == ""
	finding := {
		"path": sprintf("metadata.labels[%s]", [classification_label]),
		"msg": sprintf("nobody has said how the data of the namespace is classified: label %s is missing or empty", [classification_label]),
		"fix": sprintf("set label %s, such as to internal or confidential", [classification_label]),
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

default classification_label := "classification"

classification_label := input.parameters.classificationLabel

default classifications := []

classifications := input.parameters.classifications

default classification := ""

classification := namespace.metadata.labels[classification_label]

default level := ""

level := namespace.metadata.labels["pod-security.kubernetes.io/enforce"]
