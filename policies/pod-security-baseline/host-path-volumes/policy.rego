# METADATA
# title: No folders of the node
# description: >-
#   Pod Security Standard "baseline", hostPath volumes: a pod mounts no folder or file of the node.
# custom:
#   name: pss-baseline-host-path-volumes
#   severity: critical
#   remediation: Use a volume of another type, such as a persistentVolumeClaim, configMap or emptyDir.
#   scope: pod
#   controls: [PSS-baseline, CIS-Kubernetes-5.2.12, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.baseline.host_path_volumes

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	some i
	value := input.pod.spec.volumes[i].hostPath
	value != null
	finding := {
		"path": at(sprintf("spec.volumes[%v].hostPath", [i])),
		"msg": "the pod mounts a folder of the node",
		"fix": "use a persistentVolumeClaim, configMap, secret, projected, downwardAPI, csi, ephemeral or emptyDir volume",
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

known_version if input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
