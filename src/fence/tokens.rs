//! Promise 3, identities beside the account's rights: which tokens a pod mounts, for whom, and for how long.
//!
//! A token for another audience is an identity there (Vault, a cloud), so it is declared like any right. Must never: let pass
//! a projected source that this code does not know.

use serde_json::Value;

use super::object::{at, is_full, shown, type_of, violation};
use super::template::{CONTAINERS, Template};
use crate::api::{AIWorkflow, AIWorkflowClass};
use crate::plan::shape::{
    DEFAULT_TOKEN_SECONDS, allows_audience, class_audiences, declared_audience, declared_seconds, fits_api_server,
    listed, max_token_seconds,
};
use crate::review::Violation;

const RULE: &str = "projected-tokens";

/// Projected sources that carry no identity.
const PLAIN: [&str; 4] = ["clusterTrustBundle", "configMap", "downwardAPI", "secret"];

/// Who declares and who allows.
pub(super) struct Allowed<'a> {
    /// Name and declaration of the workflow; `None` while there is none, which is another rule's business.
    pub workflow: Option<(&'a str, &'a AIWorkflow)>,
    /// Name of the class, and the class; `None` where it is missing or cannot be read, and allows nothing.
    pub class: (&'a str, Option<&'a AIWorkflowClass>),
}

/// Checks every projected volume of a pod. Volumes that are no list are refused with the images.
pub(super) fn check(template: &Template<'_>, allowed: &Allowed<'_>, violations: &mut Vec<Violation>) {
    let volumes = template.pod.pointer("/spec/volumes").and_then(Value::as_array);
    for (index, volume) in volumes.into_iter().flatten().enumerate() {
        if is_full(violations) {
            return;
        }
        let Some(projected) = volume.get("projected") else {
            continue;
        };
        let path = at(template.path, &format!("spec.volumes[{index}].projected.sources"));
        match projected.get("sources") {
            None | Some(Value::Null) => {}
            Some(Value::Array(sources)) => {
                for (number, source) in sources.iter().enumerate() {
                    check_source(&format!("{path}[{number}]"), source, allowed, violations);
                }
            }
            other => {
                let message = format!("must be a list of sources, and is {}", type_of(other));
                violations.push(violation(
                    RULE,
                    &path,
                    None,
                    message,
                    format!("list the sources under {path}"),
                ));
            }
        }
    }
}

/// Checks that a pod takes no account of a Windows domain; of one that is there, that no container is put into it which does. `before` is the
/// pod as it was: such containers come last.
pub(super) fn check_domain_accounts(template: &Template<'_>, before: Option<&Value>, violations: &mut Vec<Violation>) {
    let mut refuse = |path: &str, pointer: &str| {
        if is_full(violations) {
            return;
        }
        for field in ["gmsaCredentialSpec", "gmsaCredentialSpecName"] {
            let pointer = format!("{pointer}/windowsOptions/{field}");
            let found = template.pod.pointer(&pointer);
            let was_there = found == before.and_then(|before| before.pointer(&pointer));
            if found.is_some_and(|found| !found.is_null()) && !was_there {
                let path = at(template.path, &format!("{path}.windowsOptions.{field}"));
                let message =
                    "gives the pod an account of a Windows domain, which is an identity that no AIWorkflow can declare";
                violations.push(violation(RULE, path, None, message, "leave it out"));
            }
        }
    };
    refuse("spec.securityContext", "/spec/securityContext");
    for list in CONTAINERS {
        let containers = template.pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        for index in 0..containers.map_or(0, Vec::len) {
            refuse(
                &format!("spec.{list}[{index}].securityContext"),
                &format!("/spec/{list}/{index}/securityContext"),
            );
        }
    }
}

fn check_source(path: &str, source: &Value, allowed: &Allowed<'_>, violations: &mut Vec<Violation>) {
    if is_full(violations) {
        return;
    }
    let Some(fields) = source.as_object() else {
        let message = format!("must be a source, and is {}", type_of(Some(source)));
        violations.push(violation(
            RULE,
            path,
            None,
            message,
            "name a configMap, secret, downwardAPI or serviceAccountToken",
        ));
        return;
    };
    for (name, source) in fields.iter().filter(|(_, source)| !source.is_null()) {
        if is_full(violations) {
            return;
        }
        let path = format!("{path}.{}", shown(name));
        match name.as_str() {
            name if PLAIN.contains(&name) => {}
            "serviceAccountToken" => check_token(&path, source, allowed, violations),
            "podCertificate" => {
                let message = "gives the pod a certificate, which is an identity that no AIWorkflow can declare";
                let fix = "remove it, and mount a serviceAccountToken for a declared audience";
                violations.push(violation(RULE, path, None, message, fix));
            }
            _ => {
                let message = "is a source that this version of Ringfence does not know";
                let fix = "remove it, or ask the platform team for a Ringfence that knows it";
                violations.push(violation(RULE, path, None, message, fix));
            }
        }
    }
}

fn check_token(path: &str, token: &Value, allowed: &Allowed<'_>, violations: &mut Vec<Violation>) {
    let seconds = match token.get("expirationSeconds") {
        None | Some(Value::Null) => Some(DEFAULT_TOKEN_SECONDS),
        Some(seconds) => seconds.as_i64(),
    };
    let audience = match token.get("audience") {
        None | Some(Value::Null) => Some(""),
        Some(audience) => audience.as_str(),
    };
    let (Some(seconds), Some(audience), true) = (seconds, audience, token.is_object()) else {
        let message = "is no token that can be judged";
        let fix = "give it a path, an audience that is a text, and expirationSeconds that is a whole number";
        violations.push(violation(RULE, path, None, message, fix));
        return;
    };
    let (class_name, class) = allowed.class;
    let of_class = class.map_or(0, max_token_seconds);
    let by_class = format!("AIWorkflowClass {class_name} allows");
    if audience.is_empty() {
        if !fits_api_server(seconds, of_class) {
            violations.push(too_long(path, seconds, of_class, &by_class));
        }
        return;
    }
    let at_audience = format!("{path}.audience");
    let declared = allowed
        .workflow
        .map(|(name, workflow)| (name, declared_audience(workflow, audience)));
    let (mut most, mut by) = (of_class, by_class);
    match declared {
        Some((name, None)) => {
            let message = format!("is an audience that AIWorkflow {name} does not declare");
            let fix = format!(
                "declare it in the AIWorkflow, spec.identity.audiences: [{{audience: {}, maxExpirationSeconds: {seconds}}}]; or leave audience out, for a token of the API server's",
                shown(audience)
            );
            violations.push(violation(RULE, &at_audience, Some(audience), message, fix));
        }
        Some((name, Some(declared))) if declared_seconds(declared) < most => {
            (most, by) = (declared_seconds(declared), format!("AIWorkflow {name} declares for it"));
        }
        _ => {}
    }
    if !class.is_some_and(|class| allows_audience(class, audience)) {
        let audiences: Vec<_> = class.map(class_audiences).unwrap_or_default().into_iter().collect();
        let message = format!(
            "is not among the audiences that AIWorkflowClass {class_name} allows: {}",
            listed(&audiences)
        );
        let fix = format!(
            "remove this token, or ask the platform team to add the audience to spec.identity.audiences of AIWorkflowClass {class_name}"
        );
        violations.push(violation(RULE, &at_audience, Some(audience), message, fix));
    }
    if seconds > most {
        violations.push(too_long(path, seconds, most, &by));
    }
}

fn too_long(path: &str, seconds: i64, most: i64, by: &str) -> Violation {
    let message = format!("is longer than the {most} seconds that {by}");
    let fix = if most == 0 {
        "ask the platform team to correct spec.identity.maxTokenSeconds of the class".to_owned()
    } else {
        format!(
            "mount a token with expirationSeconds: {most} (ringfence render --pod shows how), and set automountServiceAccountToken: false"
        )
    };
    let value = seconds.to_string();
    violation(RULE, format!("{path}.expirationSeconds"), Some(&value), message, fix)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::{set, workflow_object};
    use super::*;
    use crate::api::AIWorkflowClassSpec;

    fn class(identity: Value) -> AIWorkflowClass {
        let spec = json!({"identity": identity});
        AIWorkflowClass::new("c", serde_json::from_value::<AIWorkflowClassSpec>(spec).unwrap())
    }

    fn judged(declared: Value, class: Option<&AIWorkflowClass>, volumes: Value) -> Vec<Violation> {
        let object = set(workflow_object(), "/spec/identity", json!({"audiences": declared}));
        let workflow: AIWorkflow = serde_json::from_value(object).unwrap();
        let pod = json!({"spec": {"volumes": volumes}});
        let mut violations = Vec::new();
        let allowed = Allowed {
            workflow: Some(("triage", &workflow)),
            class: ("c", class),
        };
        check(&Template { path: "", pod: &pod }, &allowed, &mut violations);
        violations
            .iter()
            .for_each(|violation| assert_eq!(violation.policy, RULE));
        violations
    }

    fn source(source: Value) -> Value {
        json!([{"name": "a", "emptyDir": {}}, {"name": "t", "projected": {"sources": [{"configMap": {"name": "c"}}, source]}}])
    }

    fn token(token: Value) -> Value {
        source(json!({"serviceAccountToken": token}))
    }

    fn paths(violations: &[Violation]) -> Vec<String> {
        let at = "spec.volumes[1].projected.sources[1].";
        violations
            .iter()
            .map(|violation| violation.path.replace(at, "").replace("serviceAccountToken", "~"))
            .collect()
    }

    #[rstest]
    #[case::by_default(json!({"path": "token"}), &[])]
    #[case::an_empty_audience(json!({"path": "token", "audience": ""}), &[])]
    #[case::null(json!({"path": "token", "audience": null, "expirationSeconds": null}), &[])]
    #[case::at_most(json!({"expirationSeconds": 3600}), &[])]
    #[case::mounted_unasked(json!({"expirationSeconds": 3607}), &[])]
    #[case::an_hour_and_a_second(json!({"expirationSeconds": 3601}), &["~.expirationSeconds"])]
    #[case::ten_years(json!({"expirationSeconds": 315360000}), &["~.expirationSeconds"])]
    #[case::text(json!({"expirationSeconds": "600"}), &["~"])]
    #[case::fraction(json!({"expirationSeconds": 600.5}), &["~"])]
    #[case::endless(json!({"expirationSeconds": 1e300}), &["~"])]
    #[case::audience_of_another_type(json!({"audience": ["vault"]}), &["~"])]
    #[case::of_another_type(json!("vault"), &["~"])]
    fn a_token_for_the_api_server_lives_as_long_as_the_class_says(#[case] with: Value, #[case] refused: &[&str]) {
        assert_eq!(paths(&judged(json!([]), Some(&class(json!({}))), token(with))), refused);
    }

    #[test]
    fn less_than_an_hour_refuses_what_is_mounted_unasked() {
        let strict = class(json!({"maxTokenSeconds": 1200}));
        assert_eq!(
            judged(json!([]), Some(&strict), token(json!({"expirationSeconds": 1200}))),
            []
        );
        let found = judged(json!([]), Some(&strict), token(json!({"expirationSeconds": 3607})));
        assert_eq!(found[0].value.as_deref(), Some("3607"));
        assert!(
            found[0].message.contains("1200 seconds that AIWorkflowClass c allows"),
            "{}",
            found[0].message
        );
        assert!(
            found[0].fix.contains("automountServiceAccountToken: false"),
            "{}",
            found[0].fix
        );
    }

    #[rstest]
    #[case::neither(json!([]), json!([]), 600, &["~.audience", "~.audience"])]
    #[case::only_declared(json!([{"audience": "vault"}]), json!([]), 600, &["~.audience"])]
    #[case::only_allowed(json!([]), json!(["vault"]), 600, &["~.audience"])]
    #[case::another_declared(json!([{"audience": "vaults"}]), json!(["vault"]), 600, &["~.audience"])]
    #[case::both(json!([{"audience": "vault"}]), json!(["vault"]), 3600, &[])]
    #[case::within_the_declared_life(json!([{"audience": "vault", "maxExpirationSeconds": 900}]), json!(["vault"]), 900, &[])]
    #[case::beyond_the_declared_life(json!([{"audience": "vault", "maxExpirationSeconds": 900}]), json!(["vault"]), 901, &["~.expirationSeconds"])]
    #[case::beyond_the_class(json!([{"audience": "vault", "maxExpirationSeconds": 7200}]), json!(["vault"]), 3601, &["~.expirationSeconds"])]
    #[case::the_grace_is_the_api_servers(json!([{"audience": "vault"}]), json!(["vault"]), 3607, &["~.expirationSeconds"])]
    fn another_audience_is_declared_and_allowed(
        #[case] declared: Value,
        #[case] audiences: Value,
        #[case] seconds: i64,
        #[case] refused: &[&str],
    ) {
        let class = class(json!({"audiences": audiences}));
        let volumes = token(json!({"audience": "vault", "expirationSeconds": seconds}));
        assert_eq!(paths(&judged(declared, Some(&class), volumes)), refused);
    }

    #[test]
    fn a_wildcard_allows_nothing() {
        let class = class(json!({"audiences": ["*"]}));
        for audience in ["vault", "*"] {
            let declared = json!([{"audience": audience}]);
            assert!(
                !judged(declared, Some(&class), token(json!({"audience": audience}))).is_empty(),
                "{audience}"
            );
        }
    }

    #[rstest]
    #[case::certificate(json!({"podCertificate": {"signerName": "x/y"}}), &["podCertificate"])]
    #[case::certificate_of_another_type(json!({"podCertificate": true}), &["podCertificate"])]
    #[case::newer(json!({"podPassport": {}}), &["podPassport"])]
    #[case::beside_a_plain_one(json!({"configMap": {}, "serviceAccountToken": {"expirationSeconds": 9000}}), &["~.expirationSeconds"])]
    #[case::null(json!({"podCertificate": null, "secret": {}}), &[])]
    #[case::trust_bundle(json!({"clusterTrustBundle": {}}), &[])]
    #[case::text(json!("serviceAccountToken"), &["spec.volumes[1].projected.sources[1]"])]
    fn other_sources_are_known_or_refused(#[case] with: Value, #[case] refused: &[&str]) {
        assert_eq!(
            paths(&judged(json!([]), Some(&class(json!({}))), source(with))),
            refused
        );
    }

    #[test]
    fn no_account_of_a_windows_domain_is_taken() {
        let takes = json!({"windowsOptions": {"gmsaCredentialSpecName": "payroll", "gmsaCredentialSpec": "{}"}});
        let harmless = json!({"windowsOptions": {"gmsaCredentialSpec": null, "runAsUserName": "user"}});
        let container = json!({"securityContext": {"windowsOptions": {"gmsaCredentialSpec": ""}}});
        let pod = |of_pod: &Value, lists: &[&str]| {
            let mut spec = json!({"securityContext": of_pod});
            for list in lists {
                spec[list] = json!([{"securityContext": harmless}, container]);
            }
            json!({"spec": spec})
        };
        let updated = |pod: &Value, before: Option<&Value>| {
            let mut violations = Vec::new();
            let path = "spec.template";
            check_domain_accounts(&Template { path, pod }, before, &mut violations);
            violations
                .into_iter()
                .map(|violation| violation.path)
                .collect::<Vec<_>>()
        };
        let judged = |pod: &Value| updated(pod, None);
        let of_pod = "spec.template.spec.securityContext.windowsOptions";
        assert_eq!(
            judged(&pod(&takes, &[])),
            [
                format!("{of_pod}.gmsaCredentialSpec"),
                format!("{of_pod}.gmsaCredentialSpecName")
            ]
        );
        assert_eq!(judged(&pod(&harmless, &[])), [""; 0]);
        for list in CONTAINERS {
            let path = format!("spec.template.spec.{list}[1].securityContext.windowsOptions.gmsaCredentialSpec");
            assert_eq!(judged(&pod(&json!({}), &[list])), [path.as_str()]);
            // What it was admitted with does not stand in the way of an update; what is put into it is judged.
            let takes = pod(&takes, &[list]);
            assert_eq!(updated(&takes, Some(&takes)), [""; 0]);
            let mut before = takes.clone();
            before["spec"][list] = json!([{"securityContext": harmless}]);
            assert_eq!(updated(&takes, Some(&before)), [path.as_str()]);
        }
    }

    #[test]
    fn sources_of_another_type_are_refused_and_a_class_that_cannot_be_read_allows_no_token() {
        let open = class(json!({}));
        let odd = json!([{"name": "a", "projected": {"sources": {"serviceAccountToken": {}}}}]);
        assert_eq!(judged(json!([]), Some(&open), odd).len(), 1);
        assert_eq!(judged(json!([]), None, token(json!({}))).len(), 1);
        let beyond = class(json!({"maxTokenSeconds": 99_999_999}));
        assert_eq!(judged(json!([]), Some(&beyond), token(json!({}))).len(), 1);
    }
}
