# METADATA
# title: Safe kernel parameters only
# description: >-
#   Pod Security Standard "baseline", sysctls: a pod sets only kernel parameters that stay within it.
# custom:
#   name: pss-baseline-sysctls
#   severity: high
#   remediation: Remove from securityContext.sysctls what the standard does not list as safe.
#   scope: pod
#   controls: [PSS-baseline]
#   parameters: {version: latest}
package ringfence.pss.baseline.sysctls

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	some i
	sysctl := input.pod.spec.securityContext.sysctls[i]
	not is_safe(sysctl)
	finding := {
		"path": at(sprintf("spec.securityContext.sysctls[%v]", [i])),
		"value": name_of(sysctl),
		"msg": "the kernel parameter is not one that is safe to set",
		"fix": "remove it",
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

misshapen contains {"path": "spec.securityContext", "want": "an object"} if {
	value := input.pod.spec.securityContext
	not is_object(value)
	value != null
}

misshapen contains {"path": "spec.securityContext.sysctls", "want": "a list"} if {
	value := input.pod.spec.securityContext.sysctls
	not is_array(value)
	value != null
}

is_safe(sysctl) if sysctl.name in [
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_syncookies",
]

# Safe from v1.32 on.
is_safe(sysctl) if {
	input.parameters.version != "v1.31"
	sysctl.name in ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"]
}

# Its name as it may be shown.
name_of(sysctl) := shown(sysctl.name) if has_name(sysctl)

name_of(sysctl) := "none" if not has_name(sysctl)

has_name(sysctl) if sysctl.name != null

# A value of another type than a word or a number is shown by its type.
shown(value) := value if not type_name(value) in ["array", "object"]

shown(value) := type_name(value) if type_name(value) in ["array", "object"]

known_version if input.parameters.version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
