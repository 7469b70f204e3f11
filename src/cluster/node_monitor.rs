//! The node monitor: requests the live nodes of namespaces as an emitter, without becoming a member of the cluster.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use super::{Cluster, Content, Event, GrowingSubscription, Received};
use crate::postgres::Backend;
use crate::protocol::{Body, BroadcastOptions, Header, Message, MessageKind, Namespace, RequestId, Uid};
use crate::{Error, Result};

/// One adapter of a server, which is one namespace of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeName {
    /// Its namespace.
    pub(crate) nsp: Namespace,
    /// Its uid.
    pub(crate) uid: Uid,
}

/// What came in answer, or by itself.
#[derive(Debug)]
pub(crate) enum NodeEvent {
    /// A node answered the initial heartbeat.
    Answered {
        /// Which one.
        node: NodeName,
        /// How long after it was sent.
        round_trip: Duration,
        /// The process of Postgres that published the answer for it.
        backend: Option<i32>,
    },
    /// A node has so many sockets.
    Has(NodeName, usize),
    /// A node has started, or come back to Postgres.
    Started(NodeName),
    /// A node has said goodbye.
    Closed(NodeName),
    /// The listening connection is gone.
    Lost(Error),
    /// It is back, after so long.
    Restored(Duration),
}

/// Discovers the live nodes of some namespaces.
pub(crate) struct NodeMonitor {
    cluster: Cluster,
    heard: GrowingSubscription,
    request_id: RequestId,
    asked: Option<SystemTime>,
    answered: HashSet<NodeName>,
}

impl NodeMonitor {
    /// Subscribes to the channels; no request is sent yet.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`].
    pub(crate) async fn listen(cluster: &Cluster, namespaces: &[Namespace]) -> Result<Self> {
        let heard = GrowingSubscription::start(cluster, namespaces, is_of_interest).await?;
        Ok(Self {
            cluster: cluster.clone(),
            heard,
            request_id: RequestId::random(),
            asked: None,
            answered: HashSet::new(),
        })
    }

    /// Subscribes to those of these namespaces that are new, and returns them; no request is sent yet.
    ///
    /// # Errors
    /// Those of [`GrowingSubscription::add`].
    pub(crate) async fn add(&mut self, namespaces: &[Namespace]) -> Result<Vec<Namespace>> {
        self.heard.add(namespaces).await
    }

    /// Requests a heartbeat of every node, and with `sockets` the list of its sockets.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`], and [`Error::NotificationsNotDelivered`] where nothing has come since the last time.
    pub(crate) async fn ask(&mut self, sockets: bool) -> Result<()> {
        if let Some(last) = self.asked {
            let waited = SystemTime::now().duration_since(last);
            self.cluster.ensure_loopback(waited.unwrap_or_default())?;
        }
        self.answered.clear();
        self.request_id = RequestId::random();
        self.asked = Some(SystemTime::now());
        let mut receipts = Vec::new();
        for nsp in self.heard.namespaces() {
            receipts.push(self.enqueue(nsp, Body::InitialHeartbeat).await?);
        }
        // After the heartbeats, so that long answers to this do not delay those to them.
        for nsp in self.heard.namespaces().filter(|_| sockets) {
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
            let word = match self.heard.next().await? {
                Event::Message(received) => self.read(&received),
                Event::Missed(_) => None,
                Event::Lost(error) => Some(NodeEvent::Lost(error)),
                Event::Restored(away) => Some(NodeEvent::Restored(away)),
            };
            if word.is_some() {
                return word;
            }
        }
    }

    fn read(&mut self, received: &Received) -> Option<NodeEvent> {
        let Content::Message(Message { uid, nsp, body }) = &received.content else { return None };
        if uid.is_emitter() {
            // Whatever it says, it is no node.
            return None;
        }
        let node = NodeName { nsp: nsp.clone(), uid: uid.clone() };
        match body {
            Body::Heartbeat if self.answered.insert(node.clone()) => {
                let round_trip = received.time.duration_since(self.asked.unwrap_or(received.time));
                let round_trip = round_trip.unwrap_or_default();
                Some(NodeEvent::Answered { node, round_trip, backend: received.backend })
            }
            Body::FetchSocketsResponse { request_id, sockets } if *request_id == self.request_id => {
                Some(NodeEvent::Has(node, sockets.len()))
            }
            Body::InitialHeartbeat => Some(NodeEvent::Started(node)),
            Body::AdapterClose => Some(NodeEvent::Closed(node)),
            _ => None,
        }
    }

    /// Whose the sessions are that have published answers.
    ///
    /// # Errors
    /// Those of [`Cluster::backends`].
    pub(crate) async fn backends(&self, pids: &[i32]) -> Result<HashMap<i32, Backend>> {
        self.cluster.backends(pids).await
    }

    /// Every node that has sent any message within the heartbeat timeout, and when.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`].
    pub(crate) async fn heard(&self) -> Result<Vec<(NodeName, Instant)>> {
        let mut heard = Vec::new();
        for nsp in self.heard.namespaces() {
            let (live, _) = self.cluster.live_nodes(nsp).await?;
            heard.extend(
                live.into_iter().map(|node| (NodeName { nsp: nsp.clone(), uid: node.uid }, node.last_heard)),
            );
        }
        Ok(heard)
    }
}

fn is_of_interest(header: Option<&Header>) -> bool {
    use MessageKind::{AdapterClose, FetchSocketsResponse, Heartbeat, InitialHeartbeat};
    let kinds = [InitialHeartbeat, Heartbeat, FetchSocketsResponse, AdapterClose];
    header.is_some_and(|header| kinds.contains(&header.kind))
}
