package ringfence.no_literal_secrets_test

import data.ringfence.no_literal_secrets as policy

pod(container) := {"podPath": "", "pod": {"spec": {"containers": [container]}}, "parameters": {"allowedNames": []}}

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
	count(policy.deny) == 0 with input as {"podPath": "", "pod": {"spec": {}}, "parameters": {"allowedNames": []}}
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
		some finding in policy.deny with input as {"podPath": "", "pod": {"spec": spec}, "parameters": {"allowedNames": []}}
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
	some finding in policy.deny with input as object.union(template, {"parameters": {"allowedNames": []}})
	finding.path == "spec.template.spec.containers[0].env[0].value"
}
