//! The table of nodes: the state of each node, and its changes.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::cli::node_sessions::NodeSessions;
use crate::cli::observer::STALLED;
use crate::cluster::{NodeEvent, NodeName};
use crate::postgres::Backend;
use crate::{AdapterOptions, Error, Namespace};

/// A node, live or departed.
pub(super) struct Node {
    name: NodeName,
    pub(super) round_trip: Option<Duration>,
    pub(super) last_heard: Instant,
    pub(super) sockets: Option<usize>,
    client: Option<Backend>,
    pub(super) gone: Option<Gone>,
}

/// When a node departed, and why it counts as departed.
#[derive(Clone, Copy)]
pub(super) struct Gone {
    pub(super) since: Instant,
    pub(super) how: How,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// The node sent its goodbye.
    Closed,
    /// The heartbeat timeout of the node has passed.
    Silent,
}

impl How {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent => "silent",
        }
    }
}

impl Node {
    pub(super) fn is_live(&self) -> bool {
        self.gone.is_none()
    }

    pub(super) fn name(&self) -> &NodeName {
        &self.name
    }

    pub(super) fn nsp(&self) -> &Namespace {
        &self.name.nsp
    }

    pub(super) fn uid(&self) -> &str {
        self.name.uid.as_str()
    }

    /// The address of the node's connection to Postgres, if it is known.
    pub(super) fn address(&self) -> Option<&str> {
        self.client.as_ref()?.address.as_deref()
    }

    /// The `application_name` of the node.
    pub(super) fn application(&self) -> Option<&str> {
        self.client.as_ref()?.application.as_deref()
    }

    /// Serializes the fields of the node.
    pub(super) fn fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("uid", &self.name.uid)?;
        map.serialize_entry("namespace", self.name.nsp.as_str())?;
        map.serialize_entry("rttMs", &self.round_trip.map(millis))?;
        let ago = self.last_heard.elapsed();
        map.serialize_entry("lastSeen", &in_millis(Timestamp::now() - ago))?;
        map.serialize_entry("sockets", &self.sockets)?;
        map.serialize_entry("address", &self.address())?;
        map.serialize_entry("application", &self.application())
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        self.fields(&mut map)?;
        map.end()
    }
}

/// A duration in milliseconds, rounded to microseconds.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Formats a time with three decimals.
pub(super) fn in_millis(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// A change of the table.
pub(super) enum Change {
    Nothing,
    /// The figures of a node are fresher.
    Refreshed,
    Sockets(NodeName),
    Joined(NodeName),
    Left(NodeName),
    Lost(Error),
    Restored(Duration),
}

/// All live nodes, and departed nodes for a while.
pub(super) struct NodeTable {
    nodes: BTreeMap<NodeName, Node>,
    sessions: NodeSessions,
    timeout: Duration,
    /// The start of the connection, from which the heartbeat timeout counts. `None` while the database is unreachable.
    listening_since: Option<Instant>,
}

impl NodeTable {
    pub(super) fn new(options: &AdapterOptions) -> Self {
        Self {
            nodes: BTreeMap::new(),
            sessions: NodeSessions::default(),
            timeout: options.heartbeat_timeout,
            listening_since: Some(Instant::now()),
        }
    }

    /// Whether the database is reachable.
    pub(super) fn is_listening(&self) -> bool {
        self.listening_since.is_some()
    }

    /// The nodes, sorted by namespace and uid.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub(super) fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Updates the table with an event of the node monitor.
    pub(super) fn apply(&mut self, event: NodeEvent) -> Change {
        match event {
            NodeEvent::Answered { node: name, round_trip, backend } => {
                let has_joined = self.note(&name, Instant::now());
                if let Some(node) = self.nodes.get_mut(&name) {
                    node.round_trip = Some(round_trip);
                }
                if let Some(session) = backend {
                    self.sessions.published(name.clone(), session);
                }
                if has_joined { Change::Joined(name) } else { Change::Refreshed }
            }
            NodeEvent::SocketCount(name, sockets) => {
                let has_joined = self.note(&name, Instant::now());
                let before = self.nodes.get_mut(&name).and_then(|node| node.sockets.replace(sockets));
                match before {
                    _ if has_joined => Change::Joined(name),
                    Some(before) if before == sockets => Change::Refreshed,
                    _ => Change::Sockets(name),
                }
            }
            NodeEvent::Started(name) => match self.note(&name, Instant::now()) {
                true => Change::Joined(name),
                false => Change::Refreshed,
            },
            NodeEvent::Closed(name) => self.leave(name, How::Closed),
            // After a stall, the loss is shown already.
            NodeEvent::Lost(error) => match self.listening_since.take() {
                Some(_) => Change::Lost(error),
                None => Change::Nothing,
            },
            NodeEvent::Stalled => {
                self.listening_since = None;
                Change::Lost(Error::ConnectionLost(STALLED.into()))
            }
            NodeEvent::Restored(away) | NodeEvent::Resumed(away) => {
                self.listening_since = Some(Instant::now());
                Change::Restored(away)
            }
        }
    }

    /// Updates the table with the nodes that have sent messages, and marks nodes whose heartbeat timeout has passed.
    pub(super) fn update(&mut self, live: Vec<(NodeName, Instant)>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, when) in live {
            // A message from before the departure does not make the node live again.
            let is_old =
                self.nodes.get(&name).and_then(|node| node.gone).is_some_and(|gone| when <= gone.since);
            if !is_old && self.note(&name, when) {
                changes.push(Change::Joined(name));
            }
        }
        let Some(since) = self.listening_since else { return changes };
        let is_silent = |node: &&Node| node.is_live() && node.last_heard.max(since).elapsed() > self.timeout;
        let silent: Vec<_> = self.nodes.values().filter(is_silent).map(|node| node.name.clone()).collect();
        changes.extend(silent.into_iter().map(|name| self.leave(name, How::Silent)));
        changes
    }

    /// The sessions of servers whose clients are not known.
    pub(super) fn unknown_backends(&self) -> Vec<i32> {
        self.sessions.unknown()
    }

    /// Applies the clients of these sessions. A session that is missing has ended; the next answer comes from another one.
    pub(super) fn know_backends(&mut self, backends: &HashMap<i32, Backend>) {
        self.sessions.know(backends);
        for node in self.nodes.values_mut().filter(|node| node.is_live()) {
            node.client = self.sessions.client_of(&node.name).cloned();
        }
    }

    /// Removes the nodes that departed this long ago.
    pub(super) fn forget(&mut self, after: Duration) {
        self.nodes.retain(|_, node| node.gone.is_none_or(|gone| gone.since.elapsed() < after));
        self.sessions.retain(|name| self.nodes.get(name).is_some_and(Node::is_live));
    }

    /// Records a message of a node. Returns whether the node is new.
    fn note(&mut self, name: &NodeName, when: Instant) -> bool {
        match self.nodes.get_mut(name) {
            Some(node) if node.is_live() => {
                node.last_heard = node.last_heard.max(when);
                false
            }
            _ => {
                let node = Node {
                    name: name.clone(),
                    round_trip: None,
                    last_heard: when,
                    sockets: None,
                    client: None,
                    gone: None,
                };
                self.nodes.insert(name.clone(), node);
                true
            }
        }
    }

    fn leave(&mut self, name: NodeName, how: How) -> Change {
        match self.nodes.get_mut(&name) {
            Some(node) if node.is_live() => {
                node.gone = Some(Gone { since: Instant::now(), how });
                Change::Left(name)
            }
            _ => Change::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(uid: &str) -> NodeName {
        NodeName { nsp: Namespace::default(), uid: uid.into() }
    }

    fn known(timeout: Duration) -> NodeTable {
        NodeTable::new(&AdapterOptions { heartbeat_timeout: timeout, ..AdapterOptions::default() })
    }

    #[test]
    fn a_node_joins_changes_and_leaves_once() {
        let mut known = known(Duration::from_secs(10));
        let answered = |uid| NodeEvent::Answered {
            node: name(uid),
            round_trip: Duration::from_millis(2),
            backend: Some(7),
        };
        assert!(matches!(known.apply(answered("a")), Change::Joined(_)));
        assert!(matches!(known.apply(answered("a")), Change::Refreshed));
        assert_eq!(known.unknown_backends(), [7]);
        let client = Backend { address: Some("10.0.0.5:4321".into()), application: None };
        known.know_backends(&HashMap::from([(7, client)]));
        assert!(matches!(known.apply(answered("a")), Change::Refreshed));
        assert!(known.unknown_backends().is_empty(), "it is known");
        assert_eq!(known.node(&name("a")).unwrap().address(), Some("10.0.0.5:4321"));
        // It reconnects: its next answer comes from another session.
        let NodeEvent::Answered { node, round_trip, .. } = answered("a") else { unreachable!() };
        known.apply(NodeEvent::Answered { node, round_trip, backend: Some(8) });
        assert_eq!(known.unknown_backends(), [8, 7]);
        let client = Backend { address: Some("10.0.0.5:4322".into()), application: None };
        known.know_backends(&HashMap::from([(8, client)]));
        assert_eq!(known.node(&name("a")).unwrap().address(), Some("10.0.0.5:4322"));
        assert!(matches!(known.apply(NodeEvent::SocketCount(name("a"), 1)), Change::Sockets(_)));
        assert!(matches!(known.apply(NodeEvent::SocketCount(name("a"), 1)), Change::Refreshed));
        let before = Instant::now();
        assert!(matches!(known.apply(NodeEvent::Closed(name("a"))), Change::Left(_)));
        assert!(matches!(known.apply(NodeEvent::Closed(name("a"))), Change::Nothing));
        assert!(known.update(vec![(name("a"), before)]).is_empty(), "what is old is no return");
        assert!(matches!(known.update(vec![(name("a"), Instant::now())])[..], [Change::Joined(_)]));
        known.apply(NodeEvent::Closed(name("a")));
        known.forget(Duration::ZERO);
        assert_eq!(known.nodes().count(), 0);
    }

    #[test]
    fn silence_means_nothing_while_the_database_is_away() {
        let mut known = known(Duration::ZERO);
        known.apply(NodeEvent::SocketCount(name("a"), 1));
        known.apply(NodeEvent::Lost(Error::Closed));
        assert!(known.update(Vec::new()).is_empty());
        known.apply(NodeEvent::Restored(Duration::ZERO));
        std::thread::sleep(Duration::from_millis(1));
        assert!(matches!(known.update(Vec::new())[..], [Change::Left(_)]));
        assert!(matches!(known.apply(NodeEvent::Stalled), Change::Lost(_)));
        assert!(matches!(known.apply(NodeEvent::Lost(Error::Closed)), Change::Nothing), "shown already");
        assert!(matches!(known.apply(NodeEvent::Restored(Duration::ZERO)), Change::Restored(_)));
        let how = known.nodes().map(|node| node.gone.unwrap().how).collect::<Vec<_>>();
        assert_eq!(how, [How::Silent]);
    }
}
