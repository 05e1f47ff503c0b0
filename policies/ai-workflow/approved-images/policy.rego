# METADATA
# title: Approved images
# description: >-
#   Every image that a pod runs or mounts comes from a repository that both its AIWorkflow (spec.images) and the class of the
#   namespace (spec.images.allowed) name, or that the class names as injected (spec.images.injected). `*` is one segment of the
#   path, `**` any number; tag and digest do not count, but where the class asks for digests (spec.images.requireDigest) every
#   image has one.
# custom:
#   name: approved-images
#   severity: high
#   remediation: Use an image from a repository of the AIWorkflow's spec.images, or add its repository there.
#   scope: pod
#   controls: [NIST-800-53-CM-11, NIST-800-190-4.1.5, CIS-Kubernetes-5.5.1]
package ringfence.approved_images

deny contains finding if {
	not has_spec
	finding := {"path": at("spec"), "msg": "the pod has no spec that can be judged", "fix": "give the pod a spec"}
}

deny contains finding if {
	some reference, name in repositories
	name == ""
	some image in of_reference(reference)
	finding := {
		"path": place(image),
		"msg": "the image is missing, or is no reference that every container runtime reads alike",
		"fix": "write it in full and in lower case, such as registry.example.com/team/name:tag",
	}
}

deny contains finding if {
	not is_open(declared)
	some reference, name in judged
	name != ""
	not allowed(name, workflow_patterns)
	some image in of_reference(reference)
	finding := {
		"path": place(image),
		"value": reference,
		"msg": sprintf("no pattern of %s allows %s", [workflow, name]),
		"fix": fix(declared, name, "spec.images of the AIWorkflow"),
	}
}

deny contains finding if {
	not is_open(class_images)
	some reference, name in judged
	name != ""
	not allowed(name, class_patterns)
	some image in of_reference(reference)
	finding := {
		"path": place(image),
		"value": reference,
		"msg": sprintf("no pattern of %s allows %s", [class, name]),
		"fix": fix(class_images, name, "spec.images.allowed of the class, which is the platform team's"),
	}
}

deny contains finding if {
	digest_required
	some reference, name in repositories
	name != ""
	not regex.match(`@sha256:[0-9a-f]{64}$`, reference)
	some image in of_reference(reference)
	finding := {
		"path": place(image),
		"value": reference,
		"msg": sprintf("%s does not end in a digest, and %s (spec.images.requireDigest) wants one: a tag can be moved", [reference, class]),
		"fix": sprintf("write it as %s@sha256:<64 hexadecimal digits>", [name]),
	}
}

# A list in a field that is newer than this policy: nobody has said that its images may run.
deny contains finding if {
	some field, entries in input.pod.spec
	is_array(entries)
	not field in ["initContainers", "containers", "ephemeralContainers", "volumes"]
	entries[_].image
	finding := {
		"path": at(concat(".", ["spec", field])),
		"msg": "the field holds images, and is unknown to this policy",
		"fix": "remove the field, or ask the platform team for a newer policy",
	}
}

images := array.concat(
	[{"list": list, "index": i, "reference": object.get(container, "image", "")} |
		some list in ["initContainers", "containers", "ephemeralContainers"]
		some i, container in input.pod.spec[list]
	],
	[{"list": "volumes", "index": i, "reference": object.get(volume.image, "reference", "")} |
		some i, volume in input.pod.spec.volumes
		volume.image
	],
)

of_reference(reference) := [image | some image in images; image.reference == reference]

place(image) := at(sprintf("spec.volumes[%v].image.reference", [image.index])) if image.list == "volumes"

place(image) := at(sprintf("spec.%s[%v].image", [image.list, image.index])) if image.list != "volumes"

# Each reference is read once, however many containers share it.
repositories := {reference: repository(reference) | some reference in {image.reference | some image in images}}

# What the class does not name as injected.
judged := repositories if injected_images == []

judged := {reference: name |
	some reference, name in repositories
	not is_open(injected_images)
	not allowed(name, injected_patterns)
} if {
	injected_images != []
}

# Registry and path in full, neither tag nor digest. "" for what is outside the grammar of references: upper case, `..`,
# look-alike letters, image IDs. The fence reads references in the same way, and a test compares the two.
repository(reference) := name if {
	is_string(reference)
	groups := regex.find_all_string_submatch_n(grammar, reference, 1)[0]
	groups[1] == ""
	name := full(groups)
	count(name) <= 255
} else := ""

# Written out, because what is put together is put together for every request. An image ID; one word, which is of Docker's library; a
# path of Docker Hub; an address or a name with a path; a path of Docker Hub whose first part has no dot. Behind them tag and digest.
grammar := concat("", [
	`^(?:(sha(?:256|384|512):[0-9a-fA-F]+|[0-9a-f]{64,}(?::[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?)|(?:`,
	`(?:(?:index\.)?docker\.io/)?([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)`,
	`|(?:index\.)?docker\.io/([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+)`,
	`|(?:(\[[0-9a-f:]+\](?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?)`,
	`|((?:localhost|[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)+)(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?`,
	`|[a-z0-9](?:[-a-z0-9]*[a-z0-9])?:(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])))`,
	`/([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)`,
	`|([a-z0-9]+(?:(?:_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+)`,
	`)(?::[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?)(?:@(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}))?$`,
])

full(groups) := concat("/", [groups[5], groups[6]]) if {
	groups[5] != ""
} else := concat("/", ["docker.io/library", groups[2]]) if {
	groups[2] != ""
} else := concat("/", [groups[4], groups[6]]) if {
	groups[4] != ""
	net.cidr_is_valid(sprintf("%s/128", [trim_prefix(split(groups[4], "]")[0], "[")]))
} else := concat("", ["docker.io/", groups[3], groups[7]]) if {
	groups[4] == ""
}

is_open(patterns) if patterns[_] == "**"

# No pattern allows nothing. Names hold no wildcard, so only patterns with one before their end need an expression.
allowed(name, patterns) if {
	patterns.names[name]
} else if {
	patterns.below != []
	strings.any_prefix_match(concat("", [name, "/"]), patterns.below)
} else if {
	some pattern in patterns.others
	regex.match(pattern, concat("", ["/", name]))
}

# As they are, without the `**` at the end, and as expressions.
patterns_of(list) := {
	"names": {pattern | some pattern in list},
	"below": [trim_suffix(pattern, "**") |
		some pattern in list
		is_string(pattern)
		endswith(pattern, "/**")
	],
	"others": [expression(pattern) |
		some pattern in list
		is_string(pattern)
		contains(trim_suffix(pattern, "/**"), "*")
		regex.match(pattern_grammar, pattern)
	],
}

pattern_grammar := sprintf(`^(?:%s)(?:/(?:%s))*$`, [piece, piece])

piece := `\*\*?|[a-z0-9](?:[-._:a-z0-9]*[a-z0-9])?|\[[0-9a-f:]+\](?::[0-9]+)?`

expression(pattern) := sprintf("^%s$", [concat("", [as_expression(segment) | some segment in split(pattern, "/")])])

as_expression(segment) := "(/[^/]+)*" if segment == "**"

as_expression(segment) := "/[^/]+" if segment == "*"

as_expression(segment) := concat("", ["/", strings.replace_n({".": `\.`, "[": `\[`, "]": `\]`}, segment)]) if not segment in ["*", "**"]

default declared := []

declared := array.concat(input.workflow.spec.images, engine_images) if is_array(input.workflow.spec.images)

workflow_patterns := patterns_of(declared)

# What the engine brings along, as far as the class opens it.
default engine_images := []

engine_images := input.engine.images if is_array(input.engine.images)

default class_images := []

class_images := input.class.spec.images.allowed if is_array(input.class.spec.images.allowed)

class_patterns := patterns_of(class_images)

# What the platform's webhooks put into pods.
default injected_images := []

injected_images := input.class.spec.images.injected if is_array(input.class.spec.images.injected)

injected_patterns := patterns_of(injected_images)

# Anything but a plain no asks for digests.
digest_required if input.class.spec.images.requireDigest != false

default workflow := "the AIWorkflow (there is none)"

workflow := sprintf("AIWorkflow %s", [input.workflow.metadata.name])

default class := "the class (there is none)"

class := sprintf("AIWorkflowClass %s", [input.class.metadata.name])

fix(patterns, name, field) := sprintf("add %s to %s", [name, field]) if count(patterns) == 0

fix(patterns, name, field) := sprintf("use an image of %s, or add %s to %s", [listed, name, field]) if {
	count(patterns) > 0
	listed := concat(" or ", array.slice(patterns, 0, 3))
}

# A rule, because `not` of a call with a missing argument is neither true nor false.
has_spec if is_object(input.pod.spec)

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
