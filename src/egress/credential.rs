//! What a pod shows of itself beside its address: a projected token of its account, in Proxy-Authorization.
//!
//! Must never: show a token, in whatever way it is printed; or let a token of one pod stand for another.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::index::Workflow;

/// Longest token that is read: those of the API server are some hundred bytes, and a head holds no more than that.
const MAX_TOKEN: usize = 8 << 10;
/// Before the namespace and the name of an account, in the name of whoever shows its token.
const ACCOUNT: &str = "system:serviceaccount:";
/// Where the API server says which pod a token was made for.
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A token, as it was shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// Proxy-Authorization that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "Proxy-Authorization cannot be read: send it once, as Bearer and the token, or as Basic with the token in place of the password"
)]
pub struct NotACredential;

impl Token {
    /// Reads what stands in Proxy-Authorization. Clients that take a URL send what is in it as Basic: there the token is the password, and the
    /// user anything.
    pub fn of<'a>(mut headers: impl Iterator<Item = &'a [u8]>) -> Result<Option<Self>, NotACredential> {
        let (header, more) = (headers.next(), headers.next());
        let Some(header) = header else { return Ok(None) };
        let header = std::str::from_utf8(header)
            .ok()
            .filter(|_| more.is_none())
            .ok_or(NotACredential)?;
        let (scheme, rest) = header.trim().split_once(' ').ok_or(NotACredential)?;
        let token = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => rest.trim().to_owned(),
            "basic" => {
                let bytes = STANDARD.decode(rest.trim()).map_err(|_| NotACredential)?;
                let text = String::from_utf8(bytes).map_err(|_| NotACredential)?;
                text.split_once(':').ok_or(NotACredential)?.1.to_owned()
            }
            _ => return Err(NotACredential),
        };
        let is_one = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_one.then_some(Some(Self(token))).ok_or(NotACredential)
    }

    /// As it is sent to be checked.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is known by without being kept.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// Whether it says of itself that it was made for one of these pods and that audience. Nobody has checked that it was: what does not even say
    /// so need not be asked about.
    pub fn claims(&self, pods: &[impl AsRef<str>], audience: &str) -> bool {
        let claims = || {
            let mut parts = self.0.split('.');
            let payload = match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(_), Some(payload), Some(_), None) => URL_SAFE_NO_PAD.decode(payload).ok()?,
                _ => return None,
            };
            let claims: Value = serde_json::from_slice(&payload).ok()?;
            let pod = claims.pointer("/kubernetes.io/pod/uid")?.as_str()?.to_owned();
            let is_for_it = match claims.get("aud")? {
                Value::String(one) => one == audience,
                Value::Array(many) => many.iter().any(|one| one == audience),
                _ => false,
            };
            is_for_it.then_some(pod)
        };
        claims().is_some_and(|pod| pods.iter().any(|known| known.as_ref() == pod))
    }
}

/// Whose a token is, as the API server says it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    namespace: String,
    pod: String,
}

impl Holder {
    /// Reads `status` of a TokenReview about a token for that audience. `None`: it is no token of a pod, or for something else. An API server
    /// that does not know audiences names none.
    pub fn read(status: &Value, audience: &str) -> Option<Self> {
        let is_authenticated = status.get("authenticated") == Some(&Value::Bool(true));
        let audiences = status.get("audiences").and_then(Value::as_array);
        let is_for_it = audiences.is_some_and(|audiences| audiences.iter().any(|one| one == audience));
        let user = status.get("user").filter(|_| is_authenticated && is_for_it)?;
        let account = user.get("username")?.as_str()?.strip_prefix(ACCOUNT)?;
        let (namespace, _) = account.split_once(':')?;
        let [pod] = user.get("extra")?.get(POD_UID)?.as_array()?.as_slice() else {
            return None;
        };
        Some(Self {
            namespace: namespace.to_owned(),
            pod: pod.as_str()?.to_owned(),
        })
    }

    /// Whether it is one of these pods, of that workflow.
    pub fn is_one_of(&self, pods: &[impl AsRef<str>], workflow: &Workflow) -> bool {
        self.namespace == workflow.namespace && pods.iter().any(|pod| pod.as_ref() == self.pod)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn read(headers: &[&str]) -> Result<Option<String>, NotACredential> {
        let token = Token::of(headers.iter().map(|header| header.as_bytes()));
        token.map(|token| token.map(|token| token.as_str().to_owned()))
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_token_is_a_bearers_or_a_password() {
        assert_eq!(read(&[]), Ok(None));
        for header in ["Bearer a.b.c", "bearer  a.b.c ", &basic("pod:a.b.c"), &basic(":a.b.c")] {
            assert_eq!(read(&[header]), Ok(Some("a.b.c".to_owned())), "{header}");
        }
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "a.b.c",
            "Negotiate a.b.c",
            "Basic !",
            &basic("a.b.c"),
            &basic("pod:"),
            "Bearer a b",
            &long,
        ] {
            assert_eq!(read(&[header]), Err(NotACredential), "{header}");
        }
        assert_eq!(read(&["Bearer a", "Bearer a"]), Err(NotACredential), "twice");
        assert_eq!(format!("{:?}", Token("secret".to_owned())), "Token(…)");
    }

    fn token(claims: &Value) -> Token {
        Token(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    #[test]
    fn what_does_not_say_that_it_is_the_pods_is_not_asked_about() {
        let of =
            |pod: &str, audience: Value| json!({"aud": audience, "kubernetes.io": {"pod": {"name": "p", "uid": pod}}});
        let claims = |claims: Value| token(&claims).claims(&["uid-1", "uid-2"], "ringfence-egress");
        assert!(claims(of("uid-2", json!(["vault", "ringfence-egress"]))));
        assert!(claims(of("uid-1", json!("ringfence-egress"))));
        assert!(!claims(of("uid-3", json!(["ringfence-egress"]))));
        assert!(!claims(of("uid-1", json!(["https://kubernetes.default.svc"]))));
        assert!(!claims(json!({"aud": ["ringfence-egress"]})));
        assert!(!claims(json!([])));
        for text in ["", "a", "a.b", "a.b.c", "a.b.c.d", "e30.e30.e30"] {
            assert!(!Token(text.to_owned()).claims(&["uid-1"], "ringfence-egress"), "{text}");
        }
    }

    #[rstest]
    #[case::the_pods(json!({}), true)]
    #[case::not_authenticated(json!({"authenticated": false}), false)]
    #[case::another_audience(json!({"audiences": ["vault"]}), false)]
    #[case::no_audience(json!({"audiences": null}), false)]
    #[case::a_person(json!({"user": {"username": "ann", "extra": {POD_UID: ["uid-1"]}}}), false)]
    #[case::an_account_without_a_pod(json!({"user": {"username": "system:serviceaccount:ai:triage"}}), false)]
    #[case::two_pods(json!({"user": {"username": "system:serviceaccount:ai:triage", "extra": {POD_UID: ["uid-1", "uid-2"]}}}), false)]
    #[case::another_pod(json!({"user": {"username": "system:serviceaccount:ai:triage", "extra": {POD_UID: ["uid-9"]}}}), false)]
    #[case::another_namespace(json!({"user": {"username": "system:serviceaccount:shop:triage", "extra": {POD_UID: ["uid-1"]}}}), false)]
    fn a_holder_is_a_pod_that_the_api_server_vouches_for(#[case] change: Value, #[case] expected: bool) {
        let mut status = json!({
            "authenticated": true, "audiences": ["ringfence-egress"],
            "user": {"username": "system:serviceaccount:ai:triage", "extra": {POD_UID: ["uid-1"]}},
        });
        for (key, value) in change.as_object().unwrap() {
            status[key] = value.clone();
        }
        let workflow = Workflow {
            namespace: "ai".to_owned(),
            name: "triage".to_owned(),
        };
        let holder = Holder::read(&status, "ringfence-egress");
        assert_eq!(
            holder.is_some_and(|holder| holder.is_one_of(&["uid-1"], &workflow)),
            expected
        );
    }
}
