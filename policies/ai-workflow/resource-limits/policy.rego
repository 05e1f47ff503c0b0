# METADATA
# title: Resource limits
# description: >-
#   Each container says what it needs of processor and memory and how much memory it may take at most, or its pod says so for all of
#   them: one workflow that runs wild must not starve the node. What must be there is the parameter `required`, by list (also cpu and
#   ephemeral-storage under limits); whether what is missing warns or is refused, the parameter `action` (warn, deny).
#   A LimitRange fills in pods, but not the templates of Deployments and Jobs: there it cannot be seen here.
# custom:
#   name: resource-limits
#   severity: medium
#   remediation: Set resources.requests and resources.limits on every container, or on the pod.
#   scope: pod
#   controls:
#   - NIST-800-53-SC-5
#   - NSA-CISA-Kubernetes-Hardening
#   - OWASP-K01
#   - OWASP-LLM10-2025
#   - MITRE-ATLAS-AML.T0029
#   - MITRE-ATLAS-AML.T0034
#   parameters:
#     action: warn
#     required: {requests: [cpu, memory], limits: [memory]}
package ringfence.resource_limits

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

# Only the word warn warns: a misspelt one must not open what it was meant to close.
deny contains finding if {
	input.parameters.action != "warn"
	some finding in missing
}

warn contains finding if {
	input.parameters.action == "warn"
	some finding in missing
}

# The API server fills in requests from limits, and refuses both on ephemeral containers.
missing contains finding if {
	some list, resources in input.parameters.required
	some resource in resources
	some kind in ["initContainers", "containers"]
	some i, container in input.pod.spec[kind]
	not is_said(container, list, resource)
	not is_said(input.pod.spec, list, resource)
	finding := {
		"path": at(sprintf("spec.%s[%v].resources.%s.%s", [kind, i, list, resource])),
		"msg": sprintf("the container does not say how much %s it %s", [object.get(words, resource, resource), object.get(verbs, list, "has")]),
		"fix": sprintf("set resources.%s.%s, such as %s", [list, resource, object.get(examples, resource, "1")]),
	}
}

# Step by step, because the engine walks through the whole object where two variables follow each other in a reference.
is_said(holder, list, resource) if {
	resources := holder.resources
	amounts := resources[list]
	value := amounts[resource]
	is_amount(list, value)
} else if {
	list == "requests"
	amounts := holder.resources.limits
	value := amounts[resource]
	is_amount("limits", value)
}

is_amount(list, value) if {
	list != "limits"
	not value in ["", null, false, 0]
}

# A limit of 0 is no limit, however it is written.
is_amount("limits", value) if {
	is_string(value)
	substring(value, 0, 1) in ["1", "2", "3", "4", "5", "6", "7", "8", "9"]
} else if {
	is_string(value)
	regex.match(`^[^eE]*[1-9]`, value)
} else if {
	not is_string(value)
	not value in [null, false, 0]
}

verbs := {"requests": "needs", "limits": "may take"}

words := {"cpu": "processor time", "ephemeral-storage": "disk"}

examples := {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "1Gi"}

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
