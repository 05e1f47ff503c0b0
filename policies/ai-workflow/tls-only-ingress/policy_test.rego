package ringfence.tls_only_ingress_test

import data.ringfence.tls_only_ingress as policy

ingress(spec) := annotated({}, spec)

annotated(annotations, spec) := {
	"request": {
		"operation": "CREATE", "namespace": "ai-secure", "userInfo": {"username": "dev"},
		"object": {"kind": "Ingress", "metadata": {"name": "triage", "annotations": annotations}, "spec": spec},
	},
	"parameters": {"users": []},
}

tls(hosts) := [{"hosts": hosts, "secretName": "certificate"}]

good := {"tls": tls(["a.example.com", "b.example.com"]), "rules": [{"host": "a.example.com"}, {"host": "b.example.com"}]}

test_admits_hosts_that_tls_names if {
	count(policy.deny) == 0 with input as ingress(good)
	count(policy.deny) == 0 with input as ingress({"tls": tls(["*.example.com"]), "rules": [{"host": "*.example.com"}]})
	count(policy.deny) == 0 with input as ingress({"tls": tls(["A.example.com."]), "rules": [{"host": "a.example.com"}]})
	count(policy.deny) == 0 with input as ingress({})
}

test_admits_any_host_where_an_entry_of_tls_is_for_any if {
	every entry in [{}, {"hosts": []}, {"secretName": "certificate"}] {
		count(policy.deny) == 0 with input as ingress({"tls": [entry], "rules": [{"http": {}}]})
		count(policy.deny) == 0 with input as ingress({"tls": [entry], "defaultBackend": {"service": {"name": "a"}}})
	}
}

test_refuses_hosts_without_tls if {
	every entries in [[], null, tls([]), tls(["b.example.com"]), tls(["*.example.com"]), tls(["a.example.com.evil.example"]), "all", [null]] {
		some finding in policy.deny with input as ingress({"tls": entries, "rules": [{"host": "a.example.com"}]})
		finding.path == "spec.rules[0].host"
		finding.value == "a.example.com"
	}
	some second in policy.deny with input as ingress({"tls": tls(["a.example.com"]), "rules": [{"host": "a.example.com"}, {"host": "c.example.com"}]})
	second.path == "spec.rules[1].host"
}

test_refuses_a_wildcard_that_only_single_names_cover if {
	count(policy.deny) == 1 with input as ingress({"tls": tls(["a.example.com"]), "rules": [{"host": "*.example.com"}]})
}

test_refuses_rules_for_any_host if {
	every rule in [{}, {"host": ""}, {"host": null}, {"host": "."}] {
		some finding in policy.deny with input as ingress({"tls": tls(["a.example.com"]), "rules": [rule]})
		contains(finding.msg, "any host")
	}
	some finding in policy.deny with input as ingress(object.union(good, {"defaultBackend": {"service": {"name": "a"}}}))
	finding.path == "spec.defaultBackend"
}

test_refuses_hosts_that_are_no_text if {
	every host in [3, ["a.example.com"], true] {
		count(policy.deny) == 1 with input as ingress({"tls": tls(["a.example.com"]), "rules": [{"host": host}]})
	}
}

test_refuses_annotations_that_bring_http_back if {
	every key, value in {
		"nginx.ingress.kubernetes.io/ssl-redirect": "false",
		"nginx.ingress.kubernetes.io/force-ssl-redirect": "False",
		"haproxy.org/ssl-redirect": "false",
		"kubernetes.io/ingress.allow-http": "true",
		"traefik.ingress.kubernetes.io/router.entrypoints": "websecure, web",
		"alb.ingress.kubernetes.io/listen-ports": `[{"HTTP": 80}, {"HTTPS": 443}]`,
		"konghq.com/protocols": "https, http",
	} {
		some finding in policy.deny with input as annotated({key: value}, good)
		finding.path == sprintf("metadata.annotations[%s]", [key])
	}
	every value in ["0", "f", "F", "FALSE", "off", "No", "disabled"] {
		count(policy.deny) == 1 with input as annotated({"nginx.ingress.kubernetes.io/ssl-redirect": value}, good)
	}
	every value in ["1", "t", "TRUE", "", "fAlSe", "nonsense"] {
		count(policy.deny) == 1 with input as annotated({"kubernetes.io/ingress.allow-http": value}, good)
	}
}

test_admits_other_annotations if {
	count(policy.deny) == 0 with input as annotated({
		"nginx.ingress.kubernetes.io/ssl-redirect": "true",
		"kubernetes.io/ingress.allow-http": "false",
		"alb.ingress.kubernetes.io/ssl-redirect": "443",
		"traefik.ingress.kubernetes.io/router.entrypoints": "websecure",
		"alb.ingress.kubernetes.io/listen-ports": `[{"HTTP": 80}, {"HTTPS": 443}]`,
		"konghq.com/protocols": "https",
		"example.com/note": "false",
	}, good)
	count(policy.deny) == 0 with input as annotated(null, good)
}

test_admits_gateways_that_listen_with_tls if {
	count(policy.deny) == 0 with input as ingress({"listeners": [{"protocol": "HTTPS", "port": 443}, {"protocol": "TLS", "port": 8443}]})
}

test_refuses_gateways_that_listen_without if {
	every protocol in ["HTTP", "TCP", "UDP", "https", "", "example.com/h2c"] {
		some finding in policy.deny with input as ingress({"listeners": [{"protocol": "HTTPS"}, {"protocol": protocol}]})
		finding.path == "spec.listeners[1].protocol"
	}
	count(policy.deny) == 1 with input as ingress({"listeners": [{"port": 80}]})
}

update(old, new) := object.union(new, {"request": {"operation": "UPDATE", "oldObject": old.request.object}})

test_admits_an_update_that_leaves_what_is_served if {
	bad := annotated({"kubernetes.io/ingress.allow-http": "true", "a": "1"}, {"rules": [{}]})
	count(policy.deny) == 0 with input as update(bad, object.union(bad, {"request": {"object": {"metadata": {"annotations": {"a": "2"}}}}}))
}

test_refuses_an_update_of_what_is_served if {
	plain := ingress({"rules": [{"host": "a.example.com"}]})
	count(policy.deny) == 1 with input as update(ingress(good), plain)
	count(policy.deny) == 1 with input as update(ingress(good), annotated({"kubernetes.io/ingress.allow-http": "true"}, good))
	count(policy.deny) == 1 with input as object.union(update(plain, plain), {"request": {"operation": "CREATE"}})
}

test_admits_users_that_the_platform_names if {
	solver := {"parameters": {"users": ["dev"]}}
	count(policy.deny) == 0 with input as object.union(ingress({"rules": [{}]}), solver)
	count(policy.deny) == 1 with input as object.union(ingress({"rules": [{}]}), {"parameters": {"users": ["other"]}})
}

test_refuses_what_has_no_spec if {
	count(policy.deny) == 1 with input as {"request": {"object": {"spec": []}}}
	count(policy.deny) == 1 with input as {}
}
