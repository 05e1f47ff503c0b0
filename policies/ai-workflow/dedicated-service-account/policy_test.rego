package ringfence.dedicated_service_account_test

import data.ringfence.dedicated_service_account as policy

pod(spec) := {"podPath": "", "pod": {"spec": spec}}

of_workflow(spec, workflow) := {"podPath": "", "pod": {"spec": spec}, "workflow": workflow}

triage := {"metadata": {"name": "triage"}, "spec": {}}

named := {"metadata": {"name": "triage"}, "spec": {"identity": {"serviceAccountName": "triage-runner"}}}

test_admits_an_account_of_its_own if {
	count(policy.deny) == 0 with input as pod({"serviceAccountName": "triage"})
}

test_admits_the_account_of_the_workflow if {
	count(policy.deny) == 0 with input as of_workflow({"serviceAccountName": "triage"}, triage)
	count(policy.deny) == 0 with input as of_workflow({"serviceAccountName": "triage-runner"}, named)
}

test_admits_both_fields_with_the_same_account if {
	spec := {"serviceAccountName": "triage", "serviceAccount": "triage"}
	count(policy.deny) == 0 with input as of_workflow(spec, triage)
}

test_admits_the_deprecated_field_alone if {
	count(policy.deny) == 0 with input as of_workflow({"serviceAccount": "triage"}, triage)
}

test_refuses_default_and_nothing if {
	every spec in [{}, {"serviceAccountName": ""}, {"serviceAccountName": "default"}, {"serviceAccountName": " Default"}] {
		count(policy.deny) == 1 with input as pod(spec)
		count(policy.deny) == 1 with input as of_workflow(spec, triage)
	}
}

test_refuses_default_even_when_the_workflow_names_it if {
	workflow := {"metadata": {"name": "x"}, "spec": {"identity": {"serviceAccountName": "default"}}}
	count(policy.deny) == 1 with input as of_workflow({"serviceAccountName": "default"}, workflow)
}

test_refuses_the_account_of_another_workflow if {
	some finding in policy.deny with input as of_workflow({"serviceAccountName": "other"}, triage)
	finding.path == "spec.serviceAccountName"
	finding.value == "other"
	finding.fix == "set serviceAccountName to triage, the account that Ringfence makes from AIWorkflow triage"
}

test_refuses_default_and_names_the_account_that_ringfence_makes if {
	every spec in [{}, {"serviceAccountName": "default"}] {
		some finding in policy.deny with input as of_workflow(spec, named)
		finding.fix == "set serviceAccountName to triage-runner, the account that Ringfence makes from AIWorkflow triage"
		some unknown in policy.deny with input as pod(spec)
		contains(unknown.fix, "declare an AIWorkflow, from which Ringfence makes a service account")
	}
}

test_refuses_the_workflows_name_where_it_declares_another_account if {
	count(policy.deny) == 1 with input as of_workflow({"serviceAccountName": "triage"}, named)
}

test_refuses_two_fields_that_differ if {
	spec := {"serviceAccountName": "triage", "serviceAccount": "admin"}
	some finding in policy.deny with input as of_workflow(spec, triage)
	finding.path == "spec.serviceAccount"
}

test_refuses_a_pod_without_spec if {
	count(policy.deny) == 1 with input as {"podPath": "", "pod": {}}
	count(policy.deny) == 1 with input as {"podPath": "", "pod": {"spec": "x"}}
	count(policy.deny) == 1 with input as {}
}

test_refuses_where_the_workflow_has_no_name if {
	count(policy.deny) == 1 with input as of_workflow({"serviceAccountName": "triage"}, {"metadata": {}, "spec": {}})
}

test_refuses_in_a_template_with_its_path if {
	some finding in policy.deny with input as {"podPath": "spec.template", "pod": {"spec": {}}}
	finding.path == "spec.template.spec.serviceAccountName"
}

test_warns_of_a_token_without_use if {
	spec := {"serviceAccountName": "triage", "automountServiceAccountToken": true}
	count(policy.warn) == 1 with input as of_workflow(spec, triage)
}

test_does_not_warn_of_a_token_with_use if {
	spec := {"serviceAccountName": "triage", "automountServiceAccountToken": true}
	workflow := {"metadata": {"name": "triage"}, "spec": {"permissions": {"rules": [{"verbs": ["get"]}]}}}
	count(policy.warn) == 0 with input as of_workflow(spec, workflow)
	elsewhere := {"metadata": {"name": "triage"}, "spec": {"permissions": {"crossNamespace": [{"namespace": "x", "rules": []}]}}}
	count(policy.warn) == 0 with input as of_workflow(spec, elsewhere)
	engine := {"engine": {"name": "argo", "rules": [{"verbs": ["create"]}]}}
	count(policy.warn) == 0 with input as object.union(of_workflow(spec, triage), engine)
	count(policy.warn) == 0 with input as of_workflow({"automountServiceAccountToken": false}, triage)
	count(policy.warn) == 0 with input as of_workflow({}, triage)
}
