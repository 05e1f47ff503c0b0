# METADATA
# title: Dedicated service account
# description: >-
#   A pod runs as a service account of its own, never as `default`; where an AIWorkflow stands behind the pod, as the account
#   of that AIWorkflow. A token that the workflow has no use for is not mounted.
# custom:
#   name: dedicated-service-account
#   severity: high
#   remediation: Set serviceAccountName to the account that Ringfence makes from the AIWorkflow.
#   scope: pod
#   controls: [CIS-Kubernetes-5.1.5, CIS-Kubernetes-5.1.6, NIST-800-53-AC-6]
package ringfence.dedicated_service_account

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	is_object(input.pod.spec)
	trim_space(lower(account)) in ["", "default"]
	finding := {
		"path": at("spec.serviceAccountName"),
		"value": account,
		"msg": "the pod runs as the default service account, whose rights every pod of the namespace shares",
		"fix": fix,
	}
}

deny contains finding if {
	is_object(input.pod.spec)
	not trim_space(lower(account)) in ["", "default"]
	expected != ""
	account != expected
	finding := {
		"path": at("spec.serviceAccountName"),
		"value": account,
		"msg": sprintf("the pod does not run as %s, the service account of AIWorkflow %s", [expected, workflow]),
		"fix": fix,
	}
}

# A workflow that cannot be read must not make the check above disappear.
deny contains finding if {
	input.workflow
	expected == ""
	finding := {
		"path": at("spec.serviceAccountName"),
		"msg": "the AIWorkflow of the pod names no service account",
		"fix": "give the AIWorkflow a name",
	}
}

# The deprecated alias: which of the two counts depends on who reads them.
deny contains finding if {
	alias := input.pod.spec.serviceAccount
	not alias in [account, ""]
	finding := {
		"path": at("spec.serviceAccount"),
		"value": alias,
		"msg": "serviceAccount and serviceAccountName name different accounts",
		"fix": "remove serviceAccount, which is deprecated",
	}
}

warn contains finding if {
	input.workflow
	count(rights) == 0
	mounted := input.pod.spec.automountServiceAccountToken
	mounted != false
	finding := {
		"path": at("spec.automountServiceAccountToken"),
		"value": mounted,
		"msg": sprintf("the pod mounts a token for the API server, where AIWorkflow %s declares no permission", [workflow]),
		"fix": "set automountServiceAccountToken to false",
	}
}

# Rules at home, rules elsewhere, and those that the engine brings along.
rights := array.concat(array.concat(declared("rules"), declared("crossNamespace")), of_engine)

declared(field) := object.get(object.get(input.workflow.spec, "permissions", {}), field, [])

default of_engine := []

of_engine := input.engine.rules if is_array(input.engine.rules)

default account := ""

account := object.get(input.pod.spec, "serviceAccountName", object.get(input.pod.spec, "serviceAccount", "")) if {
	is_object(input.pod.spec)
}

default workflow := "?"

workflow := input.workflow.metadata.name

# "" where no AIWorkflow is known: then any account but `default` will do here, and the fence asks for the workflow.
default expected := ""

expected := input.workflow.spec.identity.serviceAccountName

expected := input.workflow.metadata.name if not input.workflow.spec.identity.serviceAccountName

default fix := "declare an AIWorkflow, from which Ringfence makes a service account, and set serviceAccountName to that account"

fix := sprintf("set serviceAccountName to %s, the account that Ringfence makes from AIWorkflow %s", [expected, workflow]) if expected != ""

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
