package ringfence.approved_images_test

import data.ringfence.approved_images as policy

base := {
	"podPath": "",
	"workflow": {"metadata": {"name": "triage"}, "spec": {"images": ["registry.example.com/finance/**", "docker.io/library/*"]}},
	"class": {"metadata": {"name": "default"}, "spec": {"images": {"allowed": ["**"]}}},
}

pod(spec) := object.union(base, {"pod": {"spec": spec}})

one(image) := pod({"containers": [{"name": "main", "image": image}]})

declaring(patterns, image) := object.union(one(image), {"workflow": {"metadata": {"name": "t"}, "spec": {"images": patterns}}})

hex := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

test_admits_a_declared_repository if {
	every image in [
		"registry.example.com/finance/triage:1",
		"registry.example.com/finance/a/b/c",
		"registry.example.com/finance",
		concat("", ["registry.example.com/finance/triage:1@sha256:", hex]),
	] {
		count(policy.deny) == 0 with input as one(image)
	}
}

test_admits_docker_hub_in_every_spelling if {
	every image in ["python", "python:3.12", "library/python", "docker.io/python", "docker.io/library/python", "index.docker.io/python"] {
		count(policy.deny) == 0 with input as one(image)
	}
}

test_admits_a_registry_with_a_port if {
	count(policy.deny) == 0 with input as declaring(["registry:5000/a/*"], "registry:5000/a/b:1")
}

test_admits_wildcards_between_names if {
	count(policy.deny) == 0 with input as declaring(["r.example.com/**/triage"], "r.example.com/a/b/triage")
	count(policy.deny) == 0 with input as declaring(["r.example.com/*/triage"], "r.example.com/a/triage")
}

test_refuses_another_repository if {
	some finding in policy.deny with input as one("registry.example.com/marketing/triage:1")
	finding.path == "spec.containers[0].image"
	contains(finding.msg, "AIWorkflow triage")
	contains(finding.fix, "registry.example.com/finance/**")
}

test_refuses_look_alikes if {
	every image in [
		"registry.example.com.evil.example/finance/a",
		"evil.example/registry.example.com/finance/a",
		"registryxexample.com/finance/a",
		"registry.example.com/finance-evil/a",
		"registry.example.com:5000/finance/a",
		"evil/library/python",
		"localhost/library/python",
		"quay.io/library/python",
	] {
		count(policy.deny) == 1 with input as one(image)
	}
}

test_refuses_what_is_no_reference if {
	every image in [
		"",
		" ",
		"REGISTRY.example.com/finance/a",
		"registry.example.com/Finance/a",
		"registry.example.com/finance/../evil",
		"registry.example.com//finance/a",
		"registry.example.com/finance/a ",
		"registry.example.com/finance/a\n",
		"registry.example.com/finаnce/a",
		"registry.example.com@evil.example/finance/a",
		"https://registry.example.com/finance/a",
		"registry.example.com/finance/a@sha256:00",
		"sha256:0123456789abcdef",
		hex,
	] {
		some finding in policy.deny with input as one(image)
		contains(finding.msg, "no reference")
	}
}

test_refuses_missing_and_mistyped_images if {
	count(policy.deny) == 1 with input as pod({"containers": [{"name": "a"}]})
	count(policy.deny) == 1 with input as pod({"containers": [{"name": "a", "image": 3}]})
	count(policy.deny) == 1 with input as pod({"containers": [{"name": "a", "image": ["python"]}]})
}

test_refuses_in_every_kind_of_container if {
	every kind in ["initContainers", "containers", "ephemeralContainers"] {
		some finding in policy.deny with input as pod({kind: [{"image": "python"}, {"image": "evil.example/a"}]})
		finding.path == sprintf("spec.%s[1].image", [kind])
	}
}

test_refuses_an_image_volume if {
	some finding in policy.deny with input as pod({"volumes": [{"name": "a"}, {"name": "b", "image": {"reference": "evil.example/a"}}]})
	finding.path == "spec.volumes[1].image.reference"
	count(policy.deny) == 1 with input as pod({"volumes": [{"name": "b", "image": {}}]})
}

test_refuses_images_in_an_unknown_field if {
	count(policy.deny) == 1 with input as pod({"sidecars": [{"image": "python"}]})
}

test_refuses_what_the_class_does_not_allow if {
	narrow := {"class": {"metadata": {"name": "c"}, "spec": {"images": {"allowed": ["registry.example.com/**"]}}}}
	some finding in policy.deny with input as object.union(one("python"), narrow)
	contains(finding.msg, "AIWorkflowClass c")
}

test_refuses_everything_where_nothing_is_allowed if {
	count(policy.deny) == 1 with input as declaring([], "python")
	some class in [{}, {"spec": {}}, {"spec": {"images": {}}}]
	count(policy.deny) == 1 with input as object.union(object.remove(one("python"), ["class"]), {"class": class})
	count(policy.deny) == 1 with input as object.remove(one("python"), ["class"])
	count(policy.deny) == 1 with input as object.remove(one("python"), ["workflow"])
}

test_refuses_by_patterns_that_are_none if {
	every pattern in ["", "*", "python", "docker.io/library/py*", "docker.io/library/pytho.", "docker.io/library/(python)", "***", ".*", "docker.io/library/[a-z]"] {
		count(policy.deny) == 1 with input as declaring([pattern], "python")
	}
}

test_refuses_one_segment_where_many_are_given if {
	count(policy.deny) == 1 with input as declaring(["r.example.com/*"], "r.example.com/a/b")
	count(policy.deny) == 1 with input as declaring(["r.example.com/*"], "r.example.com.evil/a")
}

test_refuses_a_pod_without_spec if {
	count(policy.deny) == 1 with input as base
}

test_refuses_in_a_template_with_its_path if {
	template := {"podPath": "spec.jobTemplate.spec.template", "pod": {"spec": {"containers": [{"image": "evil.example/a"}]}}}
	some finding in policy.deny with input as object.union(base, template)
	finding.path == "spec.jobTemplate.spec.template.spec.containers[0].image"
}

test_allows_what_the_engine_brings_along if {
	count(policy.deny) == 1 with input as one("quay.io/argoproj/argoexec:v3.6")
	engine := {"engine": {"name": "argo", "images": ["quay.io/argoproj/argoexec"]}}
	count(policy.deny) == 0 with input as object.union(one("quay.io/argoproj/argoexec:v3.6"), engine)
	count(policy.deny) == 1 with input as object.union(one("evil.example/a"), engine)
}

with_class(images, image) := object.union(one(image), {"class": {"metadata": {"name": "c"}, "spec": {"images": images}}})

test_admits_what_the_platform_injects if {
	class := {"allowed": ["registry.example.com/**"], "injected": ["docker.io/istio/proxyv2", "r.example.com:5000/mesh/*"]}
	every image in ["istio/proxyv2:1.29", "docker.io/istio/proxyv2", "r.example.com:5000/mesh/init"] {
		count(policy.deny) == 0 with input as with_class(class, image)
	}
}

test_refuses_what_only_looks_injected if {
	class := {"allowed": ["**"], "injected": ["docker.io/istio/proxyv2", "*", "docker.io/istio/pro*"]}
	every image in ["istio/proxyv2-evil", "istio/proxy", "evil.example/istio/proxyv2"] {
		count(policy.deny) == 1 with input as with_class(class, image)
	}
	count(policy.deny) == 1 with input as with_class({"allowed": ["**"], "injected": "**"}, "evil.example/a")
}

test_admits_digests_where_they_are_asked_for if {
	class := {"allowed": ["**"], "requireDigest": true}
	every name in ["registry.example.com/finance/a", "registry.example.com/finance/a:1"] {
		count(policy.deny) == 0 with input as with_class(class, concat("", [name, "@sha256:", hex]))
	}
	count(policy.deny) == 0 with input as with_class({"allowed": ["**"], "requireDigest": false}, "python")
}

test_refuses_tags_where_digests_are_asked_for if {
	every asked in [true, "true", null, 1] {
		some finding in policy.deny with input as with_class({"allowed": ["**"], "requireDigest": asked}, "python:3.12")
		finding.path == "spec.containers[0].image"
		contains(finding.msg, "python:3.12 does not end in a digest")
		finding.fix == "write it as docker.io/library/python@sha256:<64 hexadecimal digits>"
	}
	sha512 := concat("", ["python@sha512:", hex, hex])
	count(policy.deny) == 1 with input as with_class({"allowed": ["**"], "requireDigest": true}, sha512)
	injected := {"allowed": ["**"], "injected": ["docker.io/istio/*"], "requireDigest": true}
	count(policy.deny) == 1 with input as with_class(injected, "istio/proxyv2:1.29")
}
