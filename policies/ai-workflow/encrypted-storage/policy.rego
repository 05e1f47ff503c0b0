# METADATA
# title: Encrypted storage
# description: >-
#   A claim for storage in a fenced namespace names a StorageClass that the platform has marked as encrypted at rest by naming it in the
#   parameter `storageClasses`: PersistentVolumeClaims, those that a StatefulSet makes, and those of ephemeral volumes. A claim without
#   a StorageClass is refused, because what the default is may change; name "" in the parameter where volumes without a class are
#   encrypted too. As long as the parameter is empty no claim is accepted. What an update leaves as it was is not judged again.
# custom:
#   name: encrypted-storage
#   severity: high
#   remediation: Name a StorageClass that the platform team has marked as encrypted, or ask them which these are.
#   scope: object
#   match:
#     resourceRules:
#     - apiGroups: [""]
#       apiVersions: [v1]
#       resources: [persistentvolumeclaims, replicationcontrollers]
#       operations: [CREATE, UPDATE]
#     - apiGroups: [""]
#       apiVersions: [v1]
#       resources: [pods]
#       operations: [CREATE]
#     - apiGroups: [apps]
#       apiVersions: [v1]
#       resources: [daemonsets, deployments, replicasets, statefulsets]
#       operations: [CREATE, UPDATE]
#     - apiGroups: [batch]
#       apiVersions: [v1]
#       resources: [cronjobs, jobs]
#       operations: [CREATE, UPDATE]
#     namespaceSelector:
#       matchExpressions: [{key: ringfence.dev/enforce, operator: Exists}]
#   controls: [NIST-800-53-SC-28, NSA-CISA-Kubernetes-Hardening]
#   parameters:
#     storageClasses: []
package ringfence.encrypted_storage

deny contains finding if {
	not is_object(object.get(input, ["request", "object"], null))
	finding := {"msg": "there is nothing that can be judged", "fix": "send a claim, or what makes one"}
}

deny contains finding if {
	not is_unchanged
	some claim in claims
	count(classes(claim)) == 0
	finding := {
		"path": concat("", [claim.path, "spec.storageClassName"]),
		"msg": "the claim names no StorageClass, and nobody knows whether the default one encrypts, today or tomorrow",
		"fix": fix,
	}
}

deny contains finding if {
	not is_unchanged
	some claim in claims
	some place, class in classes(claim)
	not class in input.parameters.storageClasses
	finding := {
		"path": concat("", [claim.path, place]),
		"value": class,
		"msg": "the platform has not marked this StorageClass as encrypted at rest",
		"fix": fix,
	}
}

claims := claims_of(input.request.object, object.get(input, "pod", {}))

claims_of(document, pod) := array.concat(array.concat(itself(document), of_set(document)), of_volumes(pod))

itself(document) := [{"path": "", "claim": document}] if is_claim

itself(_) := [] if not is_claim

is_claim if kind == "PersistentVolumeClaim"

# The API server's word where there is one, else the object's own.
kind := object.get(input, ["request", "kind", "kind"], object.get(input, ["request", "object", "kind"], ""))

of_set(document) := [{"path": sprintf("spec.volumeClaimTemplates[%v].", [i]), "claim": claim} |
	some i
	claim := document.spec.volumeClaimTemplates[i]
]

of_volumes(pod) := [{"path": at(sprintf("spec.volumes[%v].ephemeral.volumeClaimTemplate.", [i])), "claim": claim} |
	some i
	claim := pod.spec.volumes[i].ephemeral.volumeClaimTemplate
]

# The annotation is old, and where it is there the controllers heed it and not the field.
classes(claim) := {place: class |
	some place, field in places
	class := object.get(claim.claim, field, null)
	class != null
}

places := {
	"metadata.annotations[volume.beta.kubernetes.io/storage-class]": ["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"],
	"spec.storageClassName": ["spec", "storageClassName"],
}

default fix := "ask the platform team to name the StorageClasses that encrypt in parameter storageClasses of policy encrypted-storage"

fix := sprintf("set storageClassName to %s", [concat(" or ", array.slice(input.parameters.storageClasses, 0, 5))]) if {
	count(input.parameters.storageClasses) > 0
}

# A claim of before may still be resized, labelled and deleted, and a workload of before rolled out.
is_unchanged if {
	input.request.operation == "UPDATE"
	is_object(input.request.oldObject)
	told(claims_of(input.request.oldObject, old_pod)) == told(claims)
}

told(list) := [[claim.path, classes(claim)] | some claim in list]

default old_pod := {}

old_pod := object.get(input.request.oldObject, split(input.podPath, "."), {}) if input.podPath != ""

default prefix := ""

prefix := sprintf("%s.", [input.podPath]) if input.podPath != ""

at(path) := concat("", [prefix, path])
