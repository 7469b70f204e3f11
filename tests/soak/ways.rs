//! Which pairs of a sender and a receiver count for which member of the cluster.

use super::ledger::{Pair, Receiver, Sender};

/// A member of the cluster with a row in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// pgio node A, which the faults hit.
    A,
    /// The Node server with adapter 0.5.0, which the same faults hit.
    Node05,
    /// pgio node B and all who speak to Postgres directly: no fault hits their connections alone.
    Bystanders,
}

/// What reaches the member, and what it sends to those whom no fault hits.
#[derive(Clone, Debug)]
pub struct Ways {
    pub receiving: Vec<Pair>,
    pub sending: Vec<Pair>,
}

impl Ways {
    pub fn all(&self) -> impl Iterator<Item = Pair> {
        self.receiving.iter().chain(&self.sending).copied()
    }
}

fn pairs(senders: &[Sender], receivers: &[Receiver]) -> Vec<Pair> {
    let pairs = senders.iter().flat_map(|sender| receivers.iter().map(|receiver| (*sender, *receiver)));
    pairs.filter(|pair| hears(*pair)).collect()
}

/// Whether the protocol brings this sender's events to this receiver at all.
fn hears(pair: Pair) -> bool {
    match pair {
        // A client does not get its own events.
        (Sender::A | Sender::AFiles, Receiver::A) | (Sender::B, Receiver::B) => false,
        // Adapter 0.5.0 drops what 0.3.1 sends.
        (Sender::Node03, Receiver::Node05) => false,
        _ => true,
    }
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The victims' connections, or the victims themselves.
    Victims,
    /// Everyone. Then nothing is expected of the Node servers, also not that they come back. Neither of `pgio emit`: after
    /// a failover each new process takes the first primary that there is.
    Everyone,
}

impl Member {
    /// The ways of its inline events that are judged under a fault.
    pub fn inline(self, reach: Reach) -> Ways {
        use {Receiver as R, Sender as S};
        let everyone = reach == Reach::Everyone;
        match self {
            Self::A if everyone => Ways {
                receiving: pairs(&[S::B, S::Emitter], &[R::A]),
                sending: pairs(&[S::A], &[R::B, R::Tail, R::Witness]),
            },
            Self::A => Ways {
                receiving: pairs(&[S::B, S::Emitter, S::Cli, S::Node03], &[R::A]),
                sending: pairs(&[S::A], &[R::B, R::Node03, R::Tail, R::Witness]),
            },
            Self::Node05 if everyone => Ways {
                receiving: pairs(&[S::Emitter], &[R::Node05]),
                sending: pairs(&[S::Node05], &[R::Witness]),
            },
            Self::Node05 => Ways {
                receiving: pairs(&[S::B, S::Emitter, S::Cli], &[R::Node05]),
                sending: pairs(&[S::Node05], &[R::B, R::Node03, R::Tail]),
            },
            Self::Bystanders if everyone => Ways {
                receiving: pairs(&[S::Emitter], &[R::B, R::Tail]),
                sending: pairs(&[S::B], &[R::Tail, R::Witness]),
            },
            Self::Bystanders => Ways {
                receiving: pairs(&[S::Emitter, S::Cli, S::Node03], &[R::B, R::Tail]),
                sending: pairs(&[S::B], &[R::Node03, R::Tail]),
            },
        }
    }

    /// The ways of its events with an attachment.
    pub fn files(self) -> Ways {
        use {Receiver as R, Sender as S};
        match self {
            Self::A => Ways {
                receiving: pairs(&[S::EmitterFiles], &[R::A]),
                sending: pairs(&[S::AFiles], &[R::B, R::Tail]),
            },
            Self::Node05 => Ways {
                receiving: pairs(&[S::EmitterFiles], &[R::Node05]),
                sending: pairs(&[S::Node05Files], &[R::B, R::Tail]),
            },
            Self::Bystanders => {
                Ways { receiving: pairs(&[S::EmitterFiles], &[R::B, R::Tail]), sending: Vec::new() }
            }
        }
    }
}

/// What a client of A receives of another client of A, whatever Postgres does.
pub const LOCAL: Pair = (Sender::A, Receiver::LocalA);
