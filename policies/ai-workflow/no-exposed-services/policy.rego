# METADATA
# title: No exposed services
# description: >-
#   Services of a fenced namespace are reached from within the cluster only: no LoadBalancer, no NodePort, no port of the nodes, no
#   external address. What may be is the parameter `allowedTypes`; take ExternalName from it where names that lead elsewhere are not
#   wanted either. An update that leaves spec as it was is not judged.
# custom:
#   name: no-exposed-services
#   severity: high
#   remediation: Use a Service of type ClusterIP, and let who comes from outside come through an Ingress or a Gateway with TLS.
#   scope: object
#   match:
#     resourceRules:
#     - apiGroups: [""]
#       apiVersions: [v1]
#       resources: [services]
#       operations: [CREATE, UPDATE]
#     namespaceSelector:
#       matchExpressions: [{key: ringfence.dev/enforce, operator: Exists}]
#   controls: [NIST-800-53-SC-7, NSA-CISA-Kubernetes-Hardening, OWASP-K07, MITRE-ATLAS-AML.T0049]
#   parameters:
#     allowedTypes: [ClusterIP, ExternalName]
package ringfence.no_exposed_services

deny contains finding if {
	not is_object(object.get(input, ["request", "object", "spec"], null))
	finding := {"path": "spec", "msg": "there is no Service that can be judged", "fix": "send a Service with its spec"}
}

deny contains finding if {
	judged
	not type in input.parameters.allowedTypes
	finding := {
		"path": "spec.type",
		"value": type,
		"msg": "the Service is reached from outside the cluster, past the fence of the namespace",
		"fix": sprintf("use a Service of type %s", [concat(" or ", input.parameters.allowedTypes)]),
	}
}

deny contains finding if {
	judged
	some field in ["externalIPs", "loadBalancerIP", "loadBalancerClass", "healthCheckNodePort"]
	value := spec[field]
	not value in ["", 0, null, []]
	not "LoadBalancer" in input.parameters.allowedTypes
	finding := {
		"path": sprintf("spec.%s", [field]),
		"msg": reasons[field],
		"fix": sprintf("remove %s", [field]),
	}
}

deny contains finding if {
	judged
	some i, port in spec.ports
	value := port.nodePort
	not value in [0, null]
	not is_exposing_allowed
	finding := {
		"path": sprintf("spec.ports[%v].nodePort", [i]),
		"value": value,
		"msg": "every node of the cluster would listen on this port",
		"fix": "remove nodePort",
	}
}

reasons := {
	"externalIPs": "the nodes would take what is sent to these addresses, whoever they belong to",
	"loadBalancerIP": "the field asks for an address outside the cluster",
	"loadBalancerClass": "the field asks for a load balancer outside the cluster",
	"healthCheckNodePort": "every node of the cluster would listen on this port",
}

spec := input.request.object.spec

default type := "ClusterIP"

type := spec.type if not spec.type in ["", null]

is_exposing_allowed if {
	some allowed in ["LoadBalancer", "NodePort"]
	allowed in input.parameters.allowedTypes
}

judged if not is_unchanged

# A Service of before may still be labelled, annotated and deleted, and the controller of load balancers may take its finalizer away.
is_unchanged if {
	input.request.operation == "UPDATE"
	input.request.oldObject.spec == spec
}
