# METADATA
# title: No capabilities
# description: >-
#   Pod Security Standard "restricted", capabilities: every container drops ALL, and adds none but NET_BIND_SERVICE.
# custom:
#   name: pss-restricted-capabilities
#   severity: high
#   remediation: Set capabilities.drop to [ALL] on every container, and add nothing but NET_BIND_SERVICE.
#   scope: pod
#   controls: [PSS-restricted, CIS-Kubernetes-5.2.8, CIS-Kubernetes-5.2.9, CIS-Kubernetes-5.2.10, NSA-CISA-Kubernetes-Hardening]
#   parameters: {version: latest}
package ringfence.pss.restricted.capabilities

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	not windows
	some kind in kinds
	some i
	container := input.pod.spec[kind][i]
	not drops_all(container)
	finding := {
		"path": at(sprintf("spec.%s[%v].securityContext.capabilities.drop", [kind, i])),
		"msg": "the container keeps capabilities of root",
		"fix": "set capabilities.drop to [ALL]",
	}
}

deny contains finding if {
	not windows
	some kind in kinds
	some i, j
	capability := input.pod.spec[kind][i].securityContext.capabilities.add[j]
	capability != "NET_BIND_SERVICE"
	finding := {
		"path": at(sprintf("spec.%s[%v].securityContext.capabilities.add[%v]", [kind, i, j])),
		"value": shown(capability),
		"msg": "the container adds a capability",
		"fix": "remove it: allowed is NET_BIND_SERVICE",
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

misshapen contains {"path": sprintf("spec.%s[%v].securityContext.capabilities", [kind, i]), "want": "an object"} if {
	some kind in kinds
	some i
	value := input.pod.spec[kind][i].securityContext.capabilities
	not is_object(value)
	value != null
}

misshapen contains {"path": sprintf("spec.%s[%v].securityContext.capabilities.%s", [kind, i, field]), "want": "a list of capabilities"} if {
	some kind in kinds
	some i
	capabilities := input.pod.spec[kind][i].securityContext.capabilities
	some field in ["add", "drop"]
	value := capabilities[field]
	not is_array(value)
	value != null
}

misshapen contains {"path": sprintf("spec.%s[%v].securityContext.capabilities.%s[%v]", [kind, i, field, j]), "want": "a capability"} if {
	some kind in kinds
	some i
	capabilities := input.pod.spec[kind][i].securityContext.capabilities
	some field in ["add", "drop"]
	some j
	value := capabilities[field][j]
	not is_string(value)
	value != null
}

drops_all(container) if container.securityContext.capabilities.drop[_] == "ALL"

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
