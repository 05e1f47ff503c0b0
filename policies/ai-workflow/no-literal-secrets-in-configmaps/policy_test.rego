package ringfence.no_literal_secrets_in_configmaps_test

import data.ringfence.no_literal_secrets_in_configmaps as policy

holding(fields) := {
	"request": {"operation": "CREATE", "object": object.union({"kind": "ConfigMap", "metadata": {"name": "settings"}}, fields)},
	"parameters": {"allowedKeys": [], "randomLength": 20},
}

data_of(name, text) := holding({"data": {name: text}})

# Written in two halves, so that nothing that scans this repository takes them for real.
keys := [
	concat("", ["AKIA", "IOSFODNN7EXAMPLE"]),
	concat("", ["ghp_", "0123456789abcdefghijklmnopqrstuvwxyz"]),
	concat("", ["sk-ant-", "api03-0123456789-abcdefghij_"]),
	concat("", ["-----BEGIN RSA ", "PRIVATE KEY-----\nMIIE"]),
	concat("", ["eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc"]),
]

test_admits_settings_and_what_controllers_write if {
	every name, text in {
		"config.yaml": "level: info\nmax_tokens: 4096\nsecret:\n  name: model\npasswordFrom: vault\ntoken: ${TOKEN}\npassword: |\n",
		"app.py": "token = os.environ['TOKEN']\nkey = self.api_key\nconnect(password=password, api_key=load('a'))\nsecret = vault.read()\n",
		"template": "api_key: {{ .Values.key }}\npassword = \"{{ secret }}\"\n",
		"ca.crt": concat("", ["-----BEGIN CERTIFICATE-----\nMIIDazCCAlOgAwIBAgIUQ7Zp2Kd9Xw4Rt8Bn1Ls6", "\n-----END CERTIFICATE-----\n"]),
		"url": "postgres://app:${DB_PASSWORD}@db/app",
		"token": "/var/run/secrets/token",
		"digest": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	} {
		count(policy.deny) == 0 with input as data_of(name, text)
	}
	count(policy.deny) == 0 with input as holding({})
	count(policy.deny) == 0 with input as holding({"data": null, "binaryData": null, "metadata": {"annotations": null}})
	count(policy.deny) == 0 with input as holding({"binaryData": {"model.bin": "AAEC/w=="}})
}

test_refuses_every_shape_in_data_binary_data_and_annotations if {
	every key in keys {
		text := sprintf("a: b\nc: '%s'\n", [key])
		some written in policy.deny with input as data_of("config.yaml", text)
		written.path == "data[config.yaml]"
		some binary in policy.deny with input as holding({"binaryData": {"blob": base64.encode(text)}})
		binary.path == "binaryData[blob]"
		some annotated in policy.deny with input as holding({"metadata": {"annotations": {"example.com/note": key}}})
		annotated.path == "metadata.annotations[example.com/note]"
	}
}

test_refuses_without_repeating_the_value if {
	every key in keys {
		some finding in policy.deny with input as data_of("API_KEY", key)
		finding.value == sprintf("(hidden, %d characters)", [count(key)])
		not contains(json.marshal(finding), substring(key, 0, 12))
	}
}

test_refuses_urls_with_passwords if {
	some finding in policy.deny with input as data_of("dsn", "postgres://app:hunter2@db/app")
	contains(finding.msg, "URL")
}

test_refuses_keys_with_literal_values if {
	every name in ["password", "API_KEY", "openai.api-key", "DB_PASSWORD"] {
		some finding in policy.deny with input as data_of(name, "hunter2")
		contains(finding.msg, "named like a secret")
	}
}

test_refuses_assignments_in_documents if {
	every text in [
		"level: info\npassword: hunter2\n",
		"API_KEY=hunter2",
		"[db]\npassword = supersecret\n",
		"{\"api_key\": \"hunter2\"}",
		concat("", [concat("", ["token: ${A}\n" | some _ in split("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "")]), "token: hunter2"]),
	] {
		some finding in policy.deny with input as data_of("settings", text)
		contains(finding.msg, "assigns")
		not contains(json.marshal(finding), "hunter2")
	}
}

test_refuses_one_word_drawn_by_lot if {
	drawn := concat("", ["q7Zp2Kd9", "Xw4Rt8Bn1Ls6"])
	some finding in policy.deny with input as data_of("setting", concat("", [drawn, "\n"]))
	contains(finding.msg, "looks like a key")
	count(policy.deny) == 0 with input as object.union(data_of("setting", drawn), {"parameters": {"randomLength": 0}})
	count(policy.deny) == 0 with input as data_of("setting", sprintf("see %s", [drawn]))
}

test_admits_keys_that_the_platform_names if {
	named := {"parameters": {"allowedKeys": ["EOS_TOKEN"]}}
	count(policy.deny) == 0 with input as object.union(data_of("EOS_TOKEN", "</s>"), named)
	count(policy.deny) == 1 with input as object.union(data_of("EOS_TOKEN", keys[0]), named)
}

update(old, new) := object.union(holding(new), {"request": {"operation": "UPDATE", "oldObject": holding(old).request.object}})

test_admits_an_update_that_leaves_data if {
	bad := {"data": {"password": "hunter2"}}
	count(policy.deny) == 0 with input as update(bad, object.union(bad, {"metadata": {"labels": {"a": "b"}, "annotations": {"leader": "a"}}}))
}

test_refuses_an_update_of_data if {
	bad := {"data": {"password": "hunter2"}}
	count(policy.deny) == 1 with input as update({}, bad)
	count(policy.deny) == 1 with input as update(bad, {"data": {"password": "hunter2", "a": "b"}})
	count(policy.deny) == 1 with input as update(bad, object.union(bad, {"metadata": {"annotations": {"token": "hunter2"}}}))
	count(policy.deny) == 1 with input as update(bad, {"binaryData": {"password": base64.encode("hunter2")}})
	count(policy.deny) == 1 with input as object.union(update(bad, bad), {"request": {"operation": "CREATE"}})
}

test_refuses_no_config_map if {
	count(policy.deny) == 1 with input as {"request": {"object": null}}
	count(policy.deny) == 1 with input as {}
}
