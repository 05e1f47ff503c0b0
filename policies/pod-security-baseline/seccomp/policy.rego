# METADATA
# title: Seccomp is not switched off
# description: >-
#   Pod Security Standard "baseline", seccomp: where a pod or a container names a profile, it filters system calls.
# custom:
#   name: pss-baseline-seccomp
#   severity: high
#   remediation: Remove seccompProfile, or set its type to RuntimeDefault.
#   scope: pod
#   controls: [PSS-baseline, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.baseline.seccomp

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	some profile in set_profiles
	not confining(profile.value)
	finding := {
		"path": at(concat(".", [profile.path, "type"])),
		"value": type_of(profile.value),
		"msg": "system calls are not filtered",
		"fix": "set seccompProfile.type to RuntimeDefault",
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

# seccompProfile of the pod and of each container.
set_profiles contains {"path": "spec.securityContext.seccompProfile", "value": value} if {
	value := input.pod.spec.securityContext.seccompProfile
	value != null
}

set_profiles contains {"path": sprintf("spec.%s[%v].securityContext.seccompProfile", [kind, i]), "value": value} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext.seccompProfile
	value != null
}

confining(profile) if profile.type in ["RuntimeDefault", "Localhost"]

# Its type as it may be shown.
type_of(profile) := shown(profile.type) if has_type(profile)

type_of(profile) := "none" if not has_type(profile)

has_type(profile) if profile.type != null

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
