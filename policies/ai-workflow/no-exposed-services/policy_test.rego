package ringfence.no_exposed_services_test

import data.ringfence.no_exposed_services as policy

service(spec) := {
	"request": {"operation": "CREATE", "namespace": "ai-secure", "object": {"kind": "Service", "metadata": {"name": "triage"}, "spec": spec}},
	"parameters": {"allowedTypes": ["ClusterIP", "ExternalName"]},
}

test_admits_what_is_reached_from_within if {
	every spec in [
		{"ports": [{"port": 80}]},
		{"type": null, "ports": [{"port": 80, "nodePort": 0}]},
		{"type": "", "externalIPs": [], "loadBalancerIP": ""},
		{"type": "ClusterIP", "clusterIP": "None"},
		{"type": "ExternalName", "externalName": "db.example.com"},
	] {
		count(policy.deny) == 0 with input as service(spec)
	}
}

test_refuses_other_types if {
	every type in ["LoadBalancer", "NodePort", "loadbalancer", "Newer", " ClusterIP"] {
		some finding in policy.deny with input as service({"type": type, "allocateLoadBalancerNodePorts": false})
		finding.path == "spec.type"
		finding.value == type
	}
}

test_refuses_external_addresses_and_ports_of_nodes_by_any_field if {
	every field, value in {"externalIPs": ["192.0.2.1"], "loadBalancerIP": "192.0.2.1", "loadBalancerClass": "a.example/b", "healthCheckNodePort": 30000} {
		some finding in policy.deny with input as service({"type": "ClusterIP", field: value})
		finding.path == concat(".", ["spec", field])
	}
	some port in policy.deny with input as service({"ports": [{"port": 80}, {"port": 81, "nodePort": 30080}]})
	port.path == "spec.ports[1].nodePort"
}

test_refuses_what_the_platform_takes_from_the_types if {
	strict := {"parameters": {"allowedTypes": ["ClusterIP"]}}
	some finding in policy.deny with input as object.union(service({"type": "ExternalName"}), strict)
	finding.fix == "use a Service of type ClusterIP"
}

test_admits_what_the_platform_adds_to_the_types if {
	open := {"parameters": {"allowedTypes": ["ClusterIP", "LoadBalancer"]}}
	balanced := {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1", "ports": [{"port": 80, "nodePort": 30080}]}
	count(policy.deny) == 0 with input as object.union(service(balanced), open)
}

update(old, new) := object.union(service(new), {"request": {"operation": "UPDATE", "oldObject": {"metadata": {"finalizers": ["a"]}, "spec": old}}})

test_admits_an_update_that_leaves_spec if {
	count(policy.deny) == 0 with input as update({"type": "LoadBalancer"}, {"type": "LoadBalancer"})
}

test_refuses_an_update_of_spec if {
	count(policy.deny) == 1 with input as update({"type": "ClusterIP"}, {"type": "LoadBalancer"})
	count(policy.deny) == 1 with input as update({"type": "LoadBalancer"}, {"type": "LoadBalancer", "selector": {"app": "other"}})
	count(policy.deny) == 1 with input as object.union(update({"type": "NodePort"}, {"type": "NodePort"}), {"request": {"operation": "CREATE"}})
}

test_refuses_no_service if {
	count(policy.deny) > 0 with input as {"request": {"object": {"spec": "NodePort"}}, "parameters": {"allowedTypes": ["ClusterIP"]}}
	count(policy.deny) > 0 with input as {"request": {"object": null}, "parameters": {"allowedTypes": ["ClusterIP"]}}
	count(policy.deny) > 0 with input as {}
}
