# METADATA
# title: No literal secrets in ConfigMaps
# description: >-
#   ConfigMaps of a fenced namespace, which far more people and programs may read than its Secrets, hold no keys, tokens or passwords:
#   found as in pods (see no-literal-secrets), by what keys look like in data, binaryData and annotations, by names, by assignments in
#   the documents that they hold, and by values that are one word drawn by lot. In a document what reads a secret from elsewhere is
#   none (`os.environ[…]`, `${TOKEN}`, `{{ … }}`). Keys of `allowedKeys` may be named as they are. Findings name the place and the
#   length, never the value. An update that leaves data as it was is not judged.
# custom:
#   name: no-literal-secrets-in-configmaps
#   severity: critical
#   remediation: Put the value into a Secret, and replace the value that was sent, because it has been seen.
#   scope: object
#   match:
#     resourceRules:
#     - apiGroups: [""]
#       apiVersions: [v1]
#       resources: [configmaps]
#       operations: [CREATE, UPDATE]
#     namespaceSelector:
#       matchExpressions: [{key: ringfence.dev/enforce, operator: Exists}]
#   controls: [CIS-Kubernetes-5.4.1, NIST-800-53-IA-5, NSA-CISA-Kubernetes-Hardening, OWASP-K08, MITRE-ATLAS-AML.T0055]
#   parameters:
#     allowedKeys: []
#     randomLength: 20
package ringfence.no_literal_secrets_in_configmaps

deny contains finding if {
	not is_object(object.get(input, ["request", "object"], null))
	finding := {"msg": "there is no ConfigMap that can be judged", "fix": "send a ConfigMap"}
}

# What a key looks like, wherever it stands.
deny contains finding if {
	regex.match(shape, everything)
	some item in items
	regex.match(shape, item.text)
	finding := {"path": item.path, "value": hidden(item.text), "msg": sprintf("holds %s", [described(item.text)])}
}

deny contains finding if {
	contains(everything, "://")
	contains(everything, "@")
	some item in items
	not regex.match(shape, item.text)
	regex.match(`://[^\s/:@?#]*:[^\s/@?#]+@`, without_references(item.text))
	finding := {"path": item.path, "value": hidden(item.text), "msg": "holds a URL with a password"}
}

deny contains finding if {
	regex.match(secret_names, names)
	some item in judged
	regex.match(secret_name, item.name)
	not regex.match(shape, item.text)
	not harmless(without_references(item.text))
	finding := {
		"path": item.path,
		"value": hidden(item.text),
		"msg": sprintf("%s is named like a secret and holds a literal value", [item.name]),
	}
}

deny contains finding if {
	regex.match(assignment, everything)
	some item in judged
	not regex.match(secret_name, item.name)
	regex.match(assignment, item.text)
	not regex.match(shape, item.text)
	some groups in regex.find_all_string_submatch_n(assignment, without_references(item.text), -1)
	value := groups[count(groups) - 1]
	not harmless(value)
	not is_read_elsewhere(groups[0], value)
	not amount(groups[0], value)
	finding := {"path": item.path, "value": hidden(item.text), "msg": "assigns a literal value to a name of a secret"}
}

deny contains finding if {
	long_word != ""
	regex.match(long_word, everything)
	some item in judged
	not regex.match(secret_name, item.name)
	not regex.match(shape, item.text)
	regex.match(`^\s*\S+\s*$`, item.text)
	some word in regex.find_n(long_word, without_references(item.text), -1)
	is_random(word)
	finding := {
		"path": item.path,
		"value": hidden(item.text),
		"msg": "holds a long word of letters and digits that looks like a key",
		"fix": "put the value into a Secret; if it is none, name the key in parameter allowedKeys",
	}
}

items := array.concat(array.concat(written, decoded), annotations)

written := [{"path": sprintf("data[%s]", [name]), "name": name, "text": text} |
	not is_unchanged(["data"])
	some name
	text := input.request.object.data[name]
]

decoded := [{"path": sprintf("binaryData[%s]", [name]), "name": name, "text": base64.decode(bytes)} |
	not is_unchanged(["binaryData"])
	some name
	bytes := input.request.object.binaryData[name]
]

# kubectl's own copy of what is judged here is left out.
annotations := [{"path": sprintf("metadata.annotations[%s]", [name]), "name": name, "text": text} |
	not is_unchanged(["metadata", "annotations"])
	some name
	text := input.request.object.metadata.annotations[name]
	name != "kubectl.kubernetes.io/last-applied-configuration"
]

judged := [item | some item in items; not item.name in allowed_keys]

default allowed_keys := []

allowed_keys := input.parameters.allowedKeys

# One look at everything tells most ConfigMaps from the few that need a closer one.
everything := concat("\n", [item.text | some item in items])

names := concat("\n", [item.name | some item in items])

# A ConfigMap of before may still be labelled, annotated and deleted.
is_unchanged(field) if {
	input.request.operation == "UPDATE"
	is_object(input.request.oldObject)
	object.get(input.request.oldObject, field, null) == object.get(input.request.object, field, null)
}

# The same as in no-literal-secrets, and a test compares the two.
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

# Each shape stands alone, so that task-force-… is no key of the kind sk-….
shape := sprintf("(?:^|[^A-Za-z0-9])(?:%s)", [concat("|", [pattern | some pattern in shapes])])

described(text) := concat(" and ", sort([name |
	some name, pattern in shapes
	regex.match(sprintf("(?:^|[^A-Za-z0-9])(?:%s)", [pattern]), text)
]))

words := `pass(?:word|wd|phrase)|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|auth[-_.]?key|secret[-_.]?key|account[-_.]?key|encryption[-_.]?key|signing[-_.]?key`

secret_name := concat("", ["(?i)", ends_secret])

secret_names := concat("", ["(?im)", ends_secret])

ends_secret := sprintf(`(?:%s|(?:^|_)pwd|(?:^|_)pass)(?:[-_.]?[0-9]+)?$`, [words])

# Within a line: what stands below a name is another value.
assignment := sprintf(`(?i)(?:^|[\s;&|"',{?-])[a-z0-9_.-]*(?:%s)["']?[ \t]*[=:][ \t]*["']?([^\s"',;&}]*)`, [words])

default long_word := ""

long_word := sprintf("[A-Za-z0-9+]{%d,}", [input.parameters.randomLength]) if input.parameters.randomLength > 0

# Digests are of one case, and names of many words have their digits in one or two places.
is_random(word) if {
	regex.match("[0-9][^0-9]+[0-9][^0-9]+[0-9]", word)
	regex.match("[a-z]", word)
	regex.match("[A-Z]", word)
	count({character | some character in split(word, "")}) >= 12
}

# What is left of the value once its references are gone is nothing, a switch or the path of a file.
harmless(text) if regex.match(`^\s*(?i:true|false|none|null|~|/[A-Za-z0-9._/-]+/[A-Za-z0-9._-]+)?\s*$`, text)

# A call, an element, a field of something, a template, the start of a block; in code an argument by its own name.
is_read_elsewhere(_, value) if {
	regex.match(`^(?:[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*[(\[].*|[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+\)?|\{\{.*|[|>][-+]?|[\[{(=])$`, value)
}

is_read_elsewhere(assigned, value) if contains(assigned, concat("=", [value, value]))

# --max-token=256 counts tokens; no password is called that.
amount(name, value) if {
	regex.match(`^[0-9]{1,6}$`, value)
	not regex.match(`(?i)pass|secret|key`, name)
}

without_references(text) := regex.replace(text, `\$(?:\([^()]*\)|\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z_][A-Za-z0-9_]*)`, "")

# The length and nothing else: the first letters alone make a guess cheaper.
hidden(text) := sprintf("(hidden, %d characters)", [count(text)])
