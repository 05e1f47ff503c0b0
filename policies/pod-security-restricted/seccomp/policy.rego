# METADATA
# title: System calls are filtered
# description: >-
#   Pod Security Standard "restricted", seccomp: every container has a profile that filters system calls, from the pod or of its
#   own.
# custom:
#   name: pss-restricted-seccomp
#   severity: high
#   remediation: Set seccompProfile.type to RuntimeDefault on the pod.
#   scope: pod
#   controls: [PSS-restricted, CIS-Kubernetes-5.7.2, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.restricted.seccomp

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	not windows
	some profile in set_profiles
	not confining(profile.value)
	finding := {
		"path": at(concat(".", [profile.path, "type"])),
		"value": type_of(profile.value),
		"msg": "system calls are not filtered",
		"fix": "set seccompProfile.type to RuntimeDefault",
	}
}

deny contains finding if {
	not windows
	not pod_is_confined
	some kind in kinds
	some i
	container := input.pod.spec[kind][i]
	not names_profile(container)
	finding := {
		"path": at(sprintf("spec.%s[%v].securityContext.seccompProfile.type", [kind, i])),
		"msg": "system calls of the container are not filtered",
		"fix": "set seccompProfile.type to RuntimeDefault on the pod or on the container",
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

misshapen contains {"path": profile.path, "want": "an object"} if {
	some profile in set_profiles
	not is_object(profile.value)
}

misshapen contains {"path": concat(".", [profile.path, "type"]), "want": "a word"} if {
	some profile in set_profiles
	value := profile.value.type
	not is_string(value)
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

pod_is_confined if confining(input.pod.spec.securityContext.seccompProfile)

names_profile(container) if container.securityContext.seccompProfile != null

confining(profile) if profile.type in ["RuntimeDefault", "Localhost"]

# Its type as it may be shown.
type_of(profile) := shown(profile.type) if has_type(profile)

type_of(profile) := "none" if not has_type(profile)

has_type(profile) if profile.type != null

# The standard asks nothing of Windows here, which has no such thing.
windows if input.pod.spec.os.name == "windows"

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
