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
	some image in images
	image.repository == ""
	finding := {
		"path": image.path,
		"msg": "the image is missing, or is no reference that every container runtime reads alike",
		"fix": "write it in full and in lower case, such as registry.example.com/team/name:tag",
	}
}

deny contains finding if {
	some image in images
	image.repository != ""
	not allowed(image.repository, injected_patterns)
	not allowed(image.repository, workflow_patterns)
	finding := {
		"path": image.path,
		"value": image.reference,
		"msg": sprintf("no pattern of %s allows %s", [workflow, image.repository]),
		"fix": fix(workflow_patterns, image.repository, "spec.images of the AIWorkflow"),
	}
}

deny contains finding if {
	some image in images
	image.repository != ""
	not allowed(image.repository, injected_patterns)
	not allowed(image.repository, class_patterns)
	finding := {
		"path": image.path,
		"value": image.reference,
		"msg": sprintf("no pattern of %s allows %s", [class, image.repository]),
		"fix": fix(class_patterns, image.repository, "spec.images.allowed of the class, which is the platform team's"),
	}
}

deny contains finding if {
	digest_required
	some image in images
	image.repository != ""
	not regex.match(`@sha256:[0-9a-f]{64}$`, image.reference)
	finding := {
		"path": image.path,
		"value": image.reference,
		"msg": sprintf("%s does not end in a digest, and %s (spec.images.requireDigest) wants one: a tag can be moved", [image.reference, class]),
		"fix": sprintf("write it as %s@sha256:<64 hexadecimal digits>", [image.repository]),
	}
}

# A list in a field that is newer than this policy: nobody has said that its images may run.
deny contains finding if {
	some field, entries in input.pod.spec
	not field in ["initContainers", "containers", "ephemeralContainers", "volumes"]
	is_array(entries)
	some entry in entries
	entry.image
	finding := {
		"path": at(concat(".", ["spec", field])),
		"msg": "the field holds images, and is unknown to this policy",
		"fix": "remove the field, or ask the platform team for a newer policy",
	}
}

images := [{"path": reference.path, "reference": reference.text, "repository": repository(reference.text)} |
	some reference in array.concat(container_images, volume_images)
]

container_images := [{"path": path, "text": object.get(container, "image", "")} |
	some kind in ["initContainers", "containers", "ephemeralContainers"]
	some i, container in input.pod.spec[kind]
	path := at(sprintf("spec.%s[%v].image", [kind, i]))
]

volume_images := [{"path": path, "text": object.get(volume.image, "reference", "")} |
	some i, volume in input.pod.spec.volumes
	volume.image
	path := at(sprintf("spec.volumes[%v].image.reference", [i]))
]

# Registry and path in full, neither tag nor digest. "" for what is outside the grammar of references: upper case, `..`,
# look-alike letters, image IDs. The fence reads references in the same way, and a test compares the two.
repository(reference) := name if {
	is_reference(reference)
	name := full_name(reference)
	count(name) <= 255
}

repository(reference) := "" if not is_reference(reference)

repository(reference) := "" if {
	is_reference(reference)
	count(full_name(reference)) > 255
}

full_name(reference) := full(array.concat(array.slice(segments, 0, last), [split(segments[last], ":")[0]])) if {
	segments := split(split(reference, "@")[0], "/")
	last := count(segments) - 1
}

is_reference(reference) if {
	is_string(reference)
	count(reference) <= 600
	[name, digests] := [split(reference, "@")[0], array.slice(split(reference, "@"), 1, 9)]
	is_name(name, split(name, "/"))
	count(digests) < 2
	every digest in digests {
		regex.match(`^(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})$`, digest)
	}
	not regex.match(`^([0-9a-f]{64,}(:.*)?|sha(256|384|512):[0-9a-fA-F]+)$`, name)
}

is_name(name, segments) if {
	not has_registry(segments)
	regex.match(path_and_tag, name)
}

is_name(_, segments) if {
	has_registry(segments)
	is_host(segments[0])
	regex.match(path_and_tag, concat("/", array.slice(segments, 1, count(segments))))
}

has_registry(segments) if {
	count(segments) > 1
	is_registry(segments[0])
}

is_host(host) if regex.match(sprintf(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*%s$`, [port]), host)

is_host(host) if {
	regex.match(sprintf(`^\[[0-9a-f:]+\]%s$`, [port]), host)
	net.cidr_is_valid(sprintf("%s/128", [trim_prefix(split(host, "]")[0], "[")]))
}

port := `(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?`

path_and_tag := concat("", [
	`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`,
	`(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?$`,
])

full(segments) := concat("/", ["docker.io", "library", segments[0]]) if count(segments) == 1

full(segments) := concat("/", array.concat(["docker.io"], segments)) if {
	count(segments) > 1
	not is_registry(segments[0])
}

full(segments) := concat("/", segments) if {
	count(segments) > 1
	is_registry(segments[0])
	not is_docker(segments[0])
}

full(segments) := concat("/", ["docker.io", "library", segments[1]]) if {
	count(segments) == 2
	is_docker(segments[0])
}

full(segments) := concat("/", array.concat(["docker.io"], array.slice(segments, 1, count(segments)))) if {
	count(segments) > 2
	is_docker(segments[0])
}

is_registry(segment) if segment == "localhost"

is_registry(segment) if contains(segment, ".")

is_registry(segment) if contains(segment, ":")

is_docker(segment) if segment in ["docker.io", "index.docker.io"]

# No pattern allows nothing.
allowed(name, patterns) if {
	some pattern in patterns
	is_string(pattern)
	segments := split(pattern, "/")
	every segment in segments {
		regex.match(`^(\*\*?|[a-z0-9]([-._:a-z0-9]*[a-z0-9])?|\[[0-9a-f:]+\](:[0-9]+)?)$`, segment)
	}
	expression := concat("", [as_expression(segment) | some segment in segments])
	regex.match(sprintf("^%s$", [expression]), concat("", ["/", name]))
}

as_expression(segment) := "(/[^/]+)*" if segment == "**"

as_expression(segment) := "/[^/]+" if segment == "*"

as_expression(segment) := concat("", ["/", strings.replace_n({".": `\.`, "[": `\[`, "]": `\]`}, segment)]) if not segment in ["*", "**"]

default workflow_patterns := []

workflow_patterns := array.concat(input.workflow.spec.images, engine_patterns) if is_array(input.workflow.spec.images)

# What the engine brings along, as far as the class opens it.
default engine_patterns := []

engine_patterns := input.engine.images if is_array(input.engine.images)

default class_patterns := []

class_patterns := input.class.spec.images.allowed if is_array(input.class.spec.images.allowed)

# What the platform's webhooks put into pods.
default injected_patterns := []

injected_patterns := input.class.spec.images.injected if is_array(input.class.spec.images.injected)

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
