# METADATA
# title: Resource limits
# description: >-
#   Each container says what it needs of processor and memory and how much memory it may take at most, or its pod says so for all of
#   them: one workflow that runs wild must not starve the node. What must be there is the parameter `required` (also
#   limits.cpu and limits.ephemeral-storage); whether what is missing warns or is refused, the parameter `action` (warn, deny).
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
#     required: [requests.cpu, requests.memory, limits.memory]
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
	some kind in ["initContainers", "containers"]
	some i, container in input.pod.spec[kind]
	some wanted in wanted_of_containers
	not has_value(container, wanted)
	not is_requested(container, wanted)
	finding := {
		"path": at(sprintf("spec.%s[%v].resources.%s", [kind, i, wanted.name])),
		"msg": sprintf("the container does not say %s", [meaning(wanted)]),
		"fix": sprintf("set resources.%s, such as %s", [wanted.name, object.get(examples, wanted.resource, "1")]),
	}
}

wanted_of_containers := [wanted |
	some name in input.parameters.required
	parts := split(name, ".")
	wanted := {"name": name, "list": parts[0], "resource": concat(".", array.slice(parts, 1, 9))}
	not has_value(input.pod.spec, wanted)
	not is_requested(input.pod.spec, wanted)
]

has_value(holder, wanted) if {
	value := holder.resources[wanted.list][wanted.resource]
	not is_nothing(wanted.list, value)
}

is_requested(holder, wanted) if {
	wanted.list == "requests"
	has_value(holder, {"list": "limits", "resource": wanted.resource})
}

# A limit of 0 is no limit.
is_nothing("limits", value) if not regex.match(`^[^eE]*[1-9]`, sprintf("%v", [value]))

is_nothing("requests", value) if value in ["", null, false]

meaning(wanted) := sprintf("how much %s it needs", [object.get(words, wanted.resource, wanted.resource)]) if wanted.list == "requests"

meaning(wanted) := sprintf("how much %s it may take", [object.get(words, wanted.resource, wanted.resource)]) if {
	wanted.list != "requests"
}

words := {"cpu": "processor time", "ephemeral-storage": "disk"}

examples := {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "1Gi"}

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
