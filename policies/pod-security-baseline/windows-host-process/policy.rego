# METADATA
# title: No processes of the node
# description: >-
#   Pod Security Standard "baseline", Windows HostProcess: neither pod nor container runs as a process of the node.
# custom:
#   name: pss-baseline-windows-host-process
#   severity: critical
#   remediation: Remove windowsOptions.hostProcess from the pod and its containers.
#   scope: pod
#   controls: [PSS-baseline, CIS-Kubernetes-5.2.11]
#   parameters: {version: latest}
package ringfence.pss.baseline.windows_host_process

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	some options in set_options
	value := options.value.hostProcess
	not value in [false, null]
	finding := {
		"path": at(concat(".", [options.path, "hostProcess"])),
		"value": shown(value),
		"msg": "the pod runs as a process of the node",
		"fix": "remove hostProcess",
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

misshapen contains {"path": options.path, "want": "an object"} if {
	some options in set_options
	not is_object(options.value)
}

# windowsOptions of the pod and of each container.
set_options contains {"path": "spec.securityContext.windowsOptions", "value": value} if {
	value := input.pod.spec.securityContext.windowsOptions
	value != null
}

set_options contains {"path": sprintf("spec.%s[%v].securityContext.windowsOptions", [kind, i]), "value": value} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext.windowsOptions
	value != null
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
