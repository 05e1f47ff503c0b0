# METADATA
# title: Not as root
# description: >-
#   Pod Security Standard "restricted", running as non-root: every container is bound not to run as root, by the pod or by
#   itself. From v1.35 on it need not be where the pod has a user namespace of its own (hostUsers: false).
# custom:
#   name: pss-restricted-run-as-non-root
#   severity: high
#   remediation: Set runAsNonRoot to true on the pod, and do not set it to false anywhere.
#   scope: pod
#   controls: [PSS-restricted, CIS-Kubernetes-5.2.7, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.restricted.run_as_non_root

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

# The pod may not say false, whatever its containers say.
deny contains finding if {
	not relaxed
	value := input.pod.spec.securityContext.runAsNonRoot
	not value in [true, null]
	finding := {
		"path": at("spec.securityContext.runAsNonRoot"),
		"value": shown(value),
		"msg": "the pod allows its containers to run as root",
		"fix": "set runAsNonRoot to true",
	}
}

deny contains finding if {
	not relaxed
	some kind in kinds
	some i
	container := input.pod.spec[kind][i]
	not bound(container)
	finding := {
		"path": at(sprintf("spec.%s[%v].securityContext.runAsNonRoot", [kind, i])),
		"msg": "the container may run as root",
		"fix": "set runAsNonRoot to true on the pod or on the container",
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

misshapen contains {"path": "spec.securityContext.runAsNonRoot", "want": "true or false"} if {
	value := input.pod.spec.securityContext.runAsNonRoot
	not is_boolean(value)
	value != null
}

misshapen contains {"path": sprintf("spec.%s[%v].securityContext.runAsNonRoot", [kind, i]), "want": "true or false"} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext.runAsNonRoot
	not is_boolean(value)
	value != null
}

bound(container) if container.securityContext.runAsNonRoot == true

bound(container) if {
	input.pod.spec.securityContext.runAsNonRoot == true
	not says(container)
}

says(container) if container.securityContext.runAsNonRoot != null

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
