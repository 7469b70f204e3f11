//! A subscription to namespaces.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::oneshot;

use super::driver::{Command, Dropped, Reaper};
use super::state::SubscriptionId;
use super::{Cluster, Event};
use crate::postgres::lossy_queue::{Next, Reader, lossy_queue};
use crate::protocol::{Channel, Header, Namespace};
use crate::{Error, Result};

/// The bound of the queue of one subscriber, in bytes.
const SUBSCRIBER_BYTES: usize = 256 << 20;

/// A reader of the messages of some namespaces, in the order in which Postgres delivered them.
///
/// There is no backpressure on Postgres: if the reader is too slow for its queue (256 MiB), messages are dropped, and
/// [`Event::Missed`] counts them. Dropping it ends the subscription. It is a [`Stream`] as well.
pub struct Subscription {
    pub(super) events: Reader<Event>,
    pub(super) _guard: SubscriptionGuard,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Cluster {
    /// Subscribes to namespaces. Returns when Postgres has confirmed it, also if Postgres is unreachable at first. After
    /// that no message is missed without [`Event::Lost`] or [`Event::Missed`]. Durable events that were sent between `Lost`
    /// and [`Event::Restored`] are replayed before live messages, once each and in the order of their ids.
    ///
    /// `wants` is a filter on the header of each message (`None` if the header is not readable). It runs before the rest of
    /// the message is decoded, and attachments that no filter accepts are not looked up. It runs on the driver's task, so
    /// it must not block.
    ///
    /// # Errors
    /// [`Error::Connect`] if the first listening connection cannot be opened; [`Error::Namespace`];
    /// [`Error::TableShape`] if the attachment table is another table; [`Error::Database`] if the server refuses LISTEN, as
    /// a standby does.
    pub async fn subscribe<N: Into<Namespace>>(
        &self,
        namespaces: impl IntoIterator<Item = N>,
        wants: impl Fn(Option<&Header>) -> bool + Send + Sync + 'static,
    ) -> Result<Subscription> {
        let prefix = &self.0.options.channel_prefix;
        let channels = namespaces.into_iter().map(|nsp| nsp.into().channel(prefix)).collect::<Result<_>>()?;
        self.subscribe_to(channels, wants, true).await
    }

    /// The same for one namespace, without the text of the notifications: in a queue it takes half of the memory.
    #[cfg(feature = "adapter")]
    pub(crate) async fn subscribe_without_text(
        &self,
        nsp: &Namespace,
        wants: impl Fn(Option<&Header>) -> bool + Send + Sync + 'static,
    ) -> Result<Subscription> {
        let channel = nsp.channel(&self.0.options.channel_prefix)?;
        self.subscribe_to(vec![channel], wants, false).await
    }

    /// The same for channels, also for those without a namespace. `wants_text` is false if the texts are never read.
    pub(super) async fn subscribe_to(
        &self,
        channels: Vec<Channel>,
        wants: impl Fn(Option<&Header>) -> bool + Send + Sync + 'static,
        wants_text: bool,
    ) -> Result<Subscription> {
        let driver = self.driver().await?;
        let id = SubscriptionId(self.0.next_subscription.fetch_add(1, Ordering::Relaxed));
        let (writer, events) = lossy_queue(SUBSCRIBER_BYTES);
        let guard = SubscriptionGuard { id, reaper: driver.reaper.clone() };
        // Declared after the guard, and so dropped before it: the driver ignores a subscription whose caller has stopped
        // waiting.
        let (confirmation, confirmed) = oneshot::channel();
        let interest = Box::new(wants);
        let subscribe =
            Command::Subscribe { id, channels, interest, wants_text, events: writer, confirmation };
        driver.send(subscribe).await?;
        confirmed.await.unwrap_or(Err(Error::Closed))?;
        Ok(Subscription { events, _guard: guard })
    }
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
