//! Tokens that pods show, asked about at the API server: a caller is known by its address and, where it shows one, by its token too.
//!
//! Must never: log a token or keep one, take an answer that did not come for a yes, or let a pod have the API server asked as often as it likes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep, timeout};

use super::answer::Refused;
use super::places::{Most, Places};
use crate::egress::{Holder, Token, Workflow};
use crate::telemetry::EgressVerdict;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// How long the API server may take, whoever else waits for the same answer included.
const ANSWERED: Duration = Duration::from_secs(5);
/// How long its yes holds, and its no. Where it is away, a yes goes on for longer: the token is of a pod that still has its address.
const FRESH: Duration = Duration::from_secs(60);
const FRESH_NO: Duration = Duration::from_secs(5);
const STALE: Duration = Duration::from_secs(3600);
/// How long whoever shows a token that is none waits: it asks no more often than this allows.
const REST: Duration = Duration::from_secs(1);
/// How many are asked about at a time, and of one address.
const UNDER_WAY: Most = Most {
    all: 64,
    of_one: 4,
    of_strangers: 0,
};
/// How many answers are held. Beyond it, whoever has most of them loses its own: a pod makes up as many tokens as it likes.
const MAX_HELD: usize = 4096;

/// What the API server said last of a token, and when. Whoever waits for it asks nothing.
type Answered = Arc<tokio::sync::Mutex<Option<(Instant, Option<Holder>)>>>;

/// By digest, of each namespace by itself.
type Held = HashMap<String, HashMap<[u8; 32], Answered>>;

/// Checks tokens.
pub struct Tokens {
    client: Client,
    audience: String,
    is_required: bool,
    under_way: Arc<Places>,
    held: Mutex<Held>,
}

impl Tokens {
    /// For that audience. `is_required`: who shows none is refused.
    pub fn new(client: Client, audience: String, is_required: bool) -> Self {
        Self {
            client,
            audience,
            is_required,
            under_way: Places::new(UNDER_WAY),
            held: Mutex::default(),
        }
    }

    /// The token that a request shows.
    pub(super) fn shown(headers: &HeaderMap) -> Result<Option<Token>, Refused> {
        let shown = headers.get_all(PROXY_AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        Token::of(shown).map_err(Refused::bad_request)
    }

    /// Whether what is shown is a token of one of these pods, which have the address that calls.
    pub(super) async fn check(
        &self,
        pods: &[Arc<str>],
        (address, workflow): (IpAddr, &Arc<Workflow>),
        shown: Option<&Token>,
    ) -> Result<(), Refused> {
        let audience = &self.audience;
        let Some(token) = shown else {
            let reason = format!(
                "a token is required beside the address: mount a serviceAccountToken of audience {audience}, and send it in Proxy-Authorization"
            );
            let refused = Refused::new(
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                EgressVerdict::NoToken,
                reason,
            );
            return if self.is_required { Err(refused) } else { Ok(()) };
        };
        let bad = || {
            let reason = format!(
                "what Proxy-Authorization shows is no valid token of the pod that calls, for audience {audience}: mount a serviceAccountToken for it, and read its file again when it has changed"
            );
            Refused::new(StatusCode::FORBIDDEN, EgressVerdict::BadToken, reason)
        };
        if !token.claims(pods, audience) {
            return Err(bad());
        }
        let holder = timeout(ANSWERED, self.holder(token, address, workflow)).await;
        match holder.ok().flatten() {
            Some(Some(holder)) if holder.is_one_of(pods, workflow) => Ok(()),
            Some(_) => Err(bad()),
            None => Err(Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                EgressVerdict::BadToken,
                "the API server cannot be asked about the token, or as many are asked about as may be: try again",
            )),
        }
    }

    /// Whose it is; `None`: nobody can tell now.
    async fn holder(&self, token: &Token, address: IpAddr, workflow: &Arc<Workflow>) -> Option<Option<Holder>> {
        let answered = self.answered(&workflow.namespace, token.digest());
        let mut last = answered.lock().await;
        if let Some((_, holder)) = last.as_ref().filter(|last| is_fresh(last)) {
            return Some(holder.clone());
        }
        let _place = self.under_way.take(address, Some(workflow))?;
        match self.review(token).await {
            Some(holder) => {
                if holder.is_none() {
                    sleep(REST).await;
                }
                *last = Some((Instant::now(), holder.clone()));
                Some(holder)
            }
            None => {
                let known = last.as_ref().filter(|(at, _)| at.elapsed() < STALE);
                known.and_then(|(_, holder)| holder.clone()).map(Some)
            }
        }
    }

    /// Asks. `None`: no answer. Errors may hold what was sent, and are not told.
    async fn review(&self, token: &Token) -> Option<Option<Holder>> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token.as_str(), "audiences": [self.audience]},
        });
        let bytes = serde_json::to_vec(&review).ok()?;
        let request = Request::new(REVIEWS).create(&PostParams::default(), bytes).ok()?;
        let answer: Value = self.client.request(request).await.ok()?;
        Some(Holder::read(answer.get("status")?, &self.audience))
    }

    fn answered(&self, namespace: &str, digest: [u8; 32]) -> Answered {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_held = |held: &Held| held.get(namespace).is_some_and(|of| of.contains_key(&digest));
        if !is_held(&held) && held.values().map(HashMap::len).sum::<usize>() >= MAX_HELD {
            make_room(&mut held);
        }
        Arc::clone(held.entry(namespace.to_owned()).or_default().entry(digest).or_default())
    }
}

fn make_room(held: &mut Held) {
    held.retain(|_, of| {
        of.retain(|_, answered| {
            answered
                .try_lock()
                .is_ok_and(|last| last.as_ref().is_some_and(is_fresh))
        });
        !of.is_empty()
    });
    if held.values().map(HashMap::len).sum::<usize>() >= MAX_HELD {
        let most = held.iter().max_by_key(|(_, of)| of.len());
        if let Some(most) = most.map(|(namespace, _)| namespace.clone()) {
            held.remove(&most);
        }
    }
}

fn is_fresh((at, holder): &(Instant, Option<Holder>)) -> bool {
    at.elapsed() < if holder.is_some() { FRESH } else { FRESH_NO }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn answered() -> Answered {
        let holder = Holder::read(&json!({}), "ringfence-egress");
        Arc::new(tokio::sync::Mutex::new(Some((Instant::now(), holder))))
    }

    #[test]
    fn whoever_has_most_answers_loses_its_own() {
        let of = |many: usize| (0..many).map(|number| (digest(number), answered())).collect();
        let mut held = Held::from([("victim".to_owned(), of(10)), ("greedy".to_owned(), of(MAX_HELD - 10))]);
        make_room(&mut held);
        assert_eq!(held.len(), 1);
        assert_eq!(held["victim"].len(), 10);
    }
}
