//! The servers that listen, as Postgres shows them, and when to read which they are.
//!
//! Owns the last reading. In: requests that want one, and readings. Out: when to read. Invariants: one reading is under way at
//! a time, and a reading serves all requests of the next second. While a request waits for servers, there is one every second.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::protocol::{Instance, Uid};

/// The interval between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

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
    /// Those of Node servers. While fewer Node servers have shown themselves, one of them stands still.
    pub node: Vec<ListeningSession>,
    /// Those of pgio.
    pub pgio: HashMap<Instance, ListeningSession>,
    /// All processes of pgio that host nodes, in whatever namespaces.
    pub instances: HashSet<Instance>,
}

/// Servers that listen and sent no message before the timeout of a request: their process stands still, or they have
/// vanished and Postgres has not noticed yet. `pg_terminate_backend` ends the session of a vanished server.
///
/// Their uids are not known, only the sessions of Postgres on which they listen. Sessions of other roles are shown only to
/// members of `pg_read_all_stats`. Another program that only listens looks like a Node server, unless its `application_name`
/// begins with `pgio`. Only requests of an [`Emitter`](crate::Emitter) in the main namespace have any: which sessions serve
/// another namespace is not known, and a node knows the servers by their heartbeats and locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unheard {
    /// The number of Node servers.
    pub node_servers: usize,
    /// The sessions of all Node servers, with these servers among them. Empty if `node_servers` is 0.
    pub node_sessions: Vec<ListeningSession>,
    /// The sessions of processes of pgio.
    pub pgio: Vec<ListeningSession>,
}

impl Unheard {
    /// The number of servers.
    pub fn servers(&self) -> usize {
        self.node_servers + self.pgio.len()
    }
}

impl ListeningSessions {
    /// The servers that are not among those that have shown themselves.
    pub fn unheard<'a>(&self, heard: impl Iterator<Item = &'a Uid>) -> Unheard {
        let (mut node_servers, mut instances) = (self.node.len(), HashSet::new());
        for uid in heard {
            match uid.instance().filter(|instance| self.instances.contains(instance)) {
                Some(instance) => drop(instances.insert(instance)),
                None => node_servers = node_servers.saturating_sub(1),
            }
        }
        let pgio = self.pgio.iter().filter(|(instance, _)| !instances.contains(instance));
        let mut pgio: Vec<_> = pgio.map(|(_, session)| session.clone()).collect();
        pgio.sort_unstable_by_key(|session| session.pid);
        let node_sessions = if node_servers > 0 { self.node.clone() } else { Vec::new() };
        Unheard { node_servers, node_sessions, pgio }
    }
}

/// When to read which servers listen.
#[derive(Default)]
pub(super) struct ListeningReader {
    is_reading: bool,
    last: Option<(Instant, Arc<ListeningSessions>)>,
    next: Option<Instant>,
}

impl ListeningReader {
    /// A request wants a reading: a recent one, or the next one. Returns the recent one.
    pub(super) fn wanted(&mut self, now: Instant) -> Option<Arc<ListeningSessions>> {
        let recent = self.last.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < INTERVAL);
        let next = recent.map_or(now, |(at, _)| *at + INTERVAL);
        if !self.is_reading {
            self.next.get_or_insert(next);
        }
        recent.map(|(_, sessions)| sessions.clone())
    }

    /// Whether to start a reading now.
    pub(super) fn starts(&mut self, now: Instant) -> bool {
        let starts = !self.is_reading && self.next.is_some_and(|at| at <= now);
        if starts {
            (self.is_reading, self.next) = (true, None);
        }
        starts
    }

    /// A reading has ended; `None` if it has failed. Returns what the requests get. The next reading follows if any request
    /// still waits.
    pub(super) fn finished(
        &mut self,
        now: Instant,
        reading: Option<ListeningSessions>,
    ) -> Arc<ListeningSessions> {
        self.is_reading = false;
        let sessions = Arc::new(reading.unwrap_or_default());
        self.last = Some((now, sessions.clone()));
        sessions
    }

    /// Plans the next reading, or none.
    pub(super) fn plan(&mut self, now: Instant, is_wanted: bool) {
        self.next = is_wanted.then(|| now + INTERVAL);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next.filter(|_| !self.is_reading)
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
        assert!(reader.starts(at(1010)) && reader.wanted(at(1011)).is_none());
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
        let unheard = |uids: &[Uid]| sessions.unheard(uids.iter());
        assert_eq!(unheard(&[]).servers(), 4);
        let some = unheard(&["node".into(), one.uid(1), one.uid(2), elsewhere.uid(1)]);
        assert_eq!((some.node_servers, some.node_sessions.len(), some.pgio), (1, 2, vec![session(4)]));
        let all = ["a".into(), "b".into(), one.uid(1), two.uid(1)];
        assert_eq!(unheard(&all), Unheard::default());
    }
}
