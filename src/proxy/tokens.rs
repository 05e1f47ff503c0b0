//! Tokens that pods show, asked about at the API server: a caller is known by its address and, where it shows one, by its token too.
//!
//! Must never: log a token or keep one, take an answer that did not come for a yes, or let a pod have the API server asked as often as it likes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
/// How long the API server may take, whoever else waits for the same answer included; and for one question. Whose node is dead answers nothing
/// at all, and that must be found out in time to go by what it said before.
const ANSWERED: Duration = Duration::from_secs(5);
const REVIEWED: Duration = Duration::from_secs(3);
/// How long its yes holds, and its no. Where it cannot be asked, a yes goes on for longer: the token is of a pod that still has its address.
const FRESH: Duration = Duration::from_secs(60);
const FRESH_NO: Duration = Duration::from_secs(5);
const STALE: Duration = Duration::from_secs(3600);
/// How long it is not asked again about a yes of which it said nothing: every connection would wait for its silence.
const UNANSWERED: Duration = Duration::from_secs(5);
/// How long whoever shows a token that is none waits: it asks no more often than this allows.
const REST: Duration = Duration::from_secs(1);
/// How many are asked about at a time, and of one address.
const UNDER_WAY: Most = Most {
    all: 64,
    of_one: 4,
    of_strangers: 0,
};
/// How many answers are held. A pod makes up as many tokens as it likes: beyond it, what is no yes goes first.
const MAX_HELD: usize = 4096;

/// What the API server says of a token. Whoever waits for it asks nothing.
#[derive(Default)]
struct Answered {
    asking: tokio::sync::Mutex<()>,
    last: Mutex<Last>,
}

/// What it said last, and when it was asked and said nothing.
#[derive(Default)]
struct Last {
    answer: Option<(Instant, Option<Holder>)>,
    unanswered: Option<Instant>,
}

/// By digest, of each namespace by itself.
type Held = HashMap<String, HashMap<[u8; 32], Arc<Answered>>>;

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
        match self.holder(token, address, workflow).await {
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
        let asked = timeout(ANSWERED, self.ask(&answered, token, address, workflow)).await;
        let asked = asked.ok().flatten();
        asked.or_else(|| answered.last().yes().map(|(_, holder)| Some(holder.clone())))
    }

    /// `None`: no answer, or as many are asked about as may be.
    async fn ask(
        &self,
        answered: &Answered,
        token: &Token,
        address: IpAddr,
        workflow: &Arc<Workflow>,
    ) -> Option<Option<Holder>> {
        let _asking = answered.asking.lock().await;
        if let Some(holder) = answered.last().known() {
            return Some(holder);
        }
        let _place = self.under_way.take(address, Some(workflow))?;
        let holder = timeout(REVIEWED, self.review(token)).await.ok().flatten();
        let Some(holder) = holder else {
            answered.last().unanswered = Some(Instant::now());
            return None;
        };
        // Before the rest, in which whoever waits may be gone: no yes of before counts against a no.
        *answered.last() = Last {
            answer: Some((Instant::now(), holder.clone())),
            unanswered: None,
        };
        if holder.is_none() {
            sleep(REST).await;
        }
        Some(holder)
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

    fn answered(&self, namespace: &str, digest: [u8; 32]) -> Arc<Answered> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_held = |held: &Held| held.get(namespace).is_some_and(|of| of.contains_key(&digest));
        if !is_held(&held) && count(&held) >= MAX_HELD {
            make_room(&mut held);
        }
        Arc::clone(held.entry(namespace.to_owned()).or_default().entry(digest).or_default())
    }
}

impl Answered {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn yes_since(&self) -> Option<Instant> {
        self.last().yes().map(|(at, _)| at)
    }
}

impl Last {
    /// What need not be asked again now.
    fn known(&self) -> Option<Option<Holder>> {
        let (at, holder) = self.answer.as_ref()?;
        let is_silent = self.unanswered.is_some_and(|at| at.elapsed() < UNANSWERED);
        let holds = match holder {
            None => FRESH_NO,
            Some(_) if is_silent => STALE,
            Some(_) => FRESH,
        };
        (at.elapsed() < holds).then(|| holder.clone())
    }

    /// The yes that counts where nobody can be asked. A pod may see to that for itself, by taking its places: it wins an hour for a token that was
    /// its own, and that others cannot use.
    fn yes(&self) -> Option<(Instant, &Holder)> {
        let (at, holder) = self.answer.as_ref()?;
        let holder = holder.as_ref().filter(|_| at.elapsed() < STALE)?;
        Some((*at, holder))
    }
}

fn count(held: &Held) -> usize {
    held.values().map(HashMap::len).sum()
}

/// A yes costs the API server's word, and cannot be had again while it is away: whoever makes tokens up must cost nobody else one. So what is no
/// yes goes first, unless somebody waits for it; then the older half of whoever has most.
fn make_room(held: &mut Held) {
    held.retain(|_, of| {
        of.retain(|_, answered| answered.yes_since().is_some() || Arc::strong_count(answered) > 1);
        !of.is_empty()
    });
    if count(held) < MAX_HELD {
        return;
    }
    let Some(most) = held.values_mut().max_by_key(|of| of.len()) else {
        return;
    };
    // What is no yes is older than any.
    let mut since: Vec<_> = most.values().map(|answered| answered.yes_since()).collect();
    since.sort_unstable();
    let middle = since.get(since.len() / 2).copied().flatten();
    most.retain(|_, answered| answered.yes_since() > middle);
}

#[cfg(test)]
mod tests;
