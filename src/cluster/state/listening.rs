//! The servers that listen, as Postgres shows them, and when to read which they are.
//!
//! Owns the last reading. In: requests that want one, and readings. Out: when to read. Invariants: one reading is under way at
//! a time; while requests wait for servers, there is one every second for all of them; a request starts with the last one, if
//! that is not too old.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peers::MAX_PEERS_PER_REQUEST;
use crate::protocol::{Instance, Uid};

/// The interval between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

/// The maximum age of a reading that a request gets until there is a newer one.
const MAX_AGE: Duration = Duration::from_secs(5);

/// A session of Postgres on which a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ListeningSession {
    /// The process id of the session, as in `pg_stat_activity`.
    pub pid: i32,
    /// The address of the server: `10.0.0.5:51234`, or `local` for a Unix-domain socket; `None` if this role may not see it.
    pub address: Option<String>,
}

impl ListeningSession {
    /// A session with this pid, and the address if it is known.
    pub fn new(pid: i32, address: Option<String>) -> Self {
        Self { pid, address }
    }
}

impl fmt::Display for ListeningSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "pid {} ({address})", self.pid),
            None => write!(f, "pid {}", self.pid),
        }
    }
}

/// The sessions of the servers of the main namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListeningSessions {
    /// Those of Node servers. While fewer Node servers have shown themselves, one of them does not respond.
    pub node: Vec<ListeningSession>,
    /// Those of pgio.
    pub pgio: HashMap<Instance, ListeningSession>,
    /// All processes of pgio that host nodes, in whatever namespaces.
    pub instances: HashSet<Instance>,
}

/// Servers that listen and sent no message before the timeout of a request: their process does not respond, or they have
/// vanished and Postgres has not noticed yet. `pg_terminate_backend` ends the session of a vanished server.
///
/// Their uids are not known, only the sessions of Postgres on which they listen. Sessions of other roles are shown only to
/// members of `pg_read_all_stats`. Another program that only listens looks like a Node server, unless its `application_name`
/// begins with `pgio`. Only requests of an [`Emitter`](crate::Emitter) in the main namespace have any: which sessions serve
/// another namespace is not known, and a node knows the servers by their heartbeats and locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unresponsive {
    /// The number of Node servers. With `setupPrimary` of adapter 0.5, whose workers share a session, it may be more.
    pub node_servers: usize,
    /// The sessions of all Node servers, with these servers among them. Empty if `node_servers` is 0.
    pub node_sessions: Vec<ListeningSession>,
    /// The sessions of processes of pgio.
    pub pgio: Vec<ListeningSession>,
}

impl Unresponsive {
    /// The number of servers.
    pub fn servers(&self) -> usize {
        self.node_servers + self.pgio.len()
    }
}

/// The peers that have shown themselves to a request.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Those that have not left.
    present: HashSet<Uid>,
    /// Those that said goodbye and whose sessions may still be there: a Node server gives its session back to its pool.
    departed: Vec<Uid>,
    /// The instances of all. A process of pgio is recognized by it, so it needs no more.
    instances: HashSet<Instance>,
}

impl Heard {
    /// A peer has sent a heartbeat or another message that shows that it is there.
    pub(super) fn add(&mut self, uid: &Uid) {
        self.departed.retain(|departed| departed != uid);
        self.add_answer(uid);
    }

    /// A peer has answered. After its goodbye it does not count again.
    pub(super) fn add_answer(&mut self, uid: &Uid) {
        self.instances.extend(uid.instance());
        if self.present.len() < MAX_PEERS_PER_REQUEST && !self.departed.contains(uid) {
            self.present.insert(uid.clone());
        }
    }

    pub(super) fn on_goodbye(&mut self, uid: &Uid) {
        self.present.remove(uid);
        if self.departed.len() < MAX_PEERS_PER_REQUEST && !self.departed.contains(uid) {
            self.departed.push(uid.clone());
        }
    }

    pub(super) fn on_timeout(&mut self, uid: &Uid) {
        self.present.remove(uid);
    }

    /// A reading follows another one. The sessions that have ended are those of the peers that have left.
    pub(super) fn on_reading(&mut self, before: &ListeningSessions, now: &ListeningSessions) {
        let ended = before.node.iter().filter(|session| !now.node.contains(session)).count();
        self.departed.drain(..ended.min(self.departed.len()));
    }

    /// The number of Node servers among those, by which a session less is missing.
    fn node_servers(&self, sessions: &ListeningSessions) -> usize {
        let is_pgio =
            |uid: &&Uid| uid.instance().is_some_and(|instance| sessions.instances.contains(&instance));
        let present = self.present.iter().filter(|uid| !is_pgio(uid)).count();
        present + self.departed.iter().filter(|uid| !is_pgio(uid)).count()
    }

    /// Whether every server that listens is among them.
    pub(super) fn has_all(&self, sessions: &ListeningSessions) -> bool {
        sessions.pgio.keys().all(|instance| self.instances.contains(instance))
            && (sessions.node.is_empty() || self.node_servers(sessions) >= sessions.node.len())
    }

    /// The servers that listen and are not among them.
    pub(super) fn unresponsive(&self, sessions: &ListeningSessions) -> Unresponsive {
        let node_servers = sessions.node.len().saturating_sub(self.node_servers(sessions));
        let pgio = sessions.pgio.iter().filter(|(instance, _)| !self.instances.contains(instance));
        let mut pgio: Vec<_> = pgio.map(|(_, session)| session.clone()).collect();
        pgio.sort_unstable_by_key(|session| session.pid);
        let node_sessions = if node_servers > 0 { sessions.node.clone() } else { Vec::new() };
        Unresponsive { node_servers, node_sessions, pgio }
    }
}

/// The servers that listen, for a request that waits for all of them.
#[derive(Debug, Default)]
pub(super) struct AwaitedServers {
    pub(super) heard: Heard,
    /// The last reading; `None` before the first one.
    reading: Option<Arc<ListeningSessions>>,
}

impl AwaitedServers {
    /// A reading has ended. After a failed one, the one before still holds; without one, no server is missing.
    pub(super) fn on_reading(&mut self, reading: Option<Arc<ListeningSessions>>) {
        if let (Some(before), Some(now)) = (&self.reading, &reading) {
            self.heard.on_reading(before, now);
        }
        self.reading = reading.or(self.reading.take()).or_else(|| Some(Arc::default()));
    }

    /// Whether it is known which servers listen, and all have shown themselves.
    pub(super) fn are_all_heard(&self) -> bool {
        self.reading.as_ref().is_some_and(|sessions| self.heard.has_all(sessions))
    }

    pub(super) fn unresponsive(&self) -> Unresponsive {
        self.reading.as_ref().map(|sessions| self.heard.unresponsive(sessions)).unwrap_or_default()
    }
}

impl ListeningSessions {
    /// The servers that are not among those that have shown themselves.
    pub fn unresponsive<'a>(&self, heard: impl Iterator<Item = &'a Uid>) -> Unresponsive {
        let mut all = Heard::default();
        heard.for_each(|uid| all.add(uid));
        all.unresponsive(self)
    }
}

/// When to read which servers listen.
#[derive(Default)]
pub(super) struct ListeningReader {
    is_reading: bool,
    last: Option<(Instant, Arc<ListeningSessions>)>,
    /// When to read next; `None` during a reading, and if no request waits.
    next: Option<Instant>,
}

impl ListeningReader {
    /// A request wants a reading: the last one, unless it is too old, and the next one. Returns the last one.
    pub(super) fn wanted(&mut self, now: Instant) -> Option<Arc<ListeningSessions>> {
        let last = self.last.as_ref().map(|(at, sessions)| (now.saturating_duration_since(*at), sessions));
        let next = last.map_or(now, |(age, _)| now + INTERVAL.saturating_sub(age));
        if !self.is_reading {
            self.next.get_or_insert(next);
        }
        last.filter(|(age, _)| *age < MAX_AGE).map(|(_, sessions)| sessions.clone())
    }

    /// Whether to start a reading now.
    pub(super) fn starts(&mut self, now: Instant) -> bool {
        let starts = self.next.is_some_and(|at| at <= now);
        if starts {
            (self.is_reading, self.next) = (true, None);
        }
        starts
    }

    /// A reading has ended; `None` if it has failed.
    pub(super) fn finished(
        &mut self,
        now: Instant,
        reading: Option<ListeningSessions>,
    ) -> Option<Arc<ListeningSessions>> {
        self.is_reading = false;
        let sessions = Arc::new(reading?);
        self.last = Some((now, sessions.clone()));
        Some(sessions)
    }

    /// Plans the next reading, or none.
    pub(super) fn plan(&mut self, now: Instant, is_wanted: bool) {
        self.next = is_wanted.then(|| now + INTERVAL);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_at_a_time_serves_all_requests_of_a_second() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut reader = ListeningReader::default();
        assert!(reader.wanted(at(0)).is_none() && reader.starts(at(0)));
        assert!(reader.wanted(at(5)).is_none() && !reader.starts(at(5)) && reader.next_deadline().is_none());
        reader.finished(at(10), Some(ListeningSessions::default()));
        reader.plan(at(10), false);
        assert_eq!(reader.next_deadline(), None);
        assert!(reader.wanted(at(500)).is_some() && !reader.starts(at(500)));
        assert_eq!(reader.next_deadline(), Some(at(1010)));
        assert!(reader.starts(at(1010)) && reader.wanted(at(1011)).is_some(), "the last one");
        assert!(reader.finished(at(1020), None).is_none());
        assert!(reader.wanted(at(5009)).is_some() && reader.wanted(at(5011)).is_none(), "it is too old");
    }

    #[test]
    fn a_departure_counts_until_its_session_has_ended() {
        let session = |pid| ListeningSession::new(pid, None);
        let node = |pids: &[i32]| ListeningSessions {
            node: pids.iter().copied().map(session).collect(),
            ..ListeningSessions::default()
        };
        let mut heard = Heard::default();
        heard.add(&"leaves".into());
        assert!(heard.has_all(&node(&[1])) && !heard.has_all(&node(&[1, 2])));
        // Its session goes back to a pool, and stays for a while.
        heard.on_goodbye(&"leaves".into());
        heard.add_answer(&"leaves".into());
        assert!(heard.has_all(&node(&[1])) && !heard.has_all(&node(&[1, 2])));
        // The session ends: the other server has still not shown itself.
        heard.on_reading(&node(&[1, 2]), &node(&[2]));
        assert!(!heard.has_all(&node(&[2])) && heard.has_all(&node(&[])));
        heard.add(&"leaves".into());
        assert!(heard.has_all(&node(&[3])), "it is back");
        heard.on_timeout(&"leaves".into());
        assert!(!heard.has_all(&node(&[3])));
    }

    #[test]
    fn who_has_not_shown_itself() {
        let (one, two, elsewhere) = (Instance::from(1), Instance::from(2), Instance::from(3));
        let session = |pid| ListeningSession::new(pid, None);
        let sessions = ListeningSessions {
            node: vec![session(1), session(2)],
            pgio: [(one, session(3)), (two, session(4))].into(),
            instances: [one, two, elsewhere].into(),
        };
        let unresponsive = |uids: &[Uid]| sessions.unresponsive(uids.iter());
        assert_eq!(unresponsive(&[]).servers(), 4);
        let some = unresponsive(&["node".into(), one.uid(1), one.uid(2), elsewhere.uid(1)]);
        assert_eq!((some.node_servers, some.node_sessions.len(), some.pgio), (1, 2, vec![session(4)]));
        let all = ["a".into(), "b".into(), one.uid(1), two.uid(1)];
        assert_eq!(unresponsive(&all), Unresponsive::default());
    }
}
