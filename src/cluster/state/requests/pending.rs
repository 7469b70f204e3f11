//! One pending request: its stage, and the progress of each peer that it waits for.

use std::collections::HashMap;
use std::time::Instant;

use crate::cluster::state::Summary;
use crate::cluster::state::listening::AwaitedServers;
use crate::cluster::state::peers::MAX_PEERS_PER_REQUEST;
use crate::protocol::{Channel, Message, MessageKind, Uid};

/// The progress of one peer: its promised and received answers.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether the request waits for it.
    pub(super) is_awaited: bool,
    /// Whether it has sent its goodbye (adapter close). Its earlier messages may still arrive after that.
    pub(super) has_said_goodbye: bool,
    pub(super) promised: Option<u64>,
    pub(super) received: u64,
}

impl Progress {
    pub(super) fn is_complete(&self) -> bool {
        self.promised.is_some_and(|promised| self.received >= promised)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The server has not confirmed the channel yet.
    Subscribing,
    /// The messages are being published.
    Publishing,
    /// It waits for answers.
    Waiting,
}

pub(super) struct Pending {
    pub(super) channel: Channel,
    pub(super) stage: Stage,
    /// The message to publish, until it is published.
    pub(super) unsent: Option<Message>,
    pub(super) sender: Uid,
    pub(super) wants: MessageKind,
    pub(super) deadline: (Instant, u64),
    /// Whether the request itself was received (loopback): every message committed before it was received as well.
    pub(super) loopback_received: bool,
    /// Whether the messages before the request are delivered as well.
    pub(super) loopback_delivered: bool,
    /// Until when peers that answer the discovery count as well.
    pub(super) discovery_until: Option<(Instant, u64)>,
    /// When the discovery started: the arrival of the loopback.
    pub(super) discovery_started_at: Option<Instant>,
    pub(super) knew_peers: bool,
    /// Whether its peers were known when it was sent, before its initial heartbeat.
    pub(super) knew_peers_before: bool,
    /// Whether messages may have been lost since it was sent.
    pub(super) was_interrupted: bool,
    pub(super) peers: HashMap<Uid, Progress>,
    /// The number of peers that the request still waits for.
    pub(super) awaited: usize,
    /// The servers that listen, if it waits for all of them.
    pub(super) servers: Option<AwaitedServers>,
}

impl Pending {
    /// The progress of a peer. `None` if there are too many peers, as with forged uids.
    pub(super) fn progress(&mut self, uid: &Uid) -> Option<&mut Progress> {
        if self.peers.len() >= MAX_PEERS_PER_REQUEST && !self.peers.contains_key(uid) {
            self.knew_peers = false;
            return None;
        }
        Some(self.peers.entry(uid.clone()).or_default())
    }

    /// Whether a message of that kind may be an answer to it.
    pub(super) fn is_answered_by(&self, kind: MessageKind) -> bool {
        self.wants == kind
            || (self.wants == MessageKind::BroadcastAck && kind == MessageKind::BroadcastClientCount)
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Waiting
            && self.loopback_delivered
            && self.awaited == 0
            && self.discovery_until.is_none()
            && self.servers.as_ref().is_none_or(AwaitedServers::are_all_heard)
    }

    pub(super) fn summary(&self) -> Summary {
        let mut silent: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, progress)| progress.is_awaited)
            .map(|(uid, _)| uid.clone())
            .collect();
        silent.sort();
        let missing = |progress: &Progress| match progress.promised {
            Some(promised) => promised.saturating_sub(progress.received),
            None => u64::from(progress.is_awaited),
        };
        Summary {
            missing: self.peers.values().map(missing).fold(0, u64::saturating_add),
            expected: self
                .peers
                .values()
                .map(|progress| progress.promised.unwrap_or(progress.received))
                .sum(),
            nodes: self.peers.values().filter(|progress| progress.is_complete()).count(),
            silent,
            unresponsive: self.servers.as_ref().map(AwaitedServers::unresponsive).unwrap_or_default(),
            knew_peers: self.knew_peers && self.loopback_delivered && self.discovery_until.is_none(),
        }
    }
}
