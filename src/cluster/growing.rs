//! A subscription to namespaces, to which more namespaces can be added while it is read.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::timeout;

use super::{Cluster, Event, Subscription};
use crate::protocol::{Header, Namespace};
use crate::{Error, Result};

/// The timeout for the confirmation of added namespaces.
const ADD_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of namespaces.
const MAX_NAMESPACES: usize = 10_000;

type Filter = Arc<dyn Fn(Option<&Header>) -> bool + Send + Sync>;

/// Reads some namespaces. The messages of each namespace are in order. A lost connection is reported once.
pub(crate) struct GrowingSubscription {
    cluster: Cluster,
    filter: Filter,
    namespaces: BTreeSet<Namespace>,
    /// One subscription for each call that added namespaces.
    parts: Vec<Subscription>,
    /// The part that is read first the next time (round robin).
    next_part: usize,
}

impl GrowingSubscription {
    /// Subscribes to some namespaces, or to none yet.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`].
    pub(crate) async fn start(
        cluster: &Cluster,
        namespaces: &[Namespace],
        filter: impl Fn(Option<&Header>) -> bool + Send + Sync + 'static,
    ) -> Result<Self> {
        let (cluster, filter) = (cluster.clone(), Arc::new(filter));
        let mut growing =
            Self { cluster, filter, namespaces: BTreeSet::new(), parts: Vec::new(), next_part: 0 };
        if !namespaces.is_empty() {
            growing.subscribe(namespaces).await?;
        }
        Ok(growing)
    }

    async fn subscribe(&mut self, namespaces: &[Namespace]) -> Result<()> {
        let filter = self.filter.clone();
        self.parts.push(self.cluster.subscribe(namespaces, move |header| filter(header)).await?);
        self.namespaces.extend(namespaces.iter().cloned());
        Ok(())
    }

    /// The namespaces that are read.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter()
    }

    /// Subscribes to those of these namespaces that are not read yet, and returns them.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`], and [`Error::ConnectionLost`] where Postgres does not confirm it within
    /// five seconds.
    pub(crate) async fn add(&mut self, namespaces: &[Namespace]) -> Result<Vec<Namespace>> {
        let new: BTreeSet<_> = namespaces.iter().filter(|nsp| !self.namespaces.contains(*nsp)).collect();
        let room = MAX_NAMESPACES.saturating_sub(self.namespaces.len());
        let new: Vec<_> = new.into_iter().take(room).cloned().collect();
        if !new.is_empty() {
            let added = timeout(ADD_TIMEOUT, self.subscribe(&new)).await;
            added
                .map_err(|_| Error::ConnectionLost("added namespaces were not confirmed in time".into()))??;
        }
        Ok(new)
    }

    /// Waits for the next event; `None` after the cluster's handle is dropped. Waits forever while there is no namespace.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| {
            for index in self.order() {
                // The first part reports a lost connection for all parts.
                while let Some(Poll::Ready(event)) =
                    self.parts.get_mut(index).map(|part| Pin::new(part).poll_next(context))
                {
                    if index > 0 && event.as_ref().is_some_and(is_about_connection) {
                        continue;
                    }
                    self.next_part = index + 1;
                    return Poll::Ready(event);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next queued event, without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        for index in self.order() {
            while let Some(event) = self.parts.get_mut(index).and_then(Subscription::try_next) {
                if index == 0 || !is_about_connection(&event) {
                    self.next_part = index + 1;
                    return Some(event);
                }
            }
        }
        None
    }

    /// All parts, from the next turn on.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, next_part) = (self.parts.len(), self.next_part);
        (0..count).map(move |step| (next_part + step) % count)
    }
}

/// Whether every subscription of the process gets the event, since the connection is the same.
fn is_about_connection(event: &Event) -> bool {
    match event {
        Event::Lost(_) | Event::Restored(_) | Event::Stalled | Event::Resumed(_) => true,
        Event::Message(_) | Event::Missed(_) => false,
    }
}
