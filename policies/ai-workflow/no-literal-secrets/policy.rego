# METADATA
# title: No literal secrets
# description: >-
#   Environment values, arguments, commands, probes, hooks and annotations hold no keys, tokens or passwords: whoever may read a pod
#   could read them, and they stay in history and backups. They belong into a Secret. Found by what keys look like, by names, and by
#   words that look drawn by lot: letters of both cases mixed with digits, from `randomLength` characters on (0 is never). Findings
#   name the place and the length, never the value. Airflow's KubernetesExecutor hands each task its own short-lived token as an argument:
#   `taskTokens: [airflow]` admits that one.
# custom:
#   name: no-literal-secrets
#   severity: critical
#   remediation: >-
#     Put the value into a Secret, refer to it with env[].valueFrom.secretKeyRef or a mounted file, and replace the value that
#     was sent: it has been seen.
#   scope: pod
#   controls: [CIS-Kubernetes-5.4.1, NIST-800-53-IA-5, NSA-CISA-Kubernetes-Hardening, OWASP-K08, MITRE-ATLAS-AML.T0055]
#   parameters:
#     allowedNames: []
#     randomLength: 20
#     taskTokens: []
package ringfence.no_literal_secrets

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

# What a key looks like, wherever it stands.
deny contains finding if {
	regex.match(shape, everything)
	some item in items
	regex.match(shape, item.text)
	finding := object.union(
		{
			"path": place(item),
			"value": hidden(item.text),
			"msg": sprintf("holds %s", [described(item.text)]),
		},
		advice(item),
	)
}

# A password in a URL. References such as $(DB_PASSWORD) are taken out first: they are how it should be done.
deny contains finding if {
	contains(everything, "://")
	contains(everything, "@")
	some item in items
	contains(item.text, "://")
	not regex.match(shape, item.text)
	regex.match(`://[^\s/:@?#]*:[^\s/@?#]+@`, without_references(item))
	finding := {"path": place(item), "value": hidden(item.text), "msg": "holds a URL with a password"}
}

# A name that promises a secret, and a value that is one.
deny contains finding if {
	regex.match(secret_names, names)
	some item in items
	regex.match(secret_name, item.of.name)
	not item.of.name in allowed_names
	not regex.match(shape, item.text)
	not harmless(without_references(item))
	not is_of_others(item)
	finding := {
		"path": place(item),
		"value": hidden(item.text),
		"msg": sprintf("%s is named like a secret and holds a literal value", [item.of.name]),
	}
}

# --api-key=…, API_KEY=… in a script, "password": "…" in a document.
deny contains finding if {
	regex.match(assignment, everything)
	some item in items
	regex.match(assignment, item.text)
	not regex.match(shape, item.text)
	some groups in regex.find_all_string_submatch_n(assignment, without_references(item), -1)
	value := groups[count(groups) - 1]
	not harmless(value)
	not amount(groups[0], value)
	finding := {"path": place(item), "value": hidden(item.text), "msg": "assigns a literal value to a name of a secret"}
}

# --api-key and, in the argument after it, the key.
deny contains finding if {
	regex.match(secret_flags, everything)
	some flag in items
	flag.script
	regex.match(secret_flag, flag.text)
	some next in behind(flag)
	item := by_place[next]
	not startswith(item.text, "-")
	not regex.match(shape, item.text)
	not harmless(without_references(item))
	finding := {
		"path": place(item),
		"value": hidden(item.text),
		"msg": "passes a literal value to a flag that takes a secret",
	}
}

# A word that nobody would write: what a generator of keys makes, whoever's it is.
deny contains finding if {
	long_word != ""
	regex.match(long_word, everything)
	some item in items
	not is_named(item)
	not regex.match(shape, item.text)
	some word in regex.find_n(long_word, without_references(item), -1)
	is_random(word)
	finding := {
		"path": place(item),
		"value": hidden(item.text),
		"msg": "holds a long word of letters and digits that looks like a key",
		"fix": sprintf("%s; if it is none, name the variable in parameter allowedNames", [instead]),
	}
}

# By its name it is allowed, or judged already, or kubectl's own copy of what is judged here.
is_named(item) if item.of.name in allowed_names

is_named(item) if regex.match(secret_name, item.of.name)

is_named(item) if item.of.name == "kubectl.kubernetes.io/last-applied-configuration"

instead := "put the value into a Secret and refer to it"

default allowed_names := []

allowed_names := input.parameters.allowedNames

# One look at everything tells most pods from the few that need a closer one: as JSON, which is written in one step, and holds each text
# between quotes. One that it had to escape is looked at as it is.
everything := json_text if not contains(json_text, `\`)

everything := concat("", [`"`, concat("\"\n\"", [item.text | some item in items]), `"`]) if contains(json_text, `\`)

json_text := json.marshal([
	[object.filter(container, speaking) | some container in containers; is_object(container)],
	object.get(input.pod, ["metadata", "annotations"], null),
])

# The others have names and digests that are long words.
speaking := ["args", "command", "env", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe"]

names := concat("\n", array.concat(
	[variable.name | some container in containers; some variable in container.env; variable.value],
	array.concat([item.of.name | some item in annotations], [item.of.name | contains(json_text, "httpHeaders"); some item in headers]),
))

containers := [container | some kind in kinds; some container in input.pod.spec[kind]]

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

secret_name := concat("", ["(?i)", ends_secret])

secret_names := concat("", ["(?im)", ends_secret])

ends_secret := sprintf(`(?:%s|(?:^|_)pwd|(?:^|_)pass)(?:[-_.]?[0-9]+)?$`, [words])

secret_flag := sprintf(`(?i)^%s$`, [flag_of_secret])

secret_flags := sprintf(`(?i)"%s"`, [flag_of_secret])

flag_of_secret := sprintf(`--?[a-z0-9_.-]*(?:%s)`, [words])

assignment := sprintf(`(?i)(?:^|[\s;&|"',{?-])[a-z0-9_.-]*(?:%s)["']?\s*[=:]\s*["']?([^\s"',;&}]*)`, [words])

default long_word := ""

long_word := sprintf("[A-Za-z0-9+]{%d,}", [input.parameters.randomLength]) if input.parameters.randomLength > 0

# Digests are of one case, and names of many words have their digits in one or two places.
is_random(word) if {
	regex.match("[0-9][^0-9]+[0-9][^0-9]+[0-9]", word)
	regex.match("[a-z]", word)
	regex.match("[A-Z]", word)
	count({character | some character in split(word, "")}) >= 12
}

# Airflow's executor knows no other way: whoever may read pods can use that token until it ends, for that task.
advice(item) := {"fix": concat("", [
	"if this is Airflow's KubernetesExecutor, which passes each task its own short-lived token, ask the platform team for parameter ",
	"taskTokens: [airflow] of this policy, or make the pod with KubernetesPodOperator; else put the value into a Secret and replace it",
])} if {
	is_task(item)
}

advice(item) := {} if not is_task(item)

is_task(item) if {
	[kind, i, field, j] := item.at
	field == "args"
	is_workload(input.pod.spec[kind][i].args, j)
}

is_workload(list, j) if {
	"airflow.sdk.execution_time.execute_workload" in list
	list[j - 1] == "--json-string"
}

# All but the token is judged as any other text.
judged("args", list, j) := json.marshal(object.remove(workload(list, j), {"token"})) if has_task_token(list, j)

judged("args", list, j) := list[j] if not has_task_token(list, j)

judged("command", list, j) := list[j]

has_task_token(list, j) if {
	"airflow" in input.parameters.taskTokens
	is_workload(list, j)
	regex.match(`^eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`, workload(list, j).token)
}

workload(list, j) := json.unmarshal(list[j]) if json.is_valid(list[j])

# What is left of the value once its references are gone is nothing, a switch or the path of a file.
harmless(text) if regex.match(`^\s*(?i:true|false|none|null|/[A-Za-z0-9._/-]+/[A-Za-z0-9._-]+)?\s*$`, text)

# Annotations that hold a digest, or tell an injector where secrets are.
is_of_others(item) if {
	item.form == annotation
	regex.match("^[0-9a-f]{32,128}$", item.text)
}

is_of_others(item) if {
	item.form == annotation
	startswith(item.of.name, "vault.hashicorp.com/")
}

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

kinds := ["initContainers", "containers", "ephemeralContainers"]

# Where each text stands is written out for findings alone.
place(item) := at(sprintf(item.form, item.at))

by_place := {[item.form, item.at]: item | some item in items; item.script}

# The next text; and what is run is the command with the arguments behind it.
behind(flag) := {[flag.form, next], [flag.form, after_command(flag)]} if {
	last := count(flag.at) - 1
	next := array.concat(array.slice(flag.at, 0, last), [flag.at[last] + 1])
}

default after_command(_) := []

after_command(flag) := [kind, i, "args", 0] if {
	[kind, i, field, last] := flag.at
	field == "command"
	count(input.pod.spec[kind][i].command) == last + 1
}

items := array.concat(array.concat(environment, arguments), array.concat(annotations, of_handlers))

environment := [{"form": "spec.%s[%v].env[%v].value", "at": [kind, i, j], "of": variable, "text": variable.value} |
	some kind in kinds
	some i, container in input.pod.spec[kind]
	some j, variable in container.env
	variable.value
]

arguments := [{"form": "spec.%s[%v].%s[%v]", "at": [kind, i, field, j], "text": judged(field, container[field], j), "script": true} |
	some kind in kinds
	some i, container in input.pod.spec[kind]
	some field in ["command", "args"]
	some j, _ in container[field]
]

annotation := "metadata.annotations[%s]"

annotations := [{"form": annotation, "at": [name], "of": {"name": name}, "text": text} |
	some name
	text := input.pod.metadata.annotations[name]
]

of_handlers := array.concat(commands, array.concat(headers, paths))

handlers := array.concat(probes, hooks)

probes := [{"kind": kind, "index": i, "name": name, "handler": handler} |
	some kind in kinds
	some i, container in input.pod.spec[kind]
	some name in ["livenessProbe", "readinessProbe", "startupProbe"]
	handler := container[name]
]

hooks := [{"kind": kind, "index": i, "name": concat(".", ["lifecycle", name]), "handler": handler} |
	some kind in kinds
	some i, container in input.pod.spec[kind]
	some name, handler in container.lifecycle
]

commands := [{"form": "spec.%s[%v].%s.exec.command[%v]", "at": [holder.kind, holder.index, holder.name, i], "text": text, "script": true} |
	some holder in handlers
	some i, text in holder.handler.exec.command
]

headers := [{"form": "spec.%s[%v].%s.httpGet.httpHeaders[%v].value", "at": [holder.kind, holder.index, holder.name, i], "of": header, "text": header.value} |
	some holder in handlers
	some i, header in holder.handler.httpGet.httpHeaders
	header.value
]

paths := [{"form": "spec.%s[%v].%s.httpGet.path", "at": [holder.kind, holder.index, holder.name], "text": text} |
	some holder in handlers
	text := holder.handler.httpGet.path
]

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
