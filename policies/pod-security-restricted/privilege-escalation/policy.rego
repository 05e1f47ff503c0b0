# METADATA
# title: No more rights than the parent
# description: >-
#   Pod Security Standard "restricted", privilege escalation: no process of a container gains more rights than its parent has.
# custom:
#   name: pss-restricted-privilege-escalation
#   severity: high
#   remediation: Set allowPrivilegeEscalation to false on every container.
#   scope: pod
#   controls: [PSS-restricted, CIS-Kubernetes-5.2.6, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.restricted.privilege_escalation

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	not windows
	some kind in kinds
	some i
	container := input.pod.spec[kind][i]
	not forbids(container)
	finding := {
		"path": at(sprintf("spec.%s[%v].securityContext.allowPrivilegeEscalation", [kind, i])),
		"msg": "a process in the container may gain more rights than its parent has",
		"fix": "set allowPrivilegeEscalation to false",
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

misshapen contains {"path": sprintf("spec.%s[%v].securityContext.allowPrivilegeEscalation", [kind, i]), "want": "true or false"} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext.allowPrivilegeEscalation
	not is_boolean(value)
	value != null
}

forbids(container) if container.securityContext.allowPrivilegeEscalation == false

# The standard asks nothing of Windows here, which has no such thing.
windows if input.pod.spec.os.name == "windows"

kinds := ["initContainers", "containers", "ephemeralContainers"]

known_version if input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
