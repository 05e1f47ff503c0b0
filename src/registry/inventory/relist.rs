//! A list of one kind in the making, a page at a time, while what was listed before is still followed.
//!
//! Must never: keep a watch from being read: one namespace's objects may be so many and so large that a list takes minutes.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::ask::{Failure, Listing, Page, Served};
use super::follow::Views;
use super::held::Held;
use super::{Kind, Shared};

/// A list that is not whole yet.
pub(super) struct Relist<'a> {
    /// What is asked for.
    pub(super) views: Views,
    held: Held,
    page: BoxFuture<'a, (Listing<'a>, Result<Page, Failure>)>,
}

/// A whole list.
pub(super) struct Listed {
    pub(super) held: Held,
    /// What a watch goes on from.
    pub(super) version: String,
}

/// How far a list has come with a page.
pub(super) enum Step<'a> {
    Further(Relist<'a>),
    Whole(Listed),
}

impl<'a> Relist<'a> {
    pub(super) fn begin(shared: &'a Shared, kind: &'a Kind, served: &Served, views: Views) -> Self {
        let held = Held::new(kind, &views, served.namespaced, shared.budget.of_one());
        let listing = Listing::new(&shared.client, &shared.pages, kind, served.clone());
        Self {
            views,
            held,
            page: page(listing, None),
        }
    }

    /// What its objects weigh until now.
    pub(super) fn weight(&self) -> usize {
        self.held.weight()
    }

    /// Waits for the next page, which [`Self::take`] takes then. Ended early it can be called again.
    pub(super) async fn next(&mut self) -> (Listing<'a>, Result<Page, Failure>) {
        (&mut self.page).await
    }

    /// Takes in a page that has come.
    pub(super) fn take(
        mut self,
        (listing, page_read): (Listing<'a>, Result<Page, Failure>),
    ) -> Result<Step<'a>, Failure> {
        let Page { items, next, version } = page_read?;
        for object in &items {
            self.held.put(self.held.prune(object)?)?;
        }
        match next {
            Some(next) => {
                self.page = page(listing, Some(next));
                Ok(Step::Further(self))
            }
            None if version.is_empty() => Err(Failure::lost("its list has no version to watch from")),
            None => Ok(Step::Whole(Listed {
                held: self.held,
                version,
            })),
        }
    }
}

fn page(mut listing: Listing<'_>, next: Option<String>) -> BoxFuture<'_, (Listing<'_>, Result<Page, Failure>)> {
    async move {
        let page = listing.page(next.as_deref()).await;
        (listing, page)
    }
    .boxed()
}
