# METADATA
# title: TLS-only ingress
# description: >-
#   What comes into a fenced namespace through an Ingress or a Gateway comes with TLS: every host of an Ingress stands in its `tls`, what
#   it serves without a host is covered by an entry of `tls` without hosts, no annotation brings plain HTTP back, and a Gateway listens
#   with HTTPS or TLS only. HTTPRoutes say nothing of TLS: their Gateway does. An update that leaves spec and these annotations as they
#   were is not judged.
# custom:
#   name: tls-only-ingress
#   severity: high
#   remediation: Name every host in spec.tls, with the Secret that holds its certificate, and leave the redirection to HTTPS on.
#   scope: object
#   match:
#     resourceRules:
#     - apiGroups: [networking.k8s.io]
#       apiVersions: [v1]
#       resources: [ingresses]
#       operations: [CREATE, UPDATE]
#     - apiGroups: [gateway.networking.k8s.io]
#       apiVersions: ["*"]
#       resources: [gateways, listenersets]
#       operations: [CREATE, UPDATE]
#     namespaceSelector:
#       matchExpressions: [{key: ringfence.dev/enforce, operator: Exists}]
#   controls: [NIST-800-53-SC-8, NSA-CISA-Kubernetes-Hardening]
#   parameters:
#     users: []
package ringfence.tls_only_ingress

deny contains finding if {
	not is_object(object.get(input, ["request", "object", "spec"], null))
	finding := {"path": "spec", "msg": "there is nothing that can be judged", "fix": "send an Ingress or a Gateway with its spec"}
}

deny contains finding if {
	judged
	some i, rule in spec.rules
	host := named(object.get(rule, "host", ""))
	host != ""
	not host in covered
	finding := {
		"path": sprintf("spec.rules[%v].host", [i]),
		"value": host,
		"msg": sprintf("%s is served without TLS: no entry of spec.tls names it", [host]),
		"fix": sprintf("add an entry to spec.tls with hosts: [%s] and its secretName", [host]),
	}
}

deny contains finding if {
	judged
	some i, rule in spec.rules
	named(object.get(rule, "host", "")) == ""
	not covers_any_host
	finding := {
		"path": sprintf("spec.rules[%v].host", [i]),
		"msg": "the rule serves any host, and without TLS",
		"fix": "name the host in the rule and in spec.tls",
	}
}

deny contains finding if {
	judged
	not spec.defaultBackend in [null, {}]
	not covers_any_host
	finding := {
		"path": "spec.defaultBackend",
		"msg": "the default backend serves any host, and without TLS",
		"fix": "use rules with a host that spec.tls names, or add an entry to spec.tls without hosts",
	}
}

deny contains finding if {
	judged
	some key, value in bringing_http_back(input.request.object)
	finding := {
		"path": sprintf("metadata.annotations[%s]", [key]),
		"value": value,
		"msg": "the annotation lets plain HTTP in beside TLS",
		"fix": "remove the annotation",
	}
}

deny contains finding if {
	judged
	some i, listener in spec.listeners
	not object.get(listener, "protocol", "") in ["HTTPS", "TLS"]
	finding := {
		"path": sprintf("spec.listeners[%v].protocol", [i]),
		"value": object.get(listener, "protocol", ""),
		"msg": "the listener takes what comes without TLS",
		"fix": "use protocol HTTPS or TLS",
	}
}

spec := input.request.object.spec

# Hosts are names of DNS, where case and a dot at the end make no difference.
named(host) := trim_suffix(lower(host), ".") if is_string(host)

named(host) := "" if host == null

named(host) := host if {
	not is_string(host)
	host != null
}

covered := {named(host) |
	host := spec.tls[_].hosts[_]
}

# An entry without hosts stands for whatever host the controller serves.
covers_any_host if {
	entry := spec.tls[_]
	is_object(entry)
	not entry.hosts[0]
}

bringing_http_back(object) := {key: value |
	some key
	value := object.metadata.annotations[key]
	brings_http_back(key, value)
	not redirects(object, key)
}

redirects(object, "alb.ingress.kubernetes.io/listen-ports") if {
	object.metadata.annotations["alb.ingress.kubernetes.io/ssl-redirect"]
}

brings_http_back(key, value) if {
	some name in ["/ssl-redirect", "/force-ssl-redirect"]
	endswith(key, name)
	lower(trim_space(value)) in off
}

# What some controller reads as no. All else it reads as its default, which is the redirection; one takes the number of a port.
off := {"0", "f", "false", "n", "no", "off", "disable", "disabled"}

# By default there is HTTP: only what is read as no takes it away.
brings_http_back("kubernetes.io/ingress.allow-http", value) if not value in {"0", "f", "F", "FALSE", "false", "False"}

brings_http_back("traefik.ingress.kubernetes.io/router.entrypoints", value) if {
	some entrypoint in split(lower(value), ",")
	trim_space(entrypoint) in ["web", "http"]
}

brings_http_back("alb.ingress.kubernetes.io/listen-ports", value) if regex.match(`"HTTP"\s*:`, value)

brings_http_back("konghq.com/protocols", value) if {
	some protocol in split(lower(value), ",")
	trim_space(protocol) in ["http", "grpc", "tcp"]
}

judged if {
	not is_unchanged
	not is_of_user
}

is_unchanged if {
	input.request.operation == "UPDATE"
	input.request.oldObject.spec == spec
	bringing_http_back(input.request.oldObject) == bringing_http_back(input.request.object)
}

# Such as the controller that answers the questions of a certificate authority, which come without TLS.
is_of_user if input.request.userInfo.username in input.parameters.users
