# METADATA
# title: No literal secrets
# description: >-
#   Environment values, arguments, commands, probes and hooks hold no keys, tokens or passwords: whoever may read a pod could
#   read them, and they stay in history and backups. They belong into a Secret. Findings name the place and the length,
#   never the value.
# custom:
#   name: no-literal-secrets
#   severity: critical
#   remediation: >-
#     Put the value into a Secret, refer to it with env[].valueFrom.secretKeyRef or a mounted file, and replace the value that
#     was sent: it has been seen.
#   scope: pod
#   controls: [CIS-Kubernetes-5.4.1, NIST-800-53-IA-5, OWASP-K08]
#   parameters:
#     allowedNames: []
package ringfence.no_literal_secrets

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

# What a key looks like, wherever it stands.
deny contains finding if {
	suspicious
	some item in items
	regex.match(shape, item.text)
	finding := {
		"path": item.path,
		"value": hidden(item.text),
		"msg": sprintf("holds %s", [described(item.text)]),
	}
}

# A password in a URL. References such as $(DB_PASSWORD) are taken out first: they are how it should be done.
deny contains finding if {
	some item in items
	contains(item.text, "://")
	not regex.match(shape, item.text)
	regex.match(`://[^\s/:@?#]*:[^\s/@?#]+@`, without_references(item))
	finding := {"path": item.path, "value": hidden(item.text), "msg": "holds a URL with a password"}
}

# A name that promises a secret, and a value that is one.
deny contains finding if {
	some item in items
	item.name
	regex.match(secret_name, item.name)
	not item.name in allowed_names
	not regex.match(shape, item.text)
	not harmless(without_references(item))
	finding := {
		"path": item.path,
		"value": hidden(item.text),
		"msg": sprintf("%s is named like a secret and holds a literal value", [item.name]),
	}
}

# --api-key=…, API_KEY=… in a script, "password": "…" in a document.
deny contains finding if {
	some item in items
	regex.match(assignment, item.text)
	not regex.match(shape, item.text)
	some groups in regex.find_all_string_submatch_n(assignment, without_references(item), 64)
	value := groups[count(groups) - 1]
	not harmless(value)
	not amount(groups[0], value)
	finding := {"path": item.path, "value": hidden(item.text), "msg": "assigns a literal value to a name of a secret"}
}

# --api-key and, in the argument after it, the key.
deny contains finding if {
	some container in containers
	some field in ["command", "args"]
	some i, flag in container.container[field]
	regex.match(secret_flag, flag)
	value := container.container[field][i + 1]
	not startswith(value, "-")
	item := {"text": value, "script": true}
	not regex.match(shape, value)
	not harmless(without_references(item))
	finding := {
		"path": sprintf("%s.%s[%d]", [container.path, field, i + 1]),
		"value": hidden(value),
		"msg": "passes a literal value to a flag that takes a secret",
	}
}

default allowed_names := []

allowed_names := input.parameters.allowedNames

# One look at everything tells most pods from the few that need a closer one.
suspicious if regex.match(shape, concat("\n", [item.text | some item in items]))

# Each shape stands alone, so that task-force-… is no key of the kind sk-….
shape := sprintf("(?:^|[^A-Za-z0-9])(?:%s)", [concat("|", [pattern | some pattern in shapes])])

shapes := {
	"an AWS access key": `A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}`,
	"a GitHub token": `(?:gh[pousr]_[A-Za-z0-9]{30}|github_pat_[A-Za-z0-9_]{22})`,
	"a GitLab token": `gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{20}`,
	"a Slack token": `(?:xox[a-z]-[A-Za-z0-9-]{10}|xapp-[0-9]-[A-Za-z0-9-]{10}|hooks\.slack\.com/services/T[A-Z0-9]+/B)`,
	"an API key of a model provider": `(?:sk-(?:proj|ant|svcacct|admin|or|lf|None)-[A-Za-z0-9_-]{16}|sk-[A-Za-z0-9]{20}|gsk_[A-Za-z0-9]{30}|xai-[A-Za-z0-9]{30}|hf_[A-Za-z0-9]{30}|r8_[A-Za-z0-9]{30}|pcsk_[A-Za-z0-9_]{20}|lsv2_(?:pt|sk)_[a-z0-9]{20})`,
	"a Stripe key": `[rs]k_(?:live|test)_[A-Za-z0-9]{10}`,
	"a Google key": `(?:AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{20}|ya29\.[A-Za-z0-9_-]{20})`,
	"an Azure storage key": `AccountKey=[A-Za-z0-9+/]{40}`,
	"a Databricks token": `dapi[0-9a-f]{32}`,
	"a registry or package token": `(?:npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{20}|dckr_pat_[A-Za-z0-9_-]{20})`,
	"a Vault token": `hv[sbr]\.[A-Za-z0-9_-]{20}`,
	"a SendGrid key": `SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16}`,
	"a private key": `-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY`,
	"a JSON Web Token": `eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.`,
	"a bearer token": `[Bb][Ee][Aa][Rr][Ee][Rr] +[A-Za-z0-9._~+/-]{20}`,
	"a user and password in base64": `[Bb][Aa][Ss][Ii][Cc] +[A-Za-z0-9+/]{12,}={0,2}(?:[^A-Za-z0-9+/=]|$)`,
}

described(text) := concat(" and ", sort([name |
	some name, pattern in shapes
	regex.match(sprintf("(?:^|[^A-Za-z0-9])(?:%s)", [pattern]), text)
]))

words := `pass(?:word|wd|phrase)|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|auth[-_.]?key|secret[-_.]?key|account[-_.]?key|encryption[-_.]?key|signing[-_.]?key`

secret_name := sprintf(`(?i)(?:%s|(?:^|_)pwd|(?:^|_)pass)(?:[-_.]?[0-9]+)?$`, [words])

secret_flag := sprintf(`(?i)^--?[a-z0-9_.-]*(?:%s)$`, [words])

assignment := sprintf(`(?i)(?:^|[\s;&|"',{?-])[a-z0-9_.-]*(?:%s)["']?\s*[=:]\s*["']?([^\s"',;&}]*)`, [words])

# What is left of the value once its references are gone is nothing, a switch or the path of a file.
harmless(text) if regex.match(`^\s*(?i:true|false|none|null|/[A-Za-z0-9._/-]+/[A-Za-z0-9._-]+)?\s*$`, text)

# --max-token=256 counts tokens; no password is called that.
amount(name, value) if {
	regex.match(`^[0-9]{1,6}$`, value)
	not regex.match(`(?i)pass|secret|key`, name)
}

# The kubelet puts $(NAME) in place everywhere; ${NAME} and $NAME mean something to a shell only.
without_references(item) := regex.replace(item.text, `\$\([A-Za-z_][A-Za-z0-9_.-]*\)`, "") if not item.script

without_references(item) := regex.replace(
	item.text,
	`\$(?:\([^()]*\)|\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z_][A-Za-z0-9_]*)`,
	"",
) if {
	item.script
}

# The length and nothing else: the first letters alone make a guess cheaper.
hidden(text) := sprintf("(hidden, %d characters)", [count(text)])

containers := [{"path": path, "container": container} |
	some kind in ["initContainers", "containers", "ephemeralContainers"]
	some i, container in input.pod.spec[kind]
	path := at(sprintf("spec.%s[%v]", [kind, i]))
]

items := array.concat(environment, array.concat(arguments, array.concat(commands, array.concat(headers, paths))))

environment := [{"path": path, "name": object.get(variable, "name", ""), "text": variable.value, "script": false} |
	some container in containers
	some i, variable in container.container.env
	variable.value
	path := sprintf("%s.env[%v].value", [container.path, i])
]

arguments := [{"path": path, "text": argument, "script": true} |
	some container in containers
	some field in ["command", "args"]
	some i, argument in container.container[field]
	path := sprintf("%s.%s[%v]", [container.path, field, i])
]

handlers := array.concat(probes, hooks)

probes := [{"path": path, "handler": handler} |
	some container in containers
	some name in ["livenessProbe", "readinessProbe", "startupProbe"]
	handler := container.container[name]
	path := sprintf("%s.%s", [container.path, name])
]

hooks := [{"path": path, "handler": handler} |
	some container in containers
	some name, handler in container.container.lifecycle
	path := sprintf("%s.lifecycle.%s", [container.path, name])
]

commands := [{"path": path, "text": argument, "script": true} |
	some handler in handlers
	some i, argument in handler.handler.exec.command
	path := sprintf("%s.exec.command[%v]", [handler.path, i])
]

headers := [{"path": path, "name": object.get(header, "name", ""), "text": header.value, "script": false} |
	some handler in handlers
	some i, header in handler.handler.httpGet.httpHeaders
	path := sprintf("%s.httpGet.httpHeaders[%v].value", [handler.path, i])
]

paths := [{"path": path, "text": text, "script": false} |
	some handler in handlers
	text := handler.handler.httpGet.path
	path := sprintf("%s.httpGet.path", [handler.path])
]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
