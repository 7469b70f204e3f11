//! A subscription to namespaces.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::Event;
use super::driver::{Dropped, Reaper};
use super::state::SubscriptionId;
use crate::postgres::lossy_queue::{Next, Reader};

/// A reader of the messages of some namespaces, in the order in which Postgres delivered them.
///
/// There is no backpressure on Postgres: if the reader is too slow for its queue (256 MiB), messages are dropped, and
/// [`Event::Missed`] counts them. Dropping it ends the subscription. It is a [`Stream`] as well.
pub struct Subscription {
    pub(super) events: Reader<Event>,
    pub(super) _guard: SubscriptionGuard,
}

/// Reports to the driver when a subscription is dropped.
pub(super) struct SubscriptionGuard {
    pub(super) id: SubscriptionId,
    pub(super) reaper: Reaper,
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        self.reaper.add(Dropped::Subscription(self.id));
    }
}

impl Subscription {
    /// Its number.
    #[cfg(feature = "adapter")]
    pub(crate) fn id(&self) -> SubscriptionId {
        self._guard.id
    }

    /// Waits for the next event; `None` after the cluster's handle is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        Some(flatten(self.events.next().await?))
    }

    /// The next queued event, without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        Some(flatten(self.events.try_next()?))
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next(context).map(|next| next.map(flatten))
    }
}

fn flatten(next: Next<Event>) -> Event {
    match next {
        Next::Item(event) => event,
        Next::Missed(count) => Event::Missed(count),
    }
}
