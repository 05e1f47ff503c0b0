# METADATA
# title: No namespaces of the node
# description: >-
#   Pod Security Standard "baseline", host namespaces: a pod shares neither network nor processes nor memory of the node.
# custom:
#   name: pss-baseline-host-namespaces
#   severity: critical
#   remediation: Remove hostNetwork, hostPID and hostIPC from the pod.
#   scope: pod
#   controls: [PSS-baseline, CIS-Kubernetes-5.2.3, CIS-Kubernetes-5.2.4, CIS-Kubernetes-5.2.5, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.baseline.host_namespaces

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	some field in ["hostNetwork", "hostPID", "hostIPC"]
	value := input.pod.spec[field]
	not value in [false, null]
	finding := {
		"path": at(concat(".", ["spec", field])),
		"value": shown(value),
		"msg": "the pod shares a namespace of the node",
		"fix": sprintf("remove %s", [field]),
	}
}

deny contains finding if {
	not known_version
	finding := {
		"msg": "the policy's parameter version names no version of the standard that the policy knows",
		"fix": "ask the platform team to set it to latest, or to one of v1.31 to v1.36",
	}
}

# A value of another type than a word or a number is shown by its type.
shown(value) := value if not type_name(value) in ["array", "object"]

shown(value) := type_name(value) if type_name(value) in ["array", "object"]

known_version if input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
