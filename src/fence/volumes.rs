//! Promise 2, what a pod mounts: volumes of types that the class lists, CSI volumes of drivers that it lists; and devices, none.
//!
//! Some types dial out from the node, past every NetworkPolicy, and Pod Security passes several of them. Must never: pass over
//! a type because it is newer than this code, or judge one of two and mount the other.

use serde_json::Value;

use super::object::{at, is_full, shown, type_of, violation};
use super::template::{CONTAINERS, Template};
use crate::api::AIWorkflowClass;
use crate::plan::shape::{is_volume_type, listed, volume_types};
use crate::review::Violation;

const RULE: &str = "volumes";
const CLAIM: &str = "persistentVolumeClaim";

/// What a class allows, with its name for the refusal.
struct Allowed<'a> {
    class: &'a str,
    types: Vec<&'a str>,
    drivers: &'a [String],
}

impl<'a> Allowed<'a> {
    fn of(class_name: &'a str, class: Option<&'a AIWorkflowClass>) -> Self {
        Self {
            class: class_name,
            types: class.map(volume_types).unwrap_or_default(),
            drivers: class
                .and_then(|class| class.spec.volumes.as_ref())
                .map_or(&[], |volumes| &volumes.csi_drivers),
        }
    }

    fn refuse(&self, path: &str, value: Option<&str>, message: &str, field: &str, allowed: &str) -> Violation {
        let message = format!("{message} AIWorkflowClass {} allows: {allowed}", self.class);
        let fix = format!(
            "use what is allowed, or ask the platform team to add it to spec.volumes.{field} of AIWorkflowClass {}",
            self.class
        );
        violation(RULE, path, value, message, fix)
    }
}

/// Checks every volume of a pod. Volumes that are no list are refused with the images.
pub(super) fn check(
    template: &Template<'_>,
    (class_name, class): (&str, Option<&AIWorkflowClass>),
    violations: &mut Vec<Violation>,
) {
    let allowed = Allowed::of(class_name, class);
    let volumes = template.pod.pointer("/spec/volumes").and_then(Value::as_array);
    for (index, volume) in volumes.into_iter().flatten().enumerate() {
        if is_full(violations) {
            return;
        }
        let path = at(template.path, &format!("spec.volumes[{index}]"));
        violations.extend(check_volume(&path, volume, &allowed));
    }
    let claims = template
        .pod
        .pointer("/spec/resourceClaims")
        .filter(|claims| !claims.is_null());
    if claims.is_some_and(|claims| !claims.as_array().is_some_and(Vec::is_empty)) {
        let path = at(template.path, "spec.resourceClaims");
        let message = "claims devices, and this version of Ringfence cannot tell one that computes from a second network interface";
        let fix = "leave resourceClaims out; ask for devices of a device plugin by resources.limits";
        violations.push(violation(RULE, path, None, message, fix));
    }
}

/// Resources by which the scheduler claims a device of a class for a pod that says nothing of claims.
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Checks that no container asks for a device by the name of its class.
pub(super) fn check_devices(template: &Template<'_>, violations: &mut Vec<Violation>) {
    for list in CONTAINERS {
        let containers = template.pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            for kind in ["limits", "requests"] {
                let asked = container
                    .pointer(&format!("/resources/{kind}"))
                    .and_then(Value::as_object);
                for name in asked.into_iter().flat_map(|asked| asked.keys()) {
                    if is_full(violations) {
                        return;
                    }
                    if name.starts_with(DEVICE_CLASS) {
                        let path = at(
                            template.path,
                            &format!("spec.{list}[{index}].resources.{kind}[{}]", shown(name)),
                        );
                        let message = "claims a device of a class, and this version of Ringfence cannot tell one that computes from a second network interface";
                        let fix = "leave it out; ask for devices of a device plugin by their own resource";
                        violations.push(violation(RULE, path, None, message, fix));
                    }
                }
            }
        }
    }
}

/// Checks the claims that a StatefulSet makes for its pods, each of which mounts one.
pub(super) fn check_claims(object: &Value, (class_name, class): (&str, Option<&AIWorkflowClass>)) -> Option<Violation> {
    let claims = object.pointer("/spec/volumeClaimTemplates")?;
    let allowed = Allowed::of(class_name, class);
    if claims.is_null() || claims.as_array().is_some_and(Vec::is_empty) || allowed.types.contains(&CLAIM) {
        return None;
    }
    let message = format!("gives each pod a volume of type {CLAIM}, which is not among the types that");
    Some(allowed.refuse(
        "spec.volumeClaimTemplates",
        None,
        &message,
        "types",
        &listed(&allowed.types),
    ))
}

fn check_volume(path: &str, volume: &Value, allowed: &Allowed<'_>) -> Option<Violation> {
    let types: Vec<_> = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, source)| *key != "name" && !source.is_null())
        .collect();
    let (name, source) = match types.as_slice() {
        [(name, source)] => (name.as_str(), *source),
        [] => {
            let message = "is a volume of no type";
            let fix = format!("give it one of {}", listed(&allowed.types));
            return Some(violation(RULE, path, None, message, fix));
        }
        several => {
            let names: Vec<_> = several.iter().map(|(name, _)| shown(name)).collect();
            let message = format!("is a volume of several types at once: {}", listed(&names));
            return Some(violation(RULE, path, None, message, "make a volume of each"));
        }
    };
    let path = format!("{path}.{}", shown(name));
    if !is_volume_type(name) {
        let message = "is a type of volume that this version of Ringfence does not know";
        let fix = format!(
            "use one of {}, or ask the platform team for a Ringfence that knows it",
            listed(&allowed.types)
        );
        return Some(violation(RULE, path, None, message, fix));
    }
    if !allowed.types.contains(&name) {
        let message = format!("{name} is not among the types of volumes that");
        return Some(allowed.refuse(&path, None, &message, "types", &listed(&allowed.types)));
    }
    if !source.is_object() {
        let message = format!("must be an object, and is {}", type_of(Some(source)));
        return Some(violation(
            RULE,
            path,
            None,
            message,
            format!("describe the {name} volume under it"),
        ));
    }
    if name != "csi" {
        return None;
    }
    let path = format!("{path}.driver");
    match source.get("driver").and_then(Value::as_str) {
        Some(driver) if allowed.drivers.iter().any(|allowed| allowed == driver) => None,
        driver => {
            let message = "is not among the CSI drivers that";
            Some(allowed.refuse(&path, driver, message, "csiDrivers", &listed(allowed.drivers)))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::object::MAX_VIOLATIONS;
    use super::*;
    use crate::api::AIWorkflowClassSpec;

    fn class(types: &[&str], drivers: &[&str]) -> AIWorkflowClass {
        let spec = json!({"volumes": {"types": types, "csiDrivers": drivers}});
        AIWorkflowClass::new("c", serde_json::from_value::<AIWorkflowClassSpec>(spec).unwrap())
    }

    fn judged(class: Option<&AIWorkflowClass>, volumes: Value) -> Vec<Violation> {
        let pod = json!({"spec": {"volumes": volumes}});
        let template = Template {
            path: "spec.template",
            pod: &pod,
        };
        let mut violations = Vec::new();
        check(&template, ("c", class), &mut violations);
        violations
            .iter()
            .for_each(|violation| assert_eq!(violation.policy, RULE));
        violations
    }

    #[rstest]
    #[case::listed(json!({"name": "a", "emptyDir": {}}), None)]
    #[case::csi_of_a_listed_driver(json!({"name": "a", "csi": {"driver": "secrets.example.com"}}), None)]
    #[case::a_second_type_that_is_null(json!({"name": "a", "emptyDir": {}, "hostPath": null}), None)]
    #[case::not_listed(json!({"name": "a", "nfs": {"server": "x"}}), Some(".nfs"))]
    #[case::listed_by_a_name_that_is_none(json!({"name": "a", "newer": {}}), Some(".newer"))]
    #[case::newer_than_us(json!({"name": "a", "newest": {}}), Some(".newest"))]
    #[case::other_case(json!({"name": "a", "emptydir": {}}), Some(".emptydir"))]
    #[case::two(json!({"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}), Some(""))]
    #[case::two_that_are_listed(json!({"name": "a", "emptyDir": {}, "csi": {"driver": "secrets.example.com"}}), Some(""))]
    #[case::none(json!({"name": "a"}), Some(""))]
    #[case::only_null(json!({"name": "a", "emptyDir": null}), Some(""))]
    #[case::text(json!("emptyDir"), Some(""))]
    #[case::list(json!([{"emptyDir": {}}]), Some(""))]
    #[case::source_of_text(json!({"name": "a", "emptyDir": "x"}), Some(".emptyDir"))]
    #[case::csi_of_another_driver(json!({"name": "a", "csi": {"driver": "smb.csi.k8s.io"}}), Some(".csi.driver"))]
    #[case::csi_of_no_driver(json!({"name": "a", "csi": {}}), Some(".csi.driver"))]
    #[case::csi_of_two_drivers(json!({"name": "a", "csi": {"driver": ["secrets.example.com"]}}), Some(".csi.driver"))]
    fn only_one_listed_type_passes(#[case] volume: Value, #[case] refused: Option<&str>) {
        let class = class(&["emptyDir", "csi", "newer"], &["secrets.example.com"]);
        let found = judged(Some(&class), json!([{"name": "first", "emptyDir": {}}, volume]));
        let paths: Vec<_> = found.iter().map(|violation| violation.path.as_str()).collect();
        let expected = refused.map(|path| format!("spec.template.spec.volumes[1]{path}"));
        assert_eq!(paths, expected.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[rstest]
    #[case::none(json!([]), false)]
    #[case::absent(Value::Null, false)]
    #[case::one(json!([{"name": "nic", "resourceClaimName": "nic"}]), true)]
    #[case::another_shape(json!({"name": "nic"}), true)]
    fn devices_are_not_claimed(#[case] claims: Value, #[case] refused: bool) {
        let pod = json!({"spec": {"resourceClaims": claims}});
        let template = Template { path: "", pod: &pod };
        let mut violations = Vec::new();
        check(&template, ("c", Some(&class(&["emptyDir"], &[]))), &mut violations);
        let paths: Vec<_> = violations.iter().map(|violation| violation.path.as_str()).collect();
        assert_eq!(paths, if refused { &["spec.resourceClaims"][..] } else { &[] });
    }

    #[rstest]
    #[case::limit("containers", "limits", "deviceclass.resource.kubernetes.io/nic", true)]
    #[case::request("initContainers", "requests", "deviceclass.resource.kubernetes.io/nic", true)]
    #[case::plugin("containers", "limits", "nvidia.com/gpu", false)]
    fn devices_are_not_claimed_by_resources(
        #[case] list: &str,
        #[case] kind: &str,
        #[case] name: &str,
        #[case] refused: bool,
    ) {
        let pod = json!({"spec": {list: [{"name": "c", "resources": {kind: {"cpu": "1", name: "1"}}}]}});
        let mut violations = Vec::new();
        check_devices(&Template { path: "", pod: &pod }, &mut violations);
        assert_eq!(violations.len(), usize::from(refused), "{violations:?}");
    }

    #[test]
    fn thousands_of_volumes_and_devices_are_told_of_by_the_first() {
        let volumes = vec![json!({"name": "a", "nfs": {}}); 10_000];
        assert_eq!(judged(Some(&class(&[], &[])), json!(volumes)).len(), MAX_VIOLATIONS);
        let device = json!({"resources": {"limits": {"deviceclass.resource.kubernetes.io/nic": "1"}}});
        let pod = json!({"spec": {"containers": vec![device; 10_000]}});
        let mut violations = Vec::new();
        check_devices(&Template { path: "", pod: &pod }, &mut violations);
        assert_eq!(violations.len(), MAX_VIOLATIONS);
    }

    #[test]
    fn a_class_that_says_nothing_or_cannot_be_read_allows_none() {
        let silent = AIWorkflowClass::new("c", AIWorkflowClassSpec::default());
        for class in [None, Some(&silent)] {
            assert_eq!(judged(class, json!([{"name": "a", "emptyDir": {}}])).len(), 1);
            assert_eq!(judged(class, json!([])), []);
        }
    }

    #[test]
    fn a_refusal_says_what_is_allowed_and_who_could_allow_more() {
        let found = judged(
            Some(&class(&["emptyDir", "secret"], &[])),
            json!([{"name": "a", "nfs": {}}]),
        );
        let message = "nfs is not among the types of volumes that AIWorkflowClass c allows: emptyDir, secret";
        assert_eq!(found[0].message, message);
        assert!(
            found[0].fix.contains("spec.volumes.types of AIWorkflowClass c"),
            "{}",
            found[0].fix
        );
    }

    #[rstest]
    #[case::none(json!({"spec": {}}), false)]
    #[case::empty(json!({"spec": {"volumeClaimTemplates": []}}), false)]
    #[case::one(json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}}), true)]
    #[case::wrong_type(json!({"spec": {"volumeClaimTemplates": {"metadata": {"name": "data"}}}}), true)]
    fn claims_that_a_stateful_set_makes_are_volumes(#[case] object: Value, #[case] refused: bool) {
        let closed = class(&["emptyDir"], &[]);
        assert_eq!(check_claims(&object, ("c", Some(&closed))).is_some(), refused);
        let open = class(&[CLAIM], &[]);
        assert_eq!(check_claims(&object, ("c", Some(&open))), None);
    }
}
