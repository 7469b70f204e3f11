//! Which peers of a channel are live, by when each was last heard.
//!
//! As in Node, whatever a peer publishes counts as a heartbeat, and an emitter never counts as a peer. Invariant: the
//! peers are called known only when every live one must have been heard: after a heartbeat timeout without a gap, or
//! [`DISCOVERY`] after an initial heartbeat, which every version answers at once.
//!
//! Anybody who may publish can do so under any number of names, so the peers are bounded: those that were there first
//! stay, further ones are not counted, and the peers are not called known until a heartbeat timeout after the last of these.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::requests::DISCOVERY;
use crate::protocol::{Header, MessageKind, Uid};

/// How many peers of one channel are counted.
pub(super) const MAX_PEERS: usize = 1024;

/// How long the uid of a peer may be, in bytes. That of Node has 16.
const MAX_UID_BYTES: usize = 64;

/// A peer that is live in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its adapter's uid.
    pub uid: Uid,
    /// When it was last heard.
    pub last_heard: Instant,
    /// Whether its messages name their namespace.
    pub nsp_support: NspSupport,
}

/// Whether a sender's messages name their namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NspSupport {
    /// They do not, as those of adapter 0.3.
    WithoutNsp,
    /// They do, as those of adapter 0.4 and later.
    WithNsp,
}

impl NspSupport {
    pub(super) fn of(says_nsp: bool) -> Self {
        if says_nsp { Self::WithNsp } else { Self::WithoutNsp }
    }
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    nsp_support: NspSupport,
    /// Whether it has said more than that it starts.
    has_settled: bool,
}

/// What a message changes in who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// A peer has just started.
    Started,
    /// A peer was there before, and is heard for the first time, or for the first time after it counted as gone.
    Found,
    /// A peer that has started says its second message.
    Settled,
    /// A peer said goodbye.
    Left,
    /// A peer is not counted, as there are too many or its uid is too long.
    Uncounted,
}

/// The peers of one channel.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// From when on every live peer must have been heard; `None` while the channel is not listened to, and while the
    /// connection is lost or silent.
    known_from: Option<Instant>,
    heard: HashMap<Uid, Heard>,
    /// Until when there may be peers that are not counted, as they were too many.
    uncounted_until: Option<Instant>,
}

impl Peers {
    /// Takes note of a message's sender.
    pub(super) fn hear(
        &mut self,
        header: &Header,
        nsp_support: NspSupport,
        now: Instant,
        timeout: Duration,
    ) -> Change {
        match header.kind {
            MessageKind::AdapterClose => {
                self.heard.remove(&header.uid);
                return Change::Left;
            }
            // Adapter 0.5 does not answer one without a namespace.
            MessageKind::InitialHeartbeat if nsp_support == NspSupport::WithNsp => {
                self.known_from = self.known_from.map(|from| from.min(now + DISCOVERY));
            }
            _ => {}
        }
        if header.uid.is_emitter() {
            return Change::None;
        }
        let has_room = self.heard.len() < MAX_PEERS && header.uid.as_str().len() <= MAX_UID_BYTES;
        if !has_room && !self.heard.contains_key(&header.uid) {
            self.uncounted_until = Some(now + timeout);
            return Change::Uncounted;
        }
        let is_start = header.kind == MessageKind::InitialHeartbeat;
        let heard = Heard { at: now, nsp_support, has_settled: !is_start };
        match self.heard.get_mut(&header.uid) {
            Some(known) => {
                let before = std::mem::replace(known, heard);
                if is_live(&before, now, timeout) {
                    known.has_settled |= before.has_settled;
                    return if known.has_settled == before.has_settled {
                        Change::None
                    } else {
                        Change::Settled
                    };
                }
            }
            None => drop(self.heard.insert(header.uid.clone(), heard)),
        }
        if is_start { Change::Started } else { Change::Found }
    }

    pub(super) fn interrupt(&mut self) {
        self.known_from = None;
    }

    /// From now on nothing is missed. What live peers said meanwhile may have been, or is on its way, so that their
    /// timeouts begin anew. Those that count as gone are found again by their next message.
    pub(super) fn resume(&mut self, now: Instant, timeout: Duration) {
        if self.known_from.is_none() {
            self.known_from = Some(now + timeout);
            let live = self.heard.values_mut().filter(|heard| is_live(heard, now, timeout));
            live.for_each(|heard| heard.at = now);
        }
    }

    pub(super) fn is_known(&self, now: Instant) -> bool {
        let are_counted = self.uncounted_until.is_none_or(|until| now >= until);
        self.known_from.is_some_and(|from| now >= from) && are_counted
    }

    pub(super) fn known_from(&self) -> Option<Instant> {
        self.known_from.map(|from| self.uncounted_until.map_or(from, |until| from.max(until)))
    }

    /// Who is live, in the order of their uids.
    pub(super) fn live(&self, now: Instant, timeout: Duration) -> Vec<LiveNode> {
        let live = self.heard.iter().filter(|(_, heard)| is_live(heard, now, timeout));
        let mut live: Vec<_> = live
            .map(|(uid, Heard { at, nsp_support, .. })| LiveNode {
                uid: uid.clone(),
                last_heard: *at,
                nsp_support: *nsp_support,
            })
            .collect();
        live.sort_by(|a, b| a.uid.cmp(&b.uid));
        live
    }

    /// Forgets peers that are not live any more; returns them.
    pub(super) fn prune(&mut self, now: Instant, timeout: Duration) -> Vec<Uid> {
        let mut gone = Vec::new();
        self.heard.retain(|uid, heard| {
            let is_live = is_live(heard, now, timeout);
            if !is_live {
                gone.push(uid.clone());
            }
            is_live
        });
        // What many forged uids have taken does not stay.
        self.heard.shrink_to(self.heard.len() * 4);
        gone
    }
}

fn is_live(heard: &Heard, now: Instant, timeout: Duration) -> bool {
    now.saturating_duration_since(heard.at) <= timeout
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Namespace;

    #[test]
    fn forged_peers_are_bounded_and_push_nobody_out() {
        let timeout = Duration::from_secs(10);
        let start = Instant::now();
        let mut peers = Peers::default();
        peers.resume(start, timeout);
        let hear = |peers: &mut Peers, uid: &str, now| {
            let header = Header { uid: uid.into(), nsp: Namespace::default(), kind: MessageKind::Heartbeat };
            peers.hear(&header, NspSupport::WithNsp, now, timeout)
        };
        assert_eq!(hear(&mut peers, "one that is there", start), Change::Found);
        let later = start + timeout;
        assert_eq!(hear(&mut peers, "one that is there", later), Change::None);
        assert!(peers.is_known(later));
        let uncounted = (0..50_000)
            .filter(|n| hear(&mut peers, &format!("{n:016x}"), later) == Change::Uncounted)
            .count();
        assert_eq!((uncounted, peers.heard.len()), (50_001 - MAX_PEERS, MAX_PEERS));
        assert_eq!(hear(&mut peers, &"x".repeat(65), later), Change::Uncounted);
        // The live peers may not be all.
        assert!(!peers.is_known(later) && !peers.is_known(later + timeout / 2));
        let long_after = later + timeout * 2;
        hear(&mut peers, "one that is there", long_after);
        peers.prune(long_after, timeout);
        assert!(peers.is_known(long_after));
        assert_eq!(peers.live(long_after, timeout).len(), 1);
        assert!(peers.heard.capacity() < 16, "{}", peers.heard.capacity());
    }

    #[test]
    fn peers_live_from_their_first_message_to_their_last_or_their_silence() {
        let timeout = Duration::from_secs(10);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut peers = Peers::default();
        assert!(!peers.is_known(at(20)));
        peers.resume(at(0), timeout);
        let hear = |peers: &mut Peers, uid: &str, kind, now| {
            let header = Header { uid: uid.into(), nsp: Namespace::default(), kind };
            peers.hear(&header, NspSupport::WithNsp, now, timeout);
        };
        let live = |peers: &Peers, now| -> Vec<String> {
            peers.live(now, timeout).iter().map(|node| node.uid.to_string()).collect()
        };

        hear(&mut peers, "b", MessageKind::Broadcast, at(0));
        hear(&mut peers, "a", MessageKind::Heartbeat, at(1));
        hear(&mut peers, "emitter", MessageKind::Broadcast, at(1));
        assert_eq!(live(&peers, at(10)), ["a", "b"]);
        assert_eq!(live(&peers, at(11)), ["a"]);
        hear(&mut peers, "a", MessageKind::AdapterClose, at(11));
        assert!(live(&peers, at(11)).is_empty());

        assert!(!peers.is_known(at(9)) && peers.is_known(at(10)));
        peers.interrupt();
        assert!(!peers.is_known(at(30)));
        peers.resume(at(30), timeout);
        assert!(!peers.is_known(at(39)) && peers.is_known(at(40)));
        peers.interrupt();
        peers.resume(at(50), timeout);
        hear(&mut peers, "emitter", MessageKind::InitialHeartbeat, at(51));
        assert!(!peers.is_known(at(51)) && peers.is_known(at(51) + DISCOVERY));
    }
}
