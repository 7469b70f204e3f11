//! One reader of the cluster's traffic.

use std::sync::Weak;

use super::Event;
use super::hub::Switchboard;
use crate::postgres::backlog::{Next, Reader};
use crate::protocol::{Channel, Header};

/// A reader of the messages of some namespaces, in the order in which Postgres delivered them.
///
/// A reader who is too slow for its backlog (256 MiB) is told how much it missed; it never makes Postgres wait.
/// Dropping it ends the subscription.
pub struct Subscription {
    pub(super) events: Reader<Event>,
    pub(super) _place: Place,
}

/// A subscriber's place at the switchboard.
pub(super) struct Place {
    pub(super) id: u64,
    pub(super) channels: Vec<Channel>,
    pub(super) switchboard: Weak<Switchboard>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(switchboard) = self.switchboard.upgrade() {
            switchboard.leave(self.id, &self.channels);
        }
    }
}

impl Subscription {
    /// Waits for what comes next; `None` once the cluster's handle is gone.
    pub async fn next(&mut self) -> Option<Event> {
        Some(flatten(self.events.next().await?))
    }

    /// What is there already, without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        Some(flatten(self.events.try_next()?))
    }
}

fn flatten(next: Next<Event>) -> Event {
    match next {
        Next::Item(event) => event,
        Next::Missed(count) => Event::Missed(count),
    }
}

/// What a subscriber wants to see of.
pub(super) type Wants = Box<dyn Fn(Option<&Header>) -> bool + Send + Sync>;
