//! Which peers of a channel are live, by when each was last heard, or its lock last seen to change.
//!
//! As in Node, whatever a peer publishes counts as a heartbeat, and an emitter never counts as a peer. A peer whose instance
//! holds a lock need not publish anything. The lock counts only for a peer with a heartbeat since messages were last lost, as
//! the instance may serve other namespaces alone.
//!
//! After its goodbye a peer counts again only if it sends a heartbeat: what it published by other connections may be
//! committed after the goodbye, and a request that waited for it would wait until its deadline.
//!
//! Invariant: the peers are called known only when every live one must have
//! been heard: [`DISCOVERY`] after an initial heartbeat, which every version answers at once, and with no gap since.
//!
//! A program that may publish can forge any number of uids, so the number of peers is bounded: the first ones stay,
//! further ones are not counted, and the peers are not called known until a heartbeat timeout after the last uncounted
//! message.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::instances::{Instances, LockStatus};
use super::requests::DISCOVERY;
use crate::protocol::{Header, Instance, MessageKind, Uid};

/// How many peers of one channel are counted.
pub(super) const MAX_PEERS: usize = 1024;

/// How long the uid of a peer may be, in bytes. That of Node has 16.
const MAX_UID_BYTES: usize = 64;

/// A peer that is live in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its adapter's uid.
    pub uid: Uid,
    /// When it was last heard, or its lock seen to change.
    pub last_heard: Instant,
    /// Whether its messages name their namespace.
    pub nsp_support: NspSupport,
    /// How it proves its liveness.
    pub liveness: Liveness,
}

/// How a peer proves its liveness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// By heartbeats and other messages. It expects the same of other servers.
    Heartbeats,
    /// By an advisory lock of its session, which writes nothing.
    Lock,
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
struct PeerState {
    at: Instant,
    nsp_support: NspSupport,
    /// Whether it has sent a message after its initial heartbeat.
    has_settled: bool,
    /// Whether a heartbeat of it was heard since messages were last lost.
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
    /// The lock of its instance, which was missing at the last look.
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
    /// A peer is not counted, as there are too many or its uid is too long.
    Uncounted,
}

/// The peers of one channel.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Whether messages arrive: the channel is listened to, and the connection answers.
    hears: bool,
    /// Whether an initial heartbeat was heard since messages were last lost.
    were_asked: bool,
    /// From when on every live peer must have been heard; `None` while messages do not arrive, and until an initial
    /// heartbeat.
    known_from: Option<Instant>,
    heard: HashMap<Uid, PeerState>,
    /// Peers that said goodbye within the heartbeat timeout, and when.
    departed: HashMap<Uid, Instant>,
    /// Since when nothing arrives, where nothing is lost.
    stalled_at: Option<Instant>,
    /// When the locks were last looked at.
    looked_at: Option<Instant>,
    /// Until when there may be peers that are not counted, as they were too many.
    uncounted_until: Option<Instant>,
}

impl Peers {
    /// Takes note of a message's sender.
    pub(super) fn hear(
        &mut self,
        header: &Header,
        nsp_support: NspSupport,
        instances: &Instances,
        now: Instant,
        timeout: Duration,
    ) -> Change {
        match header.kind {
            MessageKind::AdapterClose => {
                self.heard.remove(&header.uid);
                if self.departed.len() < MAX_PEERS && header.uid.as_str().len() <= MAX_UID_BYTES {
                    self.departed.insert(header.uid.clone(), now);
                }
                return Change::Left;
            }
            // Adapter 0.5 does not answer one without a namespace.
            MessageKind::InitialHeartbeat if nsp_support == NspSupport::WithNsp && self.hears => {
                let from = now + DISCOVERY;
                self.known_from = Some(self.known_from.map_or(from, |before| before.min(from)));
                self.were_asked = true;
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
        let has_room = self.heard.len() < MAX_PEERS && header.uid.as_str().len() <= MAX_UID_BYTES;
        if !has_room && !self.heard.contains_key(&header.uid) {
            self.uncounted_until = Some(now + timeout);
            return Change::Uncounted;
        }
        let is_start = header.kind == MessageKind::InitialHeartbeat;
        let instance = header.uid.instance();
        let holds_lock = instance
            .and_then(|instance| instances.lock_status(instance))
            .is_some_and(|lock_status| matches!(lock_status, LockStatus::Fresh | LockStatus::Same));
        // What was on its way while the channel was not listened to tells of a time before a gap.
        let is_confirmed = header.kind.is_heartbeat() && self.hears;
        let heard = PeerState {
            at: now,
            nsp_support,
            has_settled: !is_start,
            is_confirmed,
            instance,
            proof: if holds_lock && is_confirmed { LivenessProof::Lock } else { LivenessProof::Messages },
        };
        match self.heard.get_mut(&header.uid) {
            Some(known) => {
                let before = std::mem::replace(known, heard);
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
            None => drop(self.heard.insert(header.uid.clone(), heard)),
        }
        if is_start { Change::Started } else { Change::Found }
    }

    /// Nothing arrives for now, and nothing is lost. Peers that are live now are so when it ends: only what they publish
    /// meanwhile, and what arrives late, tells more.
    pub(super) fn stall(&mut self, now: Instant) {
        if std::mem::replace(&mut self.hears, false) {
            self.stalled_at = Some(now);
        }
        self.known_from = None;
    }

    /// Messages are lost, and with them the goodbyes of peers.
    pub(super) fn lose(&mut self) {
        (self.hears, self.stalled_at, self.known_from) = (false, None, None);
        self.were_asked = false;
        for heard in self.heard.values_mut() {
            (heard.is_confirmed, heard.proof) = (false, LivenessProof::Messages);
        }
    }

    /// From now on nothing is missed. What live peers said meanwhile may have been, or is on its way, so that their
    /// timeouts begin anew. Those that count as gone are found again by their next message.
    pub(super) fn resume(&mut self, now: Instant, timeout: Duration) {
        if !std::mem::replace(&mut self.hears, true) {
            self.known_from = self.were_asked.then(|| now + timeout);
            // A peer with a lock sends no heartbeats by which it could be found again.
            let heard_until = self.stalled_at.take().unwrap_or(now);
            let live = self.heard.values_mut().filter(|heard| {
                heard.proof != LivenessProof::Messages || is_live(heard, heard_until, timeout)
            });
            live.for_each(|heard| heard.at = now);
        }
    }

    /// Applies a snapshot of the locks; `None` if `pg_locks` is not readable. Returns the peers whose process has
    /// ended.
    pub(super) fn look(&mut self, instances: Option<&Instances>, now: Instant) -> Vec<Uid> {
        self.looked_at = Some(now);
        let mut gone = Vec::new();
        self.heard.retain(|uid, heard| {
            let lock_status =
                instances.map(|seen| heard.instance.and_then(|instance| seen.lock_status(instance)));
            match (lock_status, heard.proof) {
                (Some(Some(LockStatus::Fresh)), _) if heard.is_confirmed => {
                    (heard.at, heard.proof) = (now, LivenessProof::Lock);
                }
                (Some(Some(LockStatus::Same)), _) if heard.is_confirmed => heard.proof = LivenessProof::Lock,
                (Some(Some(LockStatus::Missing)), LivenessProof::Lock) => {
                    heard.proof = LivenessProof::MissingLock
                }
                (Some(Some(LockStatus::Gone) | None), LivenessProof::Lock | LivenessProof::MissingLock) => {
                    gone.push(uid.clone());
                    return false;
                }
                (None, _) => heard.proof = LivenessProof::Messages,
                _ => {}
            }
            true
        });
        gone
    }

    /// Whether a live peer other than these shows by messages that it lives, and so expects the same of others.
    pub(super) fn expect_heartbeats<'a>(
        &self,
        but: impl Iterator<Item = &'a Uid> + Clone,
        now: Instant,
        timeout: Duration,
    ) -> bool {
        self.heard.iter().any(|(uid, heard)| {
            heard.proof == LivenessProof::Messages
                && is_live(heard, now, timeout)
                && but.clone().all(|own| own != uid)
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
        let live = self.heard.iter().filter(|(_, heard)| is_live(heard, now, timeout));
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

    /// Forgets peers that are not live any more; returns them.
    pub(super) fn prune(&mut self, now: Instant, timeout: Duration) -> Vec<Uid> {
        let mut gone = Vec::new();
        self.departed.retain(|_, at| now.saturating_duration_since(*at) <= timeout);
        let looked_at = self.looked_at.unwrap_or(now);
        let heard_until = self.stalled_at.unwrap_or(now);
        self.heard.retain(|uid, heard| {
            // Only a snapshot shows the current locks, and this process may have had no time for one.
            let is_live = match heard.proof {
                LivenessProof::Messages => is_live(heard, heard_until, timeout),
                LivenessProof::Lock | LivenessProof::MissingLock => is_live(heard, looked_at, timeout),
            };
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

fn is_live(heard: &PeerState, now: Instant, timeout: Duration) -> bool {
    now.saturating_duration_since(heard.at) <= timeout
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::protocol::{LivenessLock, Namespace};

    #[test]
    fn forged_peers_are_bounded_and_push_nobody_out() {
        let timeout = Duration::from_secs(10);
        let start = Instant::now();
        let mut peers = Peers::default();
        peers.resume(start, timeout);
        let hear = |peers: &mut Peers, uid: &str, now| {
            let header = Header { uid: uid.into(), nsp: Namespace::default(), kind: MessageKind::Heartbeat };
            peers.hear(&header, NspSupport::WithNsp, &Instances::default(), now, timeout)
        };
        assert_eq!(hear(&mut peers, "one that is there", start), Change::Found);
        let later = start + timeout;
        assert_eq!(hear(&mut peers, "one that is there", later), Change::None);
        hear_start(&mut peers, start);
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
            peers.hear(&header, NspSupport::WithNsp, &Instances::default(), now, timeout);
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
        hear(&mut peers, "a", MessageKind::FetchSockets, at(12));
        assert!(live(&peers, at(12)).is_empty(), "it was published before the goodbye, and is late");
        hear(&mut peers, "a", MessageKind::Heartbeat, at(13));
        assert_eq!(live(&peers, at(13)), ["a"]);
        hear(&mut peers, "a", MessageKind::AdapterClose, at(14));

        assert!(!peers.is_known(at(29)), "nobody was asked");
        hear(&mut peers, "emitter", MessageKind::InitialHeartbeat, at(29));
        assert!(!peers.is_known(at(29)) && peers.is_known(at(30)));
        peers.stall(at(30));
        assert!(!peers.is_known(at(30)));
        peers.resume(at(30), timeout);
        assert!(!peers.is_known(at(39)) && peers.is_known(at(40)));
        peers.lose();
        peers.resume(at(50), timeout);
        assert!(!peers.is_known(at(90)));
        hear(&mut peers, "emitter", MessageKind::InitialHeartbeat, at(51));
        assert!(!peers.is_known(at(51)) && peers.is_known(at(51) + DISCOVERY));
    }

    fn hear_start(peers: &mut Peers, now: Instant) {
        let kind = MessageKind::InitialHeartbeat;
        let header = Header { uid: Uid::emitter(), nsp: Namespace::default(), kind };
        peers.hear(&header, NspSupport::WithNsp, &Instances::default(), now, Duration::from_secs(10));
    }

    #[test]
    fn a_lock_keeps_a_peer_alive_that_was_heard_since_the_last_loss() {
        let timeout = Duration::from_secs(10);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let instance = Instance::from(7);
        let uid = instance.uid(1);
        let mut peers = Peers::default();
        let instances = RefCell::new(Instances::default());
        peers.resume(at(0), timeout);
        let speak = |peers: &mut Peers, now| {
            let header = Header { uid: uid.clone(), nsp: Namespace::default(), kind: MessageKind::Heartbeat };
            peers.hear(&header, NspSupport::WithNsp, &instances.borrow(), now, timeout)
        };
        let is_expecting =
            |peers: &Peers, now| peers.expect_heartbeats(std::iter::empty::<&Uid>(), now, timeout);
        let look = |peers: &mut Peers, number: Option<u8>, now| {
            let beats: Vec<_> = number.map(|number| LivenessLock { instance, number }).into_iter().collect();
            instances.borrow_mut().look(&beats);
            peers.look(Some(&instances.borrow()), now).len()
        };
        assert_eq!(look(&mut peers, Some(0), at(0)), 0);
        assert!(peers.live(at(0), timeout).is_empty(), "a lock tells no namespace");
        speak(&mut peers, at(1));
        assert!(!is_expecting(&peers, at(1)));
        for second in 2..30 {
            assert_eq!(look(&mut peers, Some(second as u8), at(second)), 0);
        }
        assert_eq!(peers.live(at(29), timeout)[0].liveness, Liveness::Lock);
        assert!(!is_expecting(&peers, at(29)));

        // Its session is lost; it sends heartbeats, and comes back.
        assert_eq!(look(&mut peers, None, at(31)), 0);
        speak(&mut peers, at(32));
        assert!(is_expecting(&peers, at(32)));
        assert_eq!(look(&mut peers, None, at(33)), 0);
        assert_eq!(look(&mut peers, Some(40), at(35)), 0);
        assert!(!is_expecting(&peers, at(35)));

        // A process that does nothing any more.
        for second in 36..45 {
            assert_eq!(look(&mut peers, Some(40), at(second)), 0);
        }
        assert_eq!((peers.live(at(45), timeout).len(), peers.live(at(46), timeout).len()), (1, 0));
        speak(&mut peers, at(46));
        assert_eq!(look(&mut peers, Some(41), at(47)), 0);

        // While its lock cannot be seen, it expects heartbeats, and is not gone.
        assert!(peers.look(None, at(48)).is_empty());
        assert!(is_expecting(&peers, at(48)));
        assert_eq!(look(&mut peers, Some(42), at(49)), 0);

        // Its goodbye may be lost.
        peers.lose();
        peers.resume(at(50), timeout);
        assert_eq!(look(&mut peers, Some(43), at(50)), 0);
        assert_eq!((peers.live(at(60), timeout).len(), peers.live(at(61), timeout).len()), (1, 0));
        speak(&mut peers, at(61));

        // It has ended.
        assert_eq!(look(&mut peers, Some(44), at(61)), 0);
        assert_eq!(look(&mut peers, None, at(63)), 0);
        assert_eq!(look(&mut peers, None, at(65)), 1);
        assert!(peers.live(at(65), timeout).is_empty());
    }
}
