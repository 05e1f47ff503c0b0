# METADATA
# title: Not as user 0
# description: >-
#   Pod Security Standard "restricted", running as non-root user: neither pod nor container sets the user to 0. From v1.35 on
#   they may where the pod has a user namespace of its own (hostUsers: false).
# custom:
#   name: pss-restricted-run-as-user
#   severity: high
#   remediation: Set runAsUser to another number than 0, or remove it.
#   scope: pod
#   controls: [PSS-restricted, CIS-Kubernetes-5.2.7, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.restricted.run_as_user

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	not relaxed
	some user in users
	user.value == 0
	finding := {
		"path": at(user.path),
		"value": user.value,
		"msg": "the container runs as root",
		"fix": "set runAsUser to another number than 0, or remove it",
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

misshapen contains {"path": "spec.securityContext", "want": "an object"} if {
	value := input.pod.spec.securityContext
	not is_object(value)
	value != null
}

misshapen contains {"path": user.path, "want": "a whole number"} if {
	some user in users
	not is_whole(user.value)
}

is_whole(value) if {
	is_number(value)
	round(value) == value
}

# runAsUser of the pod and of each container.
users contains {"path": "spec.securityContext.runAsUser", "value": value} if {
	value := input.pod.spec.securityContext.runAsUser
	value != null
}

users contains {"path": sprintf("spec.%s[%v].securityContext.runAsUser", [kind, i]), "value": value} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext.runAsUser
	value != null
}

# Root in a user namespace of the pod's own is not root on the node: so the standard has it from v1.35 on.
relaxed if {
	input.pod.spec.hostUsers == false
	not input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34"]
}

kinds := ["initContainers", "containers", "ephemeralContainers"]

known_version if input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
