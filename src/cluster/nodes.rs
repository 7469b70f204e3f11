//! Who is live, by what each node was last heard saying.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::protocol::{Header, MessageKind, Uid};

/// A node that is live in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its adapter's uid.
    pub uid: Uid,
    /// When it was last heard.
    pub last_heard: Instant,
}

/// The nodes of one namespace.
///
/// As in Node, whatever a node publishes counts as a heartbeat, and an emitter never counts as a node.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Since when nothing was missed; `None` while the listening connection is lost.
    since: Option<Instant>,
    heard: HashMap<Uid, Instant>,
}

impl Roster {
    pub(super) fn start(now: Instant) -> Self {
        Self { since: Some(now), heard: HashMap::new() }
    }

    pub(super) fn hear(&mut self, header: &Header, now: Instant) {
        if header.kind == MessageKind::AdapterClose {
            self.heard.remove(&header.uid);
        } else if !header.uid.is_emitter() {
            match self.heard.get_mut(&header.uid) {
                Some(last) => *last = now,
                None => drop(self.heard.insert(header.uid.clone(), now)),
            }
        }
    }

    pub(super) fn interrupt(&mut self) {
        self.since = None;
    }

    pub(super) fn resume(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Whether every live node has been heard by now, as each speaks within the timeout.
    pub(super) fn is_complete(&self, now: Instant, timeout: Duration) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) >= timeout)
    }

    /// Who is live, in the order of their uids. Forgets who is not.
    pub(super) fn live(&mut self, now: Instant, timeout: Duration) -> Vec<LiveNode> {
        self.heard.retain(|_, last| now.duration_since(*last) <= timeout);
        let mut live: Vec<_> =
            self.heard.iter().map(|(uid, last)| LiveNode { uid: uid.clone(), last_heard: *last }).collect();
        live.sort_by(|a, b| a.uid.cmp(&b.uid));
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Namespace;

    #[test]
    fn nodes_live_from_their_first_message_to_their_last_or_their_silence() {
        let timeout = Duration::from_secs(10);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let says = |uid: &str, kind| Header { uid: uid.into(), nsp: Namespace::default(), kind };
        let mut roster = Roster::start(start);
        let live = |roster: &mut Roster, now| -> Vec<String> {
            roster.live(now, timeout).iter().map(|node| node.uid.to_string()).collect()
        };

        roster.hear(&says("b", MessageKind::Broadcast), at(0));
        roster.hear(&says("a", MessageKind::Heartbeat), at(1));
        roster.hear(&says("emitter", MessageKind::Broadcast), at(1));
        assert_eq!(live(&mut roster, at(10)), ["a", "b"]);
        assert_eq!(live(&mut roster, at(11)), ["a"]);
        roster.hear(&says("a", MessageKind::AdapterClose), at(11));
        assert!(live(&mut roster, at(11)).is_empty());

        assert!(roster.is_complete(at(10), timeout));
        roster.interrupt();
        assert!(!roster.is_complete(at(30), timeout));
        roster.resume(at(30));
        assert!(!roster.is_complete(at(39), timeout));
        assert!(roster.is_complete(at(40), timeout));
    }
}
