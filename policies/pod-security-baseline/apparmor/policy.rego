# METADATA
# title: AppArmor stays on
# description: >-
#   Pod Security Standard "baseline", AppArmor: where a pod names a profile, by field or by annotation, it is the runtime's own
#   or one of the node, and never none.
# custom:
#   name: pss-baseline-apparmor
#   severity: high
#   remediation: Remove appArmorProfile and the annotation of AppArmor, or set them to the runtime's own profile.
#   scope: pod
#   controls: [PSS-baseline, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.baseline.apparmor

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	profile := input.pod.spec.securityContext.appArmorProfile
	profile != null
	not confining(profile)
	finding := {
		"path": at("spec.securityContext.appArmorProfile.type"),
		"value": type_of(profile),
		"msg": "the AppArmor profile of the pod is switched off",
		"fix": "remove appArmorProfile, or set its type to RuntimeDefault",
	}
}

deny contains finding if {
	some kind in kinds
	some i
	profile := input.pod.spec[kind][i].securityContext.appArmorProfile
	profile != null
	not confining(profile)
	finding := {
		"path": at(sprintf("spec.%s[%v].securityContext.appArmorProfile.type", [kind, i])),
		"value": type_of(profile),
		"msg": "the AppArmor profile of the container is switched off",
		"fix": "remove appArmorProfile, or set its type to RuntimeDefault",
	}
}

deny contains finding if {
	is_object(input.pod.metadata.annotations)
	some key, value in input.pod.metadata.annotations
	startswith(key, "container.apparmor.security.beta.kubernetes.io/")
	not confining_annotation(value)
	finding := {
		"path": at(sprintf("metadata.annotations[%s]", [key])),
		"value": shown(value),
		"msg": "the AppArmor profile of the container is switched off",
		"fix": "remove the annotation, or set it to runtime/default",
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

misshapen contains {"path": "metadata", "want": "an object"} if {
	value := input.pod.metadata
	not is_object(value)
	value != null
}

misshapen contains {"path": "metadata.annotations", "want": "an object"} if {
	value := input.pod.metadata.annotations
	not is_object(value)
	value != null
}

confining(profile) if profile.type in ["RuntimeDefault", "Localhost"]

confining_annotation(value) if value in ["", "runtime/default", null]

confining_annotation(value) if {
	is_string(value)
	startswith(value, "localhost/")
}

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
