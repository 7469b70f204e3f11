//! The checks of a run by name, as docs/guarantees.md refers to them.

use std::fmt;

/// A property that every round is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A fault is detected within its bound: `/readyz` returns 503, or the log warns.
    Noticed,
    /// Everything flows within its bound after Postgres answers again.
    Recovered,
    /// Every event that others publish arrives, while connected and through a stall that heals.
    NothingLost,
    /// Every event that was acknowledged to its sender arrives at every connected receiver.
    AcknowledgedArrives,
    /// No event arrives twice.
    Once,
    /// The events of each sender arrive in order.
    Ordered,
    /// Clients of one node reach each other without Postgres.
    LocalDelivery,
    /// A fault at one node loses no events between the others.
    BystandersSpared,
    /// Inline events do not wait for the attachment table.
    InlinePasses,
    /// Events with an attachment flow again after a fault.
    AttachmentsFlow,
    /// Every request ends by its deadline.
    RequestsEnd,
    /// Every client that requests an acknowledgement gets one.
    SendersAnswered,
    /// All sessions of a node are on one server.
    OneServer,
    /// Memory, file descriptors and sessions return to their first level.
    BackToLevel,
    /// The process of a node lives.
    Alive,
    /// The harness itself failed to inject or observe a fault.
    Harness,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Noticed => "noticed",
            Self::Recovered => "recovered",
            Self::NothingLost => "nothing-lost",
            Self::AcknowledgedArrives => "acknowledged-arrives",
            Self::Once => "once",
            Self::Ordered => "ordered",
            Self::LocalDelivery => "local-delivery",
            Self::BystandersSpared => "bystanders-spared",
            Self::InlinePasses => "inline-passes",
            Self::AttachmentsFlow => "attachments-flow",
            Self::RequestsEnd => "requests-end",
            Self::SendersAnswered => "senders-answered",
            Self::OneServer => "one-server",
            Self::BackToLevel => "back-to-level",
            Self::Alive => "alive",
            Self::Harness => "harness",
        })
    }
}

/// A failed check, with the observation.
#[derive(Clone, Debug)]
pub struct Broken {
    pub check: Check,
    pub seen: String,
}

impl Broken {
    pub fn new(check: Check, seen: impl Into<String>) -> Self {
        Self { check, seen: seen.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.seen)
    }
}
