package ringfence.no_literal_secrets_test

import data.ringfence.no_literal_secrets as policy

pod(container) := {"podPath": "", "pod": {"spec": {"containers": [container]}}, "parameters": {"allowedNames": [], "randomLength": 20}}

env(name, value) := pod({"env": [{"name": name, "value": value}]})

args(list) := pod({"args": list})

test_admits_references if {
	every value in ["", "$(DB_PASSWORD)", "true", "/var/run/secrets/token"] {
		count(policy.deny) == 0 with input as env("API_TOKEN", value)
	}
	reference := {"env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "openai", "key": "API_KEY"}}}]}
	count(policy.deny) == 0 with input as pod(reference)
}

test_admits_ordinary_values if {
	every value in [
		"info",
		"https://api.example.com:8443/v1?x=y",
		"postgres://app:$(DB_PASSWORD)@db/app",
		"task-0123456789abcdefghijklmnop",
		"sk-learn-pipeline-training-job-v2",
		"s3://bucket/key",
		"registry:5000/npm/@scope/pkg",
	] {
		count(policy.deny) == 0 with input as env("SETTING", value)
	}
}

test_admits_names_that_only_sound_alike if {
	every name in ["MAX_TOKENS", "TOKEN_LIMIT", "SECRET_NAME", "API_KEY_FILE", "PASSWORD_MIN_LENGTH", "COMPASS", "TOKENIZER"] {
		count(policy.deny) == 0 with input as env(name, "anything")
	}
}

test_admits_an_allowed_name if {
	allowed := {"parameters": {"allowedNames": ["EOS_TOKEN"]}}
	count(policy.deny) == 0 with input as object.union(env("EOS_TOKEN", "</s>"), allowed)
}

test_admits_ordinary_arguments if {
	every list in [
		["--port=8080", "--max-token=256", "--token-file=/var/run/token"],
		["--token", "--verbose"],
		["--token", "$(TOKEN)"],
		["--password=$(DB_PASSWORD)"],
		["sh", "-c", "export API_KEY=$(cat /run/secrets/key); PGPASSWORD=\"$DB_PASSWORD\" psql -c 'select 1'"],
		["sh", "-c", "curl -H \"Authorization: Bearer ${TOKEN}\" https://example.com"],
	] {
		count(policy.deny) == 0 with input as args(list)
	}
}

test_admits_a_pod_without_anything if {
	count(policy.deny) == 0 with input as pod({})
	count(policy.deny) == 0 with input as {"podPath": "", "pod": {"spec": {}}, "parameters": {"allowedNames": [], "randomLength": 20}}
}

# Written in two halves, so that nothing that scans this repository takes them for real.
keys := [
	concat("", ["AKIA", "IOSFODNN7EXAMPLE"]),
	concat("", ["ghp_", "0123456789abcdefghijklmnopqrstuvwxyz"]),
	concat("", ["github_pat_", "0123456789abcdefghijklmnopqrstuvwxyz"]),
	concat("", ["glpat-", "0123456789abcdefghij"]),
	concat("", ["xoxb-", "123456789012-abcdefghij"]),
	concat("", ["https://hooks.slack.com/services/", "T0123456/B0123456/abc"]),
	concat("", ["sk-", "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"]),
	concat("", ["sk-proj-", "0123456789-abcdefghij_"]),
	concat("", ["sk-ant-", "api03-0123456789-abcdefghij_"]),
	concat("", ["hf_", "abcdefghijklmnopqrstuvwxyzabcdefgh"]),
	concat("", ["gsk_", "0123456789abcdefghijklmnopqrstuvwxyz"]),
	concat("", ["sk_live_", "0123456789abcdef"]),
	concat("", ["AIza", "SyA-0123456789abcdefghijklmnopqrstu"]),
	concat("", ["DefaultEndpointsProtocol=https;AccountKey=", "0123456789abcdefghijklmnopqrstuvwxyz0123456789=="]),
	concat("", ["npm_", "0123456789abcdefghijklmnopqrstuvwxyz"]),
	concat("", ["hvs.", "0123456789abcdefghijklmnop"]),
	concat("", ["-----BEGIN ", "PRIVATE KEY-----\nMIIE"]),
	concat("", ["-----BEGIN OPENSSH ", "PRIVATE KEY-----\nb3Bl"]),
	concat("", ["eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc"]),
	concat("", ["bearer ", "0123456789abcdefghij"]),
	concat("", ["Basic ", "dXNlcjpwYXNzd29yZA=="]),
]

test_refuses_every_known_shape_in_env if {
	every key in keys {
		some finding in policy.deny with input as env("SETTING", key)
		finding.path == "spec.containers[0].env[0].value"
	}
}

test_refuses_every_known_shape_in_args_and_command if {
	every key in keys {
		every field in ["args", "command"] {
			some finding in policy.deny with input as pod({field: ["run", sprintf("--x=%s", [key])]})
			finding.path == sprintf("spec.containers[0].%s[1]", [field])
		}
	}
}

test_refuses_without_repeating_the_value if {
	every key in keys {
		some finding in policy.deny with input as env("OPENAI_API_KEY", key)
		finding.value == sprintf("(hidden, %d characters)", [count(key)])
		text := json.marshal(finding)
		not contains(text, substring(key, 0, 12))
		not contains(text, substring(key, count(key) - 4, 4))
	}
}

test_refuses_names_with_literal_values if {
	every name in [
		"OPENAI_API_KEY", "openai_api_key", "apiKey", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "GITHUB_TOKEN", "CLIENT_SECRET",
		"AWS_SECRET_ACCESS_KEY", "SSH_PASSPHRASE", "API_KEY_2", "TOKEN1", "SIGNING_KEY", "my.api-key",
	] {
		some finding in policy.deny with input as env(name, "hunter2")
		contains(finding.msg, name)
		finding.value == "(hidden, 7 characters)"
	}
}

test_refuses_a_password_of_digits if {
	count(policy.deny) == 1 with input as env("DB_PASSWORD", "12345")
	count(policy.deny) == 1 with input as args(["--password=12345"])
}

test_refuses_half_a_reference if {
	every value in ["$(PREFIX)hunter2", "$hunter2", "${hunter2}", "$$(X)hunter2"] {
		count(policy.deny) == 1 with input as env("DB_PASSWORD", value)
	}
}

test_refuses_passwords_in_urls if {
	every value in [
		"postgres://app:hunter2@db:5432/app",
		"redis://:hunter2@cache",
		"https://user:hunter2@example.com/x",
		"amqp://app:$ecret@mq",
		"see mongodb+srv://a:b@c for more",
	] {
		some finding in policy.deny with input as env("URL", value)
		contains(finding.msg, "URL")
	}
	count(policy.deny) == 1 with input as args(["--dsn", "postgres://app:hunter2@db/app"])
}

test_refuses_assignments_in_arguments if {
	every argument in [
		"--password=hunter2",
		"--db.password=hunter2",
		"-api_key=hunter2",
		"export API_KEY=hunter2 && run",
		"PGPASSWORD='hunter2' psql",
		"{\"apiKey\": \"hunter2\"}",
		"password: hunter2",
		"A=1;SECRET_TOKEN=hunter2",
	] {
		some finding in policy.deny with input as args([argument])
		finding.path == "spec.containers[0].args[0]"
		not contains(json.marshal(finding), "hunter2")
	}
}

test_refuses_a_flag_and_the_argument_after_it if {
	some finding in policy.deny with input as args(["--api-key", "hunter2"])
	finding.path == "spec.containers[0].args[1]"
}

test_refuses_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		spec := {kind: [{}, {"env": [{"name": "A", "value": "a"}, {"name": "API_KEY", "value": "hunter2"}]}]}
		some finding in policy.deny with input as {"podPath": "", "pod": {"spec": spec}, "parameters": {"allowedNames": [], "randomLength": 20}}
		finding.path == sprintf("spec.%s[1].env[1].value", [kind])
	}
}

test_refuses_in_probes_and_hooks if {
	command := {"exec": {"command": ["login", "--token=hunter2"]}}
	some probe in policy.deny with input as pod({"livenessProbe": command})
	probe.path == "spec.containers[0].livenessProbe.exec.command[1]"
	some hook in policy.deny with input as pod({"lifecycle": {"preStop": command}})
	hook.path == "spec.containers[0].lifecycle.preStop.exec.command[1]"
	header := {"httpGet": {"httpHeaders": [{"name": "X-API-Key", "value": "hunter2"}]}}
	some finding in policy.deny with input as pod({"readinessProbe": header})
	finding.path == "spec.containers[0].readinessProbe.httpGet.httpHeaders[0].value"
	query := {"httpGet": {"path": "/ready?api_key=hunter2"}}
	some asked in policy.deny with input as pod({"livenessProbe": query})
	asked.path == "spec.containers[0].livenessProbe.httpGet.path"
}

test_refuses_a_pod_without_spec if {
	count(policy.deny) == 1 with input as {"podPath": "", "pod": {}}
	count(policy.deny) == 1 with input as {}
}

test_refuses_in_a_template_with_its_path if {
	template := {"podPath": "spec.template", "pod": {"spec": {"containers": [{"env": [{"name": "API_KEY", "value": "x"}]}]}}}
	some finding in policy.deny with input as object.union(template, {"parameters": {"allowedNames": [], "randomLength": 20}})
	finding.path == "spec.template.spec.containers[0].env[0].value"
}

# In two halves, as the keys above.
drawn := [
	concat("", ["q7Zp2Kd9", "Xw4Rt8Bn1Ls6"]),
	concat("", ["wJalrXUtnFEMI", "K7MDENG3bPxRfi9CYEXAMPLEKEY"]),
	concat("", ["Tg9xQ2mVb7", "LkR4sWz1Yc8HdN3p+u5A=="]),
]

test_refuses_words_that_look_drawn_by_lot if {
	every word in drawn {
		some finding in policy.deny with input as env("SETTING", word)
		finding.path == "spec.containers[0].env[0].value"
		contains(finding.msg, "looks like a key")
		not contains(json.marshal(finding), substring(word, 0, 8))
		every argument in [word, concat("", ["--x=", word]), concat("", ["run ", word, " now"]), concat("", ["https://h.example/", word])] {
			count(policy.deny) == 1 with input as args([argument])
		}
		count(policy.deny) == 1 with input as annotated("example.com/note", word)
	}
}

test_admits_long_words_that_people_and_programs_write if {
	every value in [
		"0123456789abcdef0123456789abcdef01234567",
		"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"3F2504E0-4F89-11D3-9A0C-0305E82C3301",
		"com.example.finance.InvoiceTriageConfigurationFactory",
		"mistralai/Mixtral-8x7B-Instruct-v0.1",
		"Qwen2.5-Coder-32B-Instruct-AWQ",
		"2026-11-26T15:41:41Z",
		"INVOICE_TRIAGE_QUEUE_2026_PRODUCTION_1",
		"arn:aws:iam::123456789012:role/InvoiceTriageReader",
		"invoice-triage-7d9f8c6b5d-x2x9p",
		"aaaaaaaaaaaaaaaaaaaaA1b2c3aaaaaaaa",
	] {
		count(policy.deny) == 0 with input as env("SETTING", value)
		count(policy.deny) == 0 with input as args([value])
	}
}

test_admits_a_drawn_word_where_the_platform_says_so if {
	allowed := {"parameters": {"allowedNames": ["SETTING"], "randomLength": 20}}
	count(policy.deny) == 0 with input as object.union(env("SETTING", drawn[0]), allowed)
	count(policy.deny) == 1 with input as object.union(env("OTHER", drawn[0]), allowed)
	never := {"parameters": {"allowedNames": [], "randomLength": 0}}
	count(policy.deny) == 0 with input as object.union(env("SETTING", drawn[0]), never)
	longer := {"parameters": {"allowedNames": [], "randomLength": 30}}
	count(policy.deny) == 0 with input as object.union(env("SETTING", drawn[0]), longer)
	count(policy.deny) == 1 with input as object.union(env("SETTING", drawn[1]), longer)
}

annotated(name, value) := {
	"podPath": "spec.template",
	"pod": {"metadata": {"annotations": {name: value}}, "spec": {"containers": [{"name": "main"}]}},
	"parameters": {"allowedNames": [], "randomLength": 20},
}

test_refuses_secrets_in_annotations if {
	every key in keys {
		some finding in policy.deny with input as annotated("example.com/note", key)
		finding.path == "spec.template.metadata.annotations[example.com/note]"
		not contains(json.marshal(finding), substring(key, 0, 12))
	}
	some named in policy.deny with input as annotated("example.com/api-key", "hunter2")
	contains(named.msg, "named like a secret")
	count(policy.deny) == 1 with input as annotated("example.com/config", "{\"password\": \"hunter2\"}")
	count(policy.deny) == 1 with input as annotated("example.com/db", "postgres://app:hunter2@db/app")
	count(policy.deny) == 1 with input as annotated("checksum/password", "hunter2")
	count(policy.deny) > 0 with input as annotated("vault.hashicorp.com/agent-inject-token", keys[0])
}

test_admits_annotations_of_others if {
	digest := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	count(policy.deny) == 0 with input as annotated("checksum/secret", digest)
	count(policy.deny) == 0 with input as annotated("vault.hashicorp.com/agent-inject-secret-token", "secret/data/triage")
	applied := "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"env\":[{\"name\":\"A\",\"value\":\"b\"}]}]}}"
	count(policy.deny) == 0 with input as annotated("kubectl.kubernetes.io/last-applied-configuration", applied)
	nothing := {"podPath": "", "pod": {"metadata": {"annotations": null}, "spec": {}}, "parameters": {"allowedNames": []}}
	count(policy.deny) == 0 with input as nothing
}

test_refuses_a_flag_only_for_the_argument_right_after_it if {
	count(policy.deny) == 0 with input as args(["--token", "--verbose", "value"])
	some split in policy.deny with input as pod({"command": ["run", "--token"], "args": ["hunter2"]})
	split.path == "spec.containers[0].args[0]"
	some finding in policy.deny with input as pod({"livenessProbe": {"exec": {"command": ["login", "--api-key", "hunter2"]}}})
	finding.path == "spec.containers[0].livenessProbe.exec.command[2]"
}

# JSON escapes these, and a letter of an escape must not pass for one of the text.
test_refuses_what_json_escapes if {
	every value in [
		sprintf("first\n%s", [keys[0]]),
		sprintf("\"%s\"", [keys[0]]),
		sprintf("\\%s", [keys[0]]),
		sprintf("\t%s\u0000", [keys[0]]),
		"a\npostgres://app:hunter2@db/app",
		"a\nAPI_KEY =\nhunter2",
		sprintf("\n%s", [drawn[0]]),
	] {
		count(policy.deny) == 1 with input as env("SETTING", value)
		count(policy.deny) == 1 with input as pod({"livenessProbe": {"httpGet": {"path": value}}})
	}
	count(policy.deny) == 1 with input as args(["say \"hello\"", "--token", "hunter2"])
	count(policy.deny) == 1 with input as object.union(args(["\\"]), {"pod": {"metadata": {"annotations": {"token": "hunter2"}}}})
	hook := {"command": ["\\"], "lifecycle": {"postStart": {"httpGet": {"httpHeaders": [{"name": "X-Token", "value": "hunter2"}]}}}}
	count(policy.deny) == 1 with input as pod(hook)
}

# As Airflow's KubernetesExecutor passes it.
airflow(engines, workload) := {
	"podPath": "",
	"pod": {"spec": {"containers": [{"args": [
		"python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", json.marshal(workload),
	]}]}},
	"parameters": {"allowedNames": [], "randomLength": 20, "taskTokens": engines},
}

web_token := concat(".", ["eyJhbGciOiJIUzUxMiJ9", "eyJzdWIiOiIwMWEyMWIwMCJ9", "c2lnbmF0dXJl"])

test_admits_a_task_token_of_airflow_where_the_platform_says_so if {
	workload := {"token": web_token, "ti": {"task_id": "collect", "try_number": 1}, "dag_rel_path": "dag.py"}
	count(policy.deny) == 0 with input as airflow(["airflow"], workload)
}

test_denies_a_task_token_elsewhere if {
	every engines in [[], ["argo"]] {
		some finding in policy.deny with input as airflow(engines, {"token": web_token})
		finding.path == "spec.containers[0].args[4]"
		contains(finding.fix, "taskTokens: [airflow]")
	}
}

test_denies_what_else_is_in_a_task if {
	every workload in [
		{"token": web_token, "executor_config": {"key": web_token}},
		{"token": web_token, "password": "hunter2hunter2"},
		{"token": "hunter2hunter2"},
	] {
		count(policy.deny) == 1 with input as airflow(["airflow"], workload)
	}
}
