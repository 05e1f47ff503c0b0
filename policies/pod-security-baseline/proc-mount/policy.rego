# METADATA
# title: /proc stays masked
# description: >-
#   Pod Security Standard "baseline", /proc mount type: no container sees /proc unmasked. From v1.35 on it may where the pod has
#   a user namespace of its own (hostUsers: false).
# custom:
#   name: pss-baseline-proc-mount
#   severity: high
#   remediation: Remove procMount, or, from v1.35 on, set hostUsers to false.
#   scope: pod
#   controls: [PSS-baseline]
#   parameters: {version: latest}
package ringfence.pss.baseline.proc_mount

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	not relaxed
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext.procMount
	not value in ["Default", null]
	finding := {
		"path": at(sprintf("spec.%s[%v].securityContext.procMount", [kind, i])),
		"value": shown(value),
		"msg": "/proc is not masked in the container",
		"fix": "remove procMount",
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

misshapen contains {"path": sprintf("spec.%s[%v].securityContext", [kind, i]), "want": "an object"} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext
	not is_object(value)
	value != null
}

misshapen contains {"path": sprintf("spec.%s[%v].securityContext.procMount", [kind, i]), "want": "a word"} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext.procMount
	not is_string(value)
	value != null
}

# Root in a user namespace of the pod's own is not root on the node: so the standard has it from v1.35 on.
relaxed if {
	input.pod.spec.hostUsers == false
	not input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34"]
}

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
