//! The routes (pairs of a sender and a receiver) that count for each member of the cluster.

use super::ledger::{Pair, Receiver, Sender};

/// A member of the cluster with a row in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// pgio node A, which the faults hit.
    A,
    /// The Node server with adapter 0.5.0, which the same faults hit.
    Node05,
    /// pgio node B and the programs that speak to Postgres directly: no fault hits only their connections.
    Bystanders,
}

/// The routes to the member, and those from it to members that no fault hits alone.
#[derive(Clone, Debug)]
pub struct Routes {
    pub receiving: Vec<Pair>,
    pub sending: Vec<Pair>,
}

impl Routes {
    pub fn all(&self) -> impl Iterator<Item = Pair> {
        self.receiving.iter().chain(&self.sending).copied()
    }

    /// The routes that tell a moment: not those of `pgio emit`, as one process for each event is too slow.
    pub fn timed(&self) -> impl Iterator<Item = Pair> {
        self.all().filter(|(sender, _)| *sender != Sender::Cli)
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

/// The members that a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The victims' connections, or the victims themselves.
    Victims,
    /// Everyone. Then nothing is expected of the Node servers, also not that they come back. Neither of `pgio emit`: after
    /// a failover each new process takes the first primary that there is.
    Everyone,
}

impl Member {
    /// The routes of its inline events that are judged under a fault.
    pub fn inline(self, reach: Reach) -> Routes {
        use {Receiver as R, Sender as S};
        let everyone = reach == Reach::Everyone;
        match self {
            Self::A if everyone => Routes {
                receiving: pairs(&[S::B, S::Emitter], &[R::A]),
                sending: pairs(&[S::A], &[R::B, R::Tail, R::Witness]),
            },
            Self::A => Routes {
                receiving: pairs(&[S::B, S::Emitter, S::Cli, S::Node03], &[R::A]),
                sending: pairs(&[S::A], &[R::B, R::Node03, R::Tail, R::Witness]),
            },
            Self::Node05 if everyone => Routes {
                receiving: pairs(&[S::Emitter], &[R::Node05]),
                sending: pairs(&[S::Node05], &[R::Witness]),
            },
            Self::Node05 => Routes {
                receiving: pairs(&[S::B, S::Emitter, S::Cli], &[R::Node05]),
                sending: pairs(&[S::Node05], &[R::B, R::Node03, R::Tail]),
            },
            Self::Bystanders if everyone => Routes {
                receiving: pairs(&[S::Emitter], &[R::B, R::Tail]),
                sending: pairs(&[S::B], &[R::Tail, R::Witness]),
            },
            Self::Bystanders => Routes {
                receiving: pairs(&[S::Emitter, S::Cli, S::Node03], &[R::B, R::Tail]),
                sending: pairs(&[S::B], &[R::Node03, R::Tail]),
            },
        }
    }

    /// The routes of its events with an attachment.
    pub fn files(self) -> Routes {
        use {Receiver as R, Sender as S};
        match self {
            Self::A => Routes {
                receiving: pairs(&[S::EmitterFiles], &[R::A]),
                sending: pairs(&[S::AFiles], &[R::B, R::Tail]),
            },
            Self::Node05 => Routes {
                receiving: pairs(&[S::EmitterFiles], &[R::Node05]),
                sending: pairs(&[S::Node05Files], &[R::B, R::Tail]),
            },
            Self::Bystanders => {
                Routes { receiving: pairs(&[S::EmitterFiles], &[R::B, R::Tail]), sending: Vec::new() }
            }
        }
    }
}

/// The route between two clients of node A, which does not need Postgres.
pub const LOCAL: Pair = (Sender::A, Receiver::LocalA);
