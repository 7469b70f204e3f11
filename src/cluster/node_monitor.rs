//! The node monitor: requests the live nodes of namespaces as an emitter, without becoming a member of the cluster.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use super::{Cluster, Content, Event, GrowingSubscription, LiveNode, Received};
use crate::postgres::Backend;
use crate::protocol::{Body, BroadcastOptions, Header, Message, MessageKind, Namespace, RequestId, Uid};
use crate::{Error, Result};

/// One adapter: a server in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeName {
    /// Its namespace.
    pub(crate) nsp: Namespace,
    /// Its uid.
    pub(crate) uid: Uid,
}

/// An event of the node monitor.
#[derive(Debug)]
pub(crate) enum NodeEvent {
    /// A node answered the initial heartbeat.
    Answered {
        /// The node.
        node: NodeName,
        /// The time between the request and the answer.
        round_trip: Duration,
        /// The process id of the Postgres session that published the answer.
        backend: Option<i32>,
    },
    /// The number of sockets of a node.
    SocketCount(NodeName, usize),
    /// A node has started or reconnected.
    Started(NodeName),
    /// A node has sent its goodbye (adapter close).
    Closed(NodeName),
    /// The listening connection is lost.
    Lost(Error),
    /// The listening connection is restored. The duration of the gap.
    Restored(Duration),
    /// Postgres keeps the listening connection open, and does not answer on it.
    Stalled,
    /// The stalled connection answers again. The duration of the stall.
    Resumed(Duration),
}

/// Discovers the live nodes of some namespaces.
pub(crate) struct NodeMonitor {
    cluster: Cluster,
    subscription: GrowingSubscription,
    request_id: RequestId,
    requested_at: Option<SystemTime>,
    answered: HashSet<NodeName>,
}

impl NodeMonitor {
    /// Subscribes to the channels; no request is sent yet.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`].
    pub(crate) async fn listen(cluster: &Cluster, namespaces: &[Namespace]) -> Result<Self> {
        let subscription = GrowingSubscription::start(cluster, namespaces, is_relevant).await?;
        Ok(Self {
            cluster: cluster.clone(),
            subscription,
            request_id: RequestId::random(),
            requested_at: None,
            answered: HashSet::new(),
        })
    }

    /// Subscribes to those of these namespaces that are new, and returns them; no request is sent yet.
    ///
    /// # Errors
    /// Those of [`GrowingSubscription::add`].
    pub(crate) async fn add(&mut self, namespaces: &[Namespace]) -> Result<Vec<Namespace>> {
        self.subscription.add(namespaces).await
    }

    /// Requests a heartbeat of every node, and with `sockets` the list of its sockets.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`], and [`Error::NotificationsNotDelivered`] if nothing has arrived since the
    /// last request.
    pub(crate) async fn request(&mut self, sockets: bool) -> Result<()> {
        if let Some(last) = self.requested_at {
            let waited = SystemTime::now().duration_since(last);
            self.cluster.ensure_loopback(waited.unwrap_or_default())?;
        }
        self.answered.clear();
        self.request_id = RequestId::random();
        self.requested_at = Some(SystemTime::now());
        let mut receipts = Vec::new();
        for nsp in self.subscription.namespaces() {
            receipts.push(self.enqueue(nsp, Body::InitialHeartbeat).await?);
        }
        // Last, so that the long responses do not delay the answers to the initial heartbeats.
        for nsp in self.subscription.namespaces().filter(|_| sockets) {
            let opts = BroadcastOptions::default();
            let body = Body::FetchSockets { opts, request_id: self.request_id.clone() };
            receipts.push(self.enqueue(nsp, body).await?);
        }
        for receipt in receipts {
            receipt.await?;
        }
        Ok(())
    }

    async fn enqueue(&self, nsp: &Namespace, body: Body) -> Result<crate::Receipt> {
        self.cluster.enqueue(&Message { uid: Uid::emitter(), nsp: nsp.clone(), body }).await
    }

    /// The next event; `None` once the cluster's handle is dropped.
    pub(crate) async fn next(&mut self) -> Option<NodeEvent> {
        loop {
            let event = match self.subscription.next().await? {
                Event::Message(received) => self.read(&received),
                Event::Missed(_) => None,
                Event::Lost(error) => Some(NodeEvent::Lost(error)),
                Event::Restored(away) => Some(NodeEvent::Restored(away)),
                Event::Stalled => Some(NodeEvent::Stalled),
                Event::Resumed(after) => Some(NodeEvent::Resumed(after)),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn read(&mut self, received: &Received) -> Option<NodeEvent> {
        let Content::Message(Message { uid, nsp, body }) = &received.content else { return None };
        if uid.is_emitter() {
            // An emitter is not a node, whatever it sends.
            return None;
        }
        let node = NodeName { nsp: nsp.clone(), uid: uid.clone() };
        match body {
            Body::Heartbeat if self.answered.insert(node.clone()) => {
                let round_trip = received.time.duration_since(self.requested_at.unwrap_or(received.time));
                let round_trip = round_trip.unwrap_or_default();
                Some(NodeEvent::Answered { node, round_trip, backend: received.backend })
            }
            Body::FetchSocketsResponse { request_id, sockets } if *request_id == self.request_id => {
                Some(NodeEvent::SocketCount(node, sockets.len()))
            }
            Body::InitialHeartbeat => Some(NodeEvent::Started(node)),
            Body::AdapterClose => Some(NodeEvent::Closed(node)),
            _ => None,
        }
    }

    /// The clients of the sessions that have published answers.
    ///
    /// # Errors
    /// Those of [`Cluster::backends`].
    pub(crate) async fn backends(&self, pids: &[i32]) -> Result<HashMap<i32, Backend>> {
        self.cluster.backends(pids).await
    }

    /// The live nodes, and when each has last sent a message.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`].
    pub(crate) async fn live_nodes(&self) -> Result<Vec<(NodeName, Instant)>> {
        let live = self.cluster.live_nodes_of(self.subscription.namespaces()).await?;
        let of_namespace = |(nsp, (nodes, _)): (&Namespace, (Vec<LiveNode>, bool))| {
            let nsp = nsp.clone();
            nodes.into_iter().map(move |node| (NodeName { nsp: nsp.clone(), uid: node.uid }, node.last_heard))
        };
        Ok(self.subscription.namespaces().zip(live).flat_map(of_namespace).collect())
    }
}

fn is_relevant(header: Option<&Header>) -> bool {
    use MessageKind::{AdapterClose, FetchSocketsResponse, Heartbeat, InitialHeartbeat};
    let kinds = [InitialHeartbeat, Heartbeat, FetchSocketsResponse, AdapterClose];
    header.is_some_and(|header| kinds.contains(&header.kind))
}
