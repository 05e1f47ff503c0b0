# METADATA
# title: Probes and hooks of the pod itself
# description: >-
#   Pod Security Standard "baseline", host probes and lifecycle hooks, from v1.34 on: what the node sends for probes and hooks
#   goes to the pod, and to no other host.
# custom:
#   name: pss-baseline-host-probes
#   severity: high
#   remediation: Remove host from the probes and lifecycle hooks.
#   scope: pod
#   controls: [PSS-baseline]
#   parameters: {version: latest}
package ringfence.pss.baseline.host_probes

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	demanded
	some handler in handlers
	some action in actions
	value := handler.value[action].host
	not value in ["", null]
	finding := {
		"path": at(concat(".", [handler.path, action, "host"])),
		"value": shown(value),
		"msg": "the node would send the request to another host than the pod, past every NetworkPolicy",
		"fix": "remove host",
	}
}

# What has the wrong shape has not been judged. Null is what is absent, as to the API server.
deny contains finding if {
	some place in misshapen
	finding := {
		"path": at(place.path),
		"msg": sprintf("is not %s, and so was not judged", [place.want]),
		"fix": sprintf("make it %s", [place.want]),
	}
}

deny contains finding if {
	not known_version
	finding := {
		"msg": "the policy's parameter version names no version of the standard that the policy knows",
		"fix": "ask the platform team to set it to latest, or to one of v1.31 to v1.36",
	}
}

misshapen contains {"path": sprintf("spec.%s", [kind]), "want": "a list of containers"} if {
	some kind in kinds
	value := input.pod.spec[kind]
	not is_array(value)
	value != null
}

misshapen contains {"path": sprintf("spec.%s[%v]", [kind, i]), "want": "a container"} if {
	some kind in kinds
	some i
	container := input.pod.spec[kind][i]
	not is_object(container)
}

misshapen contains {"path": sprintf("spec.%s[%v].lifecycle", [kind, i]), "want": "an object"} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].lifecycle
	not is_object(value)
	value != null
}

misshapen contains {"path": handler.path, "want": "an object"} if {
	some handler in handlers
	not is_object(handler.value)
}

misshapen contains {"path": concat(".", [handler.path, action]), "want": "an object"} if {
	some handler in handlers
	some action in actions
	value := handler.value[action]
	not is_object(value)
	value != null
}

misshapen contains {"path": concat(".", [handler.path, action, "host"]), "want": "a word"} if {
	some handler in handlers
	some action in actions
	value := handler.value[action].host
	not is_string(value)
	value != null
}

# Probes and hooks of every container.
handlers contains {"path": sprintf("spec.%s[%v].%s", [kind, i, probe]), "value": value} if {
	some kind in kinds
	some i
	container := input.pod.spec[kind][i]
	some probe in probes
	value := container[probe]
	value != null
}

handlers contains {"path": sprintf("spec.%s[%v].lifecycle.%s", [kind, i, hook]), "value": value} if {
	some kind in kinds
	some i
	lifecycle := input.pod.spec[kind][i].lifecycle
	some hook in hooks
	value := lifecycle[hook]
	value != null
}

demanded if not input.parameters.version in ["v1.31", "v1.32", "v1.33"]

probes := ["livenessProbe", "readinessProbe", "startupProbe"]

hooks := ["postStart", "preStop"]

actions := ["httpGet", "tcpSocket"]

kinds := ["initContainers", "containers", "ephemeralContainers"]

# A value of another type than a word or a number is shown by its type.
shown(value) := value if not type_name(value) in ["array", "object"]

shown(value) := type_name(value) if type_name(value) in ["array", "object"]

known_version if input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
