//! The metrics of messages. Each counter is looked up once, since a look-up costs more than counting.

use std::sync::OnceLock;

use metrics::{Counter, Histogram};

use crate::protocol::MessageKind;

/// The counters of one namespace's adapter. All namespaces add to the same counters.
#[derive(Default)]
pub(super) struct Meters {
    received: OfKind,
    published: OfKind,
    events_sent: OnceLock<Counter>,
    written_directly: OnceLock<Counter>,
    delivery: OnceLock<Histogram>,
    publishing: OnceLock<Histogram>,
}

/// A counter for each kind of message, by the kind's number. There is no kind 0.
type OfKind = [OnceLock<Counter>; MessageKind::ALL.len() + 1];

impl Meters {
    /// Messages of other servers.
    pub(super) fn received(&self, kind: MessageKind) -> &Counter {
        of(&self.received, kind, || metrics::counter!("pgio_messages_received_total", "type" => kind.name()))
    }

    /// Messages to other servers.
    pub(super) fn published(&self, kind: MessageKind) -> &Counter {
        of(
            &self.published,
            kind,
            || metrics::counter!("pgio_messages_published_total", "type" => kind.name()),
        )
    }

    /// Events sent to clients.
    pub(super) fn events_sent(&self) -> &Counter {
        self.events_sent.get_or_init(|| metrics::counter!("pgio_events_sent_total"))
    }

    /// Events that were written to clients without their queues.
    pub(super) fn written_directly(&self) -> &Counter {
        self.written_directly.get_or_init(|| metrics::counter!("pgio_events_written_directly_total"))
    }

    /// The time of the delivery of a message to the clients' sockets and queues, with those in its burst, in seconds.
    pub(super) fn delivery(&self) -> &Histogram {
        self.delivery.get_or_init(|| metrics::histogram!("pgio_delivery_seconds"))
    }

    /// The time of the publication of a message, in seconds.
    pub(super) fn publishing(&self) -> &Histogram {
        self.publishing.get_or_init(|| metrics::histogram!("pgio_publish_seconds"))
    }
}

fn of(counters: &OfKind, kind: MessageKind, make: impl FnOnce() -> Counter) -> &Counter {
    counters[usize::from(kind.number())].get_or_init(make)
}
