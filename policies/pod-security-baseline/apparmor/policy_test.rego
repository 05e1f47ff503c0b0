package ringfence.pss.baseline.apparmor_test

import data.ringfence.pss.baseline.apparmor as policy

asked(version, spec) := {"podPath": "", "pod": {"spec": spec}, "parameters": {"version": version}}

latest(spec) := asked("latest", spec)

with_annotations(annotations) := object.union(latest({}), {"pod": {"spec": {}, "metadata": {"annotations": annotations}}})

key := "container.apparmor.security.beta.kubernetes.io/main"

test_admits_profiles_that_confine if {
	every profile in [null, {"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "app"}] {
		count(policy.deny) == 0 with input as latest({"securityContext": {"appArmorProfile": profile}})
		count(policy.deny) == 0 with input as latest({"containers": [{"securityContext": {"appArmorProfile": profile}}]})
	}
	every value in ["runtime/default", "localhost/app", "", null] {
		count(policy.deny) == 0 with input as with_annotations({key: value, "other": "unconfined"})
	}
	count(policy.deny) == 0 with input as with_annotations(null)
}

test_refuses_other_profiles_of_the_pod if {
	every profile in [{"type": "Unconfined"}, {"type": "runtimedefault"}, {"type": ""}, {"type": null}, {"type": 1}, {}, "RuntimeDefault", []] {
		findings := policy.deny with input as latest({"securityContext": {"appArmorProfile": profile}})
		{finding.path | some finding in findings} == {"spec.securityContext.appArmorProfile.type"}
	}
}

test_refuses_other_profiles_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every profile in [{"type": "Unconfined"}, {"type": null}, {"type": []}, {}, "RuntimeDefault"] {
			findings := policy.deny with input as latest({kind: [{}, {"securityContext": {"appArmorProfile": profile}}]})
			{finding.path | some finding in findings} == {sprintf("spec.%s[1].securityContext.appArmorProfile.type", [kind])}
		}
	}
}

test_refuses_other_profiles_by_annotation if {
	every value in ["unconfined", "localhost", "Runtime/default", 1, [], {}] {
		findings := policy.deny with input as with_annotations({key: value})
		{finding.path | some finding in findings} == {sprintf("metadata.annotations[%s]", [key])}
	}
}

test_refuses_metadata_that_cannot_be_read if {
	every annotations in ["unconfined", [], true] {
		some finding in policy.deny with input as with_annotations(annotations)
		finding.path == "metadata.annotations"
	}
	some finding in policy.deny with input as object.union(latest({}), {"pod": {"spec": {}, "metadata": "x"}})
	finding.path == "metadata"
}

good := {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}

bad := {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}

test_refuses_containers_that_cannot_be_read if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		every list in ["x", {"a": {}}, true, 1] {
			some finding in policy.deny with input as latest({kind: list})
			finding.path == sprintf("spec.%s", [kind])
		}
		every container in ["x", null, [], 1] {
			some finding in policy.deny with input as latest({kind: [{}, container]})
			finding.path == sprintf("spec.%s[1]", [kind])
		}
		count(policy.deny) == 0 with input as latest({kind: null})
	}
}

test_refuses_a_context_that_cannot_be_read if {
	every context in ["x", [], true, 1] {
		some finding in policy.deny with input as latest({"containers": [{"securityContext": context}]})
		finding.path == "spec.containers[0].securityContext"
	}
}

test_refuses_a_context_of_the_pod_that_cannot_be_read if {
	every context in ["x", [], true, 1] {
		some finding in policy.deny with input as latest({"securityContext": context, "containers": []})
		finding.path == "spec.securityContext"
	}
}

test_refuses_where_the_version_is_not_known if {
	every version in ["v1.30", "v1.37", "1.36", "Latest", "", null, 1.36] {
		some finding in policy.deny with input as asked(version, good)
		contains(finding.msg, "version")
	}
	some finding in policy.deny with input as {"podPath": "", "pod": {"spec": good}}
	contains(finding.msg, "version")
	every version in ["v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "latest"] {
		count(policy.deny) == 0 with input as asked(version, good)
	}
}

test_refuses_a_pod_without_a_spec if {
	every pod in [{}, {"spec": null}, {"spec": "x"}, [], "x"] {
		some finding in policy.deny with input as {"podPath": "", "pod": pod, "parameters": {"version": "latest"}}
		finding.path == "spec"
	}
	some finding in policy.deny with input as {"parameters": {"version": "latest"}}
	finding.path == "spec"
}

test_refuses_in_a_template_with_its_path if {
	request := {"podPath": "spec.template", "pod": {"spec": bad}, "parameters": {"version": "latest"}}
	some finding in policy.deny with input as request
	finding.path == "spec.template.spec.securityContext.appArmorProfile.type"
}
