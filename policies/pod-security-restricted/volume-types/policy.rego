# METADATA
# title: Volumes of the pod's own
# description: >-
#   Pod Security Standard "restricted", volume types: a pod mounts nothing but configuration, secrets, images, scratch space and
#   what storage classes and CSI drivers give.
# custom:
#   name: pss-restricted-volume-types
#   severity: high
#   remediation: Use a volume of an allowed type, such as a persistentVolumeClaim for what was mounted directly.
#   scope: pod
#   controls: [PSS-restricted, CIS-Kubernetes-5.2.12, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.restricted.volume_types

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

# By what is allowed: a type that is newer than this policy is refused, also beside an allowed one. A volume of no type is an
# emptyDir to the API server.
deny contains finding if {
	some i, type
	value := input.pod.spec.volumes[i][type]
	value != null
	not type in allowed
	type != "name"
	finding := {
		"path": at(sprintf("spec.volumes[%v].%v", [i, type])),
		"msg": sprintf("volumes of type %v reach beyond the pod", [type]),
		"fix": sprintf("use a volume of type %s", [concat(", ", allowed)]),
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

misshapen contains {"path": "spec.volumes", "want": "a list of volumes"} if {
	value := input.pod.spec.volumes
	not is_array(value)
	value != null
}

misshapen contains {"path": sprintf("spec.volumes[%v]", [i]), "want": "a volume"} if {
	some i
	volume := input.pod.spec.volumes[i]
	not is_object(volume)
}

allowed := ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"]

known_version if input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
