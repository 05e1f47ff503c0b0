package ringfence.short_lived_tokens_test

import data.ringfence.short_lived_tokens as policy

asked(spec) := {
	"request": {
		"operation": "CREATE", "namespace": "ai-secure", "name": "triage", "subResource": "token",
		"userInfo": {"username": "dev", "groups": ["system:authenticated"]},
		"object": {"kind": "TokenRequest", "spec": spec},
	},
	"parameters": {"maxTokenSeconds": 3600},
}

with_class(seconds, request) := object.union(request, {"class": {"metadata": {"name": "strict"}, "spec": {"identity": {"maxTokenSeconds": seconds}}}})

test_admits_short_tokens if {
	every seconds in [600, 3599, 3600, null] {
		count(policy.deny) == 0 with input as asked({"expirationSeconds": seconds})
	}
	count(policy.deny) == 0 with input as asked({})
	count(policy.deny) == 0 with input as with_class(7200, asked({"expirationSeconds": 7200}))
}

test_refuses_long_tokens if {
	every seconds in [3601, 3607, 86400, 4294967295, 3600.5] {
		some finding in policy.deny with input as asked({"expirationSeconds": seconds})
		finding.path == "spec.expirationSeconds"
		finding.value == seconds
	}
}

test_refuses_by_the_class_where_there_is_one if {
	some finding in policy.deny with input as with_class(600, asked({"expirationSeconds": 601}))
	contains(finding.msg, "AIWorkflowClass strict")
	some absent in policy.deny with input as with_class(600, asked({}))
	absent.value == 3600
	other := {"class": {"metadata": {"name": "plain"}, "spec": {}}}
	count(policy.deny) == 1 with input as object.union(asked({"expirationSeconds": 3601}), other)
}

test_refuses_what_is_no_number if {
	every seconds in ["600", [], true, {"a": 1}] {
		count(policy.deny) == 1 with input as asked({"expirationSeconds": seconds})
	}
	count(policy.deny) > 0 with input as {"request": {"object": null}, "parameters": {"maxTokenSeconds": 600}}
	count(policy.deny) > 0 with input as {"parameters": {"maxTokenSeconds": 3600}}
}

by(user, groups, spec) := object.union(asked(spec), {"request": {"userInfo": {"username": user, "groups": groups}}})

of_pod := {"expirationSeconds": 86400, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u"}}

test_admits_kubelets_for_their_pods if {
	count(policy.deny) == 0 with input as by("system:node:worker-1", ["system:nodes", "system:authenticated"], of_pod)
}

test_refuses_who_only_looks_like_a_kubelet if {
	count(policy.deny) == 1 with input as by("system:node:worker-1", ["system:nodes"], {"expirationSeconds": 86400})
	count(policy.deny) == 1 with input as by("system:node:worker-1", ["system:authenticated"], of_pod)
	count(policy.deny) == 1 with input as by("system:serviceaccount:ai-secure:node", ["system:nodes"], of_pod)
	of_secret := object.union(of_pod, {"boundObjectRef": {"kind": "Secret"}})
	count(policy.deny) == 1 with input as by("system:node:worker-1", ["system:nodes"], of_secret)
}
