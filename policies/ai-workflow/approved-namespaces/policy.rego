# METADATA
# title: Approved namespaces
# description: >-
#   AI workflows run in approved namespaces only: those that carry a mode label of Ringfence, or, where a list is given, those
#   on the list.
# custom:
#   name: approved-namespaces
#   severity: critical
#   remediation: >-
#     Run the workflow in an approved namespace, or ask the platform team to approve this one with the label
#     ringfence.dev/enforce.
#   scope: pod
#   controls: [NIST-800-53-AC-3, NIST-800-53-CM-7]
#   parameters:
#     allowed: []
package ringfence.approved_namespaces

deny contains finding if {
	not approved
	finding := {
		"path": "metadata.namespace",
		"value": name,
		"msg": "AI workflows may not run in this namespace",
		"fix": fix,
	}
}

# Without a list: whoever may set a mode label has approved the namespace.
approved if {
	count(input.parameters.allowed) == 0
	some label in ["ringfence.dev/enforce", "ringfence.dev/warn", "ringfence.dev/audit"]
	class := input.namespace.metadata.labels[label]
	is_string(class)
	class != ""
	input.namespace.metadata.name == name
}

# With a list: the list alone counts.
approved if {
	is_array(input.parameters.allowed)
	name != ""
	name in input.parameters.allowed
}

# The API server fills it in from the URL; what the object says of itself is the author's word.
default name := ""

name := input.request.namespace if is_string(input.request.namespace)

default fix := "use a namespace with the label ringfence.dev/enforce, or ask the platform team to set it on this one"

fix := sprintf("use one of the namespaces %s", [concat(", ", input.parameters.allowed)]) if {
	count(input.parameters.allowed) > 0
	count(input.parameters.allowed) <= 10
}

fix := "use a namespace of the list, or ask the platform team to add this one" if count(input.parameters.allowed) > 10
