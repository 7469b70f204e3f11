//! The live peers of a channel: when each last sent a message, and when its lock last changed.
//!
//! As in Node, every message of a peer counts as a heartbeat, and an emitter never counts as a peer. A peer whose instance
//! holds a lock does not have to publish anything. The lock counts only for a peer that has sent a heartbeat since messages
//! were last lost, because the instance may serve only other namespaces.
//!
//! After its goodbye a peer counts again only if it sends a heartbeat: messages that it published on other connections may
//! be committed after the goodbye, and a request that waited for that peer would wait until its deadline.
//!
//! Invariant: the peers count as known only when every live peer must have sent a message: [`DISCOVERY`] after an initial
//! heartbeat, which every version answers at once, and with no gap since.
//!
//! A program that may publish can forge any number of uids, so the number of peers is bounded. The first peers stay, and
//! further peers are not counted. The peers do not count as known until a heartbeat timeout after the last message of an
//! uncounted peer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::instances::{Instances, LockStatus};
use super::requests::DISCOVERY;
use crate::protocol::{Header, Instance, MessageKind, Notification, Uid};

/// The maximum number of counted peers of one channel.
pub(super) const MAX_PEERS: usize = 1024;

/// The maximum number of peers of a request.
pub(super) const MAX_PEERS_PER_REQUEST: usize = 4 * MAX_PEERS;

/// The maximum length of the uid of a peer, in bytes. A uid of Node has 16.
const MAX_UID_BYTES: usize = 64;

/// A live peer of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its adapter's uid.
    pub uid: Uid,
    /// When it last sent a message, or when its lock was last seen to change.
    pub last_heard: Instant,
    /// Whether its messages name their namespace. Until a message shows it, they are taken to do so.
    pub nsp_support: NspSupport,
    /// How it proves that it is alive.
    pub liveness: Liveness,
}

/// How a peer proves its liveness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// By heartbeats and other messages. It expects the same of other servers.
    Heartbeats,
    /// By a session advisory lock, which writes no WAL.
    Lock,
}

/// Whether a sender's messages name their namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NspSupport {
    /// No, as with adapter 0.3.
    WithoutNsp,
    /// Yes, as with adapter 0.4 and later.
    WithNsp,
}

impl NspSupport {
    /// What a notification shows. `None` if it names a row and no namespace: no version of the Node adapter writes the
    /// namespace there.
    pub(super) fn of(notification: &Notification<'_>) -> Option<Self> {
        match (notification.has_nsp, notification.attachment) {
            (true, _) => Some(Self::WithNsp),
            (false, None) => Some(Self::WithoutNsp),
            (false, Some(_)) => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct PeerState {
    at: Instant,
    nsp_support: NspSupport,
    /// Whether it has sent a message after its initial heartbeat.
    has_settled: bool,
    /// Whether it has sent a heartbeat since messages were last lost.
    is_confirmed: bool,
    instance: Option<Instance>,
    proof: LivenessProof,
}

/// The proof of liveness of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LivenessProof {
    /// Its messages.
    Messages,
    /// The lock of its instance.
    Lock,
    /// The lock of its instance, which was missing in the last snapshot.
    MissingLock,
}

/// How a message changes the set of live peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// A peer has just started.
    Started,
    /// A message of an existing peer: the first one, or the first one after the peer counted as dead.
    Found,
    /// The second message of a peer that has just started.
    Settled,
    /// A peer said goodbye.
    Left,
    /// The peer is not counted: there are too many peers, or its uid is too long.
    Uncounted,
}

/// The peers of one channel.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Whether messages arrive: the session listens to the channel, and the connection answers.
    is_receiving: bool,
    /// Whether an initial heartbeat has arrived since messages were last lost.
    initial_heartbeat_received: bool,
    /// The moment after which every live peer must have sent a message; `None` while messages do not arrive, and until an
    /// initial heartbeat.
    known_from: Option<Instant>,
    peers: HashMap<Uid, PeerState>,
    /// Peers that said goodbye within the heartbeat timeout, and when.
    departed: HashMap<Uid, Instant>,
    /// When a stall without loss began.
    stalled_at: Option<Instant>,
    /// When the last lock snapshot came.
    last_snapshot: Option<Instant>,
    /// Until when there may be peers that are not counted because there were too many.
    uncounted_until: Option<Instant>,
}

impl Peers {
    /// Updates the state of a message's sender. `nsp_support` is `None` if the message does not show it.
    pub(super) fn on_message(
        &mut self,
        header: &Header,
        nsp_support: Option<NspSupport>,
        instances: &Instances,
        now: Instant,
        timeout: Duration,
    ) -> Change {
        match header.kind {
            MessageKind::AdapterClose => {
                self.peers.remove(&header.uid);
                if self.departed.len() < MAX_PEERS && header.uid.as_str().len() <= MAX_UID_BYTES {
                    self.departed.insert(header.uid.clone(), now);
                }
                return Change::Left;
            }
            // Adapter 0.5 does not answer one without a namespace.
            MessageKind::InitialHeartbeat
                if nsp_support == Some(NspSupport::WithNsp) && self.is_receiving =>
            {
                let from = now + DISCOVERY;
                self.known_from = Some(self.known_from.map_or(from, |before| before.min(from)));
                self.initial_heartbeat_received = true;
            }
            _ => {}
        }
        if header.uid.is_emitter() {
            return Change::None;
        }
        if header.kind.is_heartbeat() {
            self.departed.remove(&header.uid);
        } else if self.departed.contains_key(&header.uid) {
            return Change::None;
        }
        let has_room = self.peers.len() < MAX_PEERS && header.uid.as_str().len() <= MAX_UID_BYTES;
        if !has_room && !self.peers.contains_key(&header.uid) {
            self.uncounted_until = Some(now + timeout);
            return Change::Uncounted;
        }
        let is_start = header.kind == MessageKind::InitialHeartbeat;
        let instance = header.uid.instance();
        let holds_lock = instance
            .and_then(|instance| instances.lock_status(instance))
            .is_some_and(|lock_status| matches!(lock_status, LockStatus::Fresh | LockStatus::Same));
        // A message that was in flight during a gap shows the state before the gap.
        let is_confirmed = header.kind.is_heartbeat() && self.is_receiving;
        let peer = PeerState {
            at: now,
            nsp_support: nsp_support.unwrap_or(NspSupport::WithNsp),
            has_settled: !is_start,
            is_confirmed,
            instance,
            proof: if holds_lock && is_confirmed { LivenessProof::Lock } else { LivenessProof::Messages },
        };
        match self.peers.get_mut(&header.uid) {
            Some(known) => {
                let before = std::mem::replace(known, peer);
                known.nsp_support = nsp_support.unwrap_or(before.nsp_support);
                if is_live(&before, now, timeout) {
                    known.has_settled |= before.has_settled;
                    known.is_confirmed |= before.is_confirmed;
                    if before.proof == LivenessProof::Lock {
                        known.proof = LivenessProof::Lock;
                    }
                    return if known.has_settled == before.has_settled {
                        Change::None
                    } else {
                        Change::Settled
                    };
                }
            }
            None => drop(self.peers.insert(header.uid.clone(), peer)),
        }
        if is_start { Change::Started } else { Change::Found }
    }

    /// A stall: no message arrives for now, and none is lost. Peers that are live now are still live when the stall ends,
    /// since their messages of that time arrive late.
    pub(super) fn on_stall(&mut self, now: Instant) {
        if std::mem::replace(&mut self.is_receiving, false) {
            self.stalled_at = Some(now);
        }
        self.known_from = None;
    }

    /// Messages are lost, and goodbyes may be among them.
    pub(super) fn on_messages_lost(&mut self) {
        (self.is_receiving, self.stalled_at, self.known_from) = (false, None, None);
        self.initial_heartbeat_received = false;
        for peer in self.peers.values_mut() {
            (peer.is_confirmed, peer.proof) = (false, LivenessProof::Messages);
        }
    }

    /// From now on every message arrives. The messages of live peers during the gap may be lost or late, so the timeouts of
    /// these peers start again. A peer that counts as dead is found again by its next message.
    pub(super) fn on_listening(&mut self, now: Instant, timeout: Duration) {
        if !std::mem::replace(&mut self.is_receiving, true) {
            self.known_from = self.initial_heartbeat_received.then(|| now + timeout);
            // A peer with a lock sends no heartbeats, so no message would show that it is alive.
            let received_until = self.stalled_at.take().unwrap_or(now);
            let live = self.peers.values_mut().filter(|peer| {
                peer.proof != LivenessProof::Messages || is_live(peer, received_until, timeout)
            });
            live.for_each(|peer| peer.at = now);
        }
    }

    /// Applies a lock snapshot; `None` if `pg_locks` is not readable. Returns the peers whose process has ended.
    pub(super) fn apply_locks(&mut self, instances: Option<&Instances>, now: Instant) -> Vec<Uid> {
        self.last_snapshot = Some(now);
        let mut dead = Vec::new();
        self.peers.retain(|uid, peer| {
            let lock_status =
                instances.map(|seen| peer.instance.and_then(|instance| seen.lock_status(instance)));
            match (lock_status, peer.proof) {
                (Some(Some(LockStatus::Fresh)), _) if peer.is_confirmed => {
                    (peer.at, peer.proof) = (now, LivenessProof::Lock);
                }
                (Some(Some(LockStatus::Same)), _) if peer.is_confirmed => peer.proof = LivenessProof::Lock,
                (Some(Some(LockStatus::Missing)), LivenessProof::Lock) => {
                    peer.proof = LivenessProof::MissingLock
                }
                (Some(Some(LockStatus::Gone) | None), LivenessProof::Lock | LivenessProof::MissingLock) => {
                    dead.push(uid.clone());
                    return false;
                }
                (None, _) => peer.proof = LivenessProof::Messages,
                _ => {}
            }
            true
        });
        dead
    }

    /// Whether a live peer other than these proves its liveness by messages. It expects heartbeats of the others.
    pub(super) fn expect_heartbeats<'a>(
        &self,
        except: impl Iterator<Item = &'a Uid> + Clone,
        now: Instant,
        timeout: Duration,
    ) -> bool {
        self.peers.iter().any(|(uid, peer)| {
            peer.proof == LivenessProof::Messages
                && is_live(peer, now, timeout)
                && except.clone().all(|own| own != uid)
        })
    }

    pub(super) fn is_known(&self, now: Instant) -> bool {
        let are_counted = self.uncounted_until.is_none_or(|until| now >= until);
        self.known_from.is_some_and(|from| now >= from) && are_counted
    }

    pub(super) fn known_from(&self) -> Option<Instant> {
        self.known_from.map(|from| self.uncounted_until.map_or(from, |until| from.max(until)))
    }

    /// The live peers, in the order of their uids.
    pub(super) fn live(&self, now: Instant, timeout: Duration) -> Vec<LiveNode> {
        let live = self.peers.iter().filter(|(_, peer)| is_live(peer, now, timeout));
        let mut live: Vec<_> = live
            .map(|(uid, PeerState { at, nsp_support, proof, .. })| LiveNode {
                uid: uid.clone(),
                last_heard: *at,
                nsp_support: *nsp_support,
                liveness: if *proof == LivenessProof::Messages {
                    Liveness::Heartbeats
                } else {
                    Liveness::Lock
                },
            })
            .collect();
        live.sort_by(|a, b| a.uid.cmp(&b.uid));
        live
    }

    /// Removes the peers that are not live any more, and returns them.
    pub(super) fn prune(&mut self, now: Instant, timeout: Duration) -> Vec<Uid> {
        let mut dead = Vec::new();
        self.departed.retain(|_, at| now.saturating_duration_since(*at) <= timeout);
        let last_snapshot = self.last_snapshot.unwrap_or(now);
        let received_until = self.stalled_at.unwrap_or(now);
        self.peers.retain(|uid, peer| {
            // Only a snapshot shows the current locks, and this process may have been too busy to read one.
            let is_live = match peer.proof {
                LivenessProof::Messages => is_live(peer, received_until, timeout),
                LivenessProof::Lock | LivenessProof::MissingLock => is_live(peer, last_snapshot, timeout),
            };
            if !is_live {
                dead.push(uid.clone());
            }
            is_live
        });
        // Free the memory that many forged uids have taken.
        self.peers.shrink_to(self.peers.len() * 4);
        dead
    }
}

fn is_live(peer: &PeerState, now: Instant, timeout: Duration) -> bool {
    now.saturating_duration_since(peer.at) <= timeout
}

#[cfg(test)]
mod tests;
