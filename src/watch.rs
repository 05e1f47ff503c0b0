//! How every watch of Ringfence is asked for.
//!
//! A connection whose other end is gone is quiet, as a watch is where nothing happens; so each is ended by the API server after a minute and
//! asked for again from where it was, and one that outlives that is given up. Must never: be longer than a fence may stand open unseen.

use std::future::ready;

use futures::{Stream, StreamExt};
use kube::api::ListParams;
use kube::core::Request;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use tracing::warn;

/// After how long the API server ends a watch, in seconds. The watcher gives it five more.
pub const SECONDS: u32 = 60;

/// A watch of everything, to be narrowed.
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(SECONDS)
}

/// Events through failures, each of which makes this watch wait for longer, and no other one. A controller waits for all of its watches where
/// one of them fails: a dozen that had failed together were half a minute late each, one after the other.
pub fn lasting<K: Resource<DynamicType = ()> + Send>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    events.default_backoff().filter_map(|event| {
        ready(match event {
            Ok(event) => Some(Ok(event)),
            Err(error) => {
                warn!(kind = %K::kind(&()), %error, "a watch failed, and begins again");
                None
            }
        })
    })
}

/// Fails where a kind cannot be listed. What the list holds nobody reads: whoever may write one object could make it such that nobody can.
pub async fn can_be_listed<K: Resource<DynamicType = ()>>(client: &Client) -> kube::Result<()> {
    let one = ListParams::default().limit(1);
    let request = Request::new(K::url_path(&(), None)).list_metadata(&one);
    let request = request.map_err(kube::Error::BuildRequest)?;
    client.request_text(request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    #[tokio::test]
    async fn a_watch_that_fails_holds_up_no_other() {
        let fails = || Err(watcher::Error::NoResourceVersion);
        let failing = futures::stream::iter((0..50).map(move |_| fails())).chain(futures::stream::pending());
        let sound = futures::stream::iter((0..50).map(|_| Ok(Event::Apply(Node::default()))));
        let all = [lasting(failing.boxed()).boxed(), lasting(sound.boxed()).boxed()];
        let told = futures::stream::select_all(all).take(50).collect::<Vec<_>>();
        // At once: nothing is waited for.
        let told = told.now_or_never().expect("the other watch to be heard");
        assert!(told.iter().all(Result::is_ok));
    }
}
