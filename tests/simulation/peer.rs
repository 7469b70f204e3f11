//! A model of one adapter of a Node server, or of pgio: one namespace of one server.

use std::collections::BTreeMap;

use pgio::protocol::MessageKind;

use crate::trace::SECOND;
use crate::wire::{Says, Version};

/// The interval between the heartbeats of an adapter.
pub const HEARTBEAT_INTERVAL: u64 = 5 * SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It has not published anything yet.
    Starting,
    Live,
    /// Its process does nothing for a while: what arrives waits.
    Frozen,
    /// It stopped without a word.
    Stopped,
    /// It has published its goodbye.
    Closed,
}

pub struct Peer {
    pub uid: String,
    pub version: Version,
    pub channel: usize,
    pub life: Life,
    pub session: Option<usize>,
    /// The messages that arrived while it was frozen, and its pending messages.
    pub backlog: Vec<usize>,
    pub unsaid: Vec<(Says, bool)>,
    pub heartbeat_at: u64,
    /// How many clients it has, and how many of them answer.
    pub clients: u64,
    pub answering: u64,
    pub handles_server_events: bool,
    /// Since when it lives, listens and does not freeze.
    pub healthy_since: Option<u64>,
    /// Its first message in the order of commits.
    pub started: Option<usize>,
    pub last_commit: u64,
    /// When its last long silence ended.
    pub gap_end: u64,
    pub stopped_at: Option<u64>,
    /// The machine under test that it is a node of, and in which of its lives. Others are models.
    pub member: Option<(usize, u32)>,
    /// The time of the last message of each other peer, in a Node server.
    pub counts: BTreeMap<usize, u64>,
    /// The time of its initial heartbeat.
    pub hello_at: Option<u64>,
    /// Whether its process ended while all saw it live by its lock.
    pub was_quiet: bool,
    /// The session that the server still knows though its process has ended.
    pub kept_by: Option<usize>,
    /// When the server dropped the session of a process that ended.
    pub dropped_at: Option<u64>,
}

impl Peer {
    pub fn new(uid: String, version: Version, channel: usize) -> Self {
        Self {
            uid,
            version,
            channel,
            life: Life::Starting,
            session: None,
            backlog: Vec::new(),
            unsaid: Vec::new(),
            heartbeat_at: 0,
            clients: 0,
            answering: 0,
            handles_server_events: false,
            healthy_since: None,
            started: None,
            last_commit: 0,
            gap_end: 0,
            stopped_at: None,
            member: None,
            counts: BTreeMap::new(),
            hello_at: None,
            was_quiet: false,
            kept_by: None,
            dropped_at: None,
        }
    }

    /// What it answers, and how long after: the number is the longest time in microseconds.
    pub fn reactions(&self, says: &Says, sender: &str, says_nsp: bool) -> Vec<(Says, u64)> {
        let Some(kind) = says.kind() else { return Vec::new() };
        if sender == self.uid || !self.version.minds(kind, says_nsp) {
            return Vec::new();
        }
        let prompt = 20_000;
        match says {
            // The machine answers.
            Says::InitialHeartbeat if self.member.is_some() => Vec::new(),
            Says::InitialHeartbeat => vec![(Says::Heartbeat, prompt)],
            Says::FetchSockets { request } => vec![(Says::Sockets { request: request.clone() }, prompt)],
            Says::ServerSideEmit { request: Some(request), .. } if self.handles_server_events => {
                vec![(Says::Answer { request: request.clone() }, SECOND)]
            }
            Says::Broadcast { request: Some(request), .. } => {
                let count = Says::ClientCount { request: request.clone(), count: self.clients };
                let acks = (0..self.answering)
                    .map(|number| (Says::Ack { request: request.clone(), number }, 3 * SECOND));
                std::iter::once((count, prompt)).chain(acks).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether what it says counts as a heartbeat to itself: answers of 0.4 and later do not.
    pub fn restarts_timer(&self, kind: Option<MessageKind>) -> bool {
        use MessageKind::*;
        self.version == Version::V03
            || !matches!(
                kind,
                Some(FetchSocketsResponse | ServerSideEmitResponse | BroadcastClientCount | BroadcastAck)
            )
    }
}
