//! Requests: send a request to all peers of a namespace, and collect their answers.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::driver::{Command, Dropped, Reaper, ResponsePart};
use super::state::{DISCOVERY, ListeningServers, NewRequest, Reply, Summary};
use super::{Cluster, LiveNode};
use crate::postgres::lossy_queue::{Next, Reader, lossy_queue};
use crate::postgres::{ListeningSession, NodeServers, node_servers};
use crate::protocol::{Body, Namespace, RemoteSocket, RequestId, Uid, Value};
use crate::{Error, Result};

/// The bound of the queue of answers, in bytes.
const ANSWER_BYTES: usize = 256 << 20;

/// The timeout for reading which servers listen.
const LISTENING_TIMEOUT: Duration = Duration::from_secs(2);

/// One peer's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The node that sent it.
    pub node: Uid,
    /// Its content.
    pub value: T,
}

/// The answers to a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Collected<T> {
    /// The answers, in the order of their arrival.
    pub answers: Vec<Answer<T>>,
    /// The number of promised answers. If fewer arrived, the timeout came first.
    pub expected: u64,
    /// The live nodes that did not answer, or did not send all promised answers.
    pub silent: Vec<Uid>,
    /// The number of nodes that answered in full.
    pub nodes: usize,
    /// Whether the request knew all live nodes. It does not after a lost connection, until every node has sent a message
    /// again.
    pub knew_nodes: bool,
    /// Answers that could not be read, and why: for example a deleted row of the attachment table, or a missing privilege.
    /// They may belong to another request.
    pub unread: Vec<Answer<String>>,
    /// Node servers that listen, as Postgres shows, and sent no message in time.
    pub unheard: Unheard,
}

/// Node servers that listen and sent no message before the timeout of a request: their event loop stands still, or they
/// have vanished and Postgres has not noticed yet. `pg_terminate_backend` ends the session of a vanished server.
///
/// Their uids are not known, only the sessions of Postgres on which Node servers listen. Sessions of other roles are shown
/// only to members of `pg_read_all_stats`. A request of a node always has none, since a node knows the servers by their
/// heartbeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unheard {
    /// The number of these servers.
    pub servers: usize,
    /// The sessions of all Node servers of the namespace, with these servers among them. Empty if `servers` is 0.
    pub sessions: Vec<ListeningSession>,
}

impl<T> Collected<T> {
    /// Whether all live nodes have answered in full.
    pub fn is_complete(&self) -> bool {
        self.knew_nodes && self.silent.is_empty() && self.unheard.servers == 0
    }

    /// The answers alone.
    pub fn into_values(self) -> Vec<T> {
        self.answers.into_iter().map(|answer| answer.value).collect()
    }
}

impl Collected<Vec<RemoteSocket>> {
    /// The sockets of all nodes, each with its node.
    pub(crate) fn flatten(self) -> Collected<RemoteSocket> {
        let Self { answers, expected, silent, nodes, knew_nodes, unread, unheard } = self;
        let of_node = |Answer { node, value: sockets }: Answer<Vec<RemoteSocket>>| {
            sockets.into_iter().map(move |value| Answer { node: node.clone(), value })
        };
        let answers = answers.into_iter().flat_map(of_node).collect();
        Collected { answers, expected, silent, nodes, knew_nodes, unread, unheard }
    }
}

impl Cluster {
    /// The live nodes of a namespace. It publishes one initial heartbeat as an emitter, which every version answers and
    /// none counts. Returns as soon as `enough` nodes are known, else after `wait`.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`] and [`Cluster::publish`], and [`Error::NotificationsNotDelivered`] if not
    /// even its own heartbeat arrived (loopback).
    pub async fn nodes(
        &self,
        nsp: impl Into<Namespace>,
        wait: Duration,
        enough: usize,
    ) -> Result<Vec<LiveNode>> {
        let nsp = &nsp.into();
        let mut subscription = self.subscribe([nsp], |header| header.is_some()).await?;
        self.publish_as_emitter(nsp, Body::InitialHeartbeat).await?;
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let (live, _) = self.live_nodes(nsp).await?;
            if live.len() >= enough {
                return Ok(live);
            }
            if timeout_at(deadline, subscription.next()).await.is_err() {
                self.ensure_loopback(wait)?;
                return Ok(self.live_nodes(nsp).await?.0);
            }
        }
    }

    /// Sends a request as an emitter, which first has to discover the nodes. It waits for as many Node servers as listen.
    pub(crate) async fn request_as_emitter<T>(
        &self,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(Reply) -> Option<T>,
    ) -> Result<Collected<T>> {
        let deadline = Instant::now() + wait;
        let before = self.node_servers(nsp, deadline).await;
        let (mut sessions, listening) = match before {
            Some(NodeServers { sessions, pgio }) => {
                let node_servers = sessions.len();
                (sessions, ListeningServers { node_servers, pgio })
            }
            None => Default::default(),
        };
        let mut collected =
            self.send_request(Uid::emitter(), nsp, deadline, body, listening, read).await?.collect().await?;
        self.ensure_loopback(wait)?;
        if collected.unheard.servers > 0 {
            // Some may have stopped meanwhile.
            let now = self.node_servers(nsp, Instant::now() + LISTENING_TIMEOUT).await;
            let before = sessions.len();
            if let Some(NodeServers { sessions: now, .. }) = now {
                sessions.retain(|session| now.contains(session));
            }
            let ended = before - sessions.len();
            collected.unheard.servers = collected.unheard.servers.saturating_sub(ended);
            if collected.unheard.servers > 0 {
                collected.unheard.sessions = sessions;
            }
        }
        Ok(collected)
    }

    /// The Node servers that listen, as Postgres shows them, without those that are known to be live.
    #[cfg(feature = "cli")]
    pub(crate) async fn unheard(&self, nsp: &Namespace, live: impl Iterator<Item = &Uid>) -> Unheard {
        let servers = self.node_servers(nsp, Instant::now() + LISTENING_TIMEOUT).await;
        let Some(NodeServers { sessions, pgio }) = servers else { return Unheard::default() };
        let servers = ListeningServers { node_servers: sessions.len(), pgio }.unheard(live);
        Unheard { servers, sessions: if servers == 0 { Vec::new() } else { sessions } }
    }

    /// The Node servers that listen, as Postgres shows them. `None` if they cannot be read: a request then waits for the
    /// servers that it finds.
    async fn node_servers(&self, nsp: &Namespace, deadline: Instant) -> Option<NodeServers> {
        let read = async {
            // It has opened the session that the query uses. The request reports the errors.
            timeout_at(deadline.into(), self.driver()).await.map_err(|_| Error::Closed)??;
            let channel = self.channel(nsp)?;
            let until = deadline.min(Instant::now() + LISTENING_TIMEOUT);
            timeout_at(until.into(), node_servers(&self.0.rows, nsp, &channel))
                .await
                .map_err(|_| Error::Closed)?
        };
        read.await
            .inspect_err(|error| tracing::debug!(%error, "the Node servers that listen are not known"))
            .ok()
    }

    /// Checks that the sender has received at least its own request (loopback), if there was time for it.
    pub(crate) fn ensure_loopback(&self, waited: Duration) -> Result<()> {
        match waited >= DISCOVERY && self.receives_nothing() {
            true => Err(Error::NotificationsNotDelivered),
            false => Ok(()),
        }
    }

    /// Sends a request, and streams the answers. The timeout `wait` covers everything: connecting, listening, the discovery
    /// of the nodes, and their answers.
    #[cfg(feature = "adapter")]
    pub(crate) async fn request<T>(
        &self,
        uid: Uid,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(Reply) -> Option<T>,
    ) -> Result<PendingRequest<T>> {
        let deadline = Instant::now() + wait;
        self.send_request(uid, nsp, deadline, body, ListeningServers::default(), read).await
    }

    async fn send_request<T>(
        &self,
        uid: Uid,
        nsp: &Namespace,
        deadline: Instant,
        body: impl FnOnce(RequestId) -> Body,
        listening: ListeningServers,
        read: fn(Reply) -> Option<T>,
    ) -> Result<PendingRequest<T>> {
        let id = RequestId::random();
        let (writer, parts) = lossy_queue(ANSWER_BYTES);
        let request = NewRequest {
            id: id.clone(),
            channel: self.channel(nsp)?,
            namespace: nsp.clone(),
            sender: uid,
            body: body(id.clone()),
            deadline,
            listening,
        };
        let reaper = timeout_at(deadline.into(), async {
            let driver = self.driver().await?;
            driver.send(Command::Request { request, parts: writer }).await?;
            Ok::<_, Error>(driver.reaper.clone())
        });
        let no_connection = || Error::ConnectionLost("no connection in time for the request".into());
        let reaper = reaper.await.map_err(|_| no_connection())??;
        Ok(PendingRequest {
            parts,
            summary: None,
            overflowed: false,
            unread: Vec::new(),
            read,
            guard: Guard { id, reaper },
        })
    }
}

/// The acknowledgement of a client.
pub(crate) fn client_ack(reply: Reply) -> Option<Value> {
    match reply {
        Reply::Ack(answer) => Some(answer),
        _ => None,
    }
}

/// The answer of a server to a server-side event.
pub(crate) fn server_response(reply: Reply) -> Option<Value> {
    match reply {
        Reply::Answer(answer) => Some(answer),
        _ => None,
    }
}

/// The sockets of a server.
pub(crate) fn socket_list(reply: Reply) -> Option<Vec<RemoteSocket>> {
    match reply {
        Reply::Sockets(sockets) => Some(sockets),
        _ => None,
    }
}

/// A pending request. Dropping it cancels the request.
pub(crate) struct PendingRequest<T> {
    parts: Reader<ResponsePart>,
    summary: Option<Summary>,
    /// Whether answers were dropped because the queue was full.
    overflowed: bool,
    unread: Vec<Answer<String>>,
    read: fn(Reply) -> Option<T>,
    // Declared after the reader, and so dropped after it: the driver finds no reader when this reports the end of the
    // request.
    guard: Guard,
}

struct Guard {
    id: RequestId,
    reaper: Reaper,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.reaper.add(Dropped::Request(self.id.clone()));
    }
}

impl<T> PendingRequest<T> {
    /// The next answer; `None` after all nodes have answered in full, or after the timeout.
    pub(crate) async fn next(&mut self) -> Result<Option<Answer<T>>> {
        while self.summary.is_none() {
            match self.parts.next().await {
                Some(Next::Item(ResponsePart::Answer { node, reply })) => {
                    if let Some(value) = (self.read)(reply) {
                        return Ok(Some(Answer { node, value }));
                    }
                }
                Some(Next::Item(ResponsePart::Unread { node, reason })) => {
                    self.unread.push(Answer { node, value: reason });
                }
                Some(Next::Item(ResponsePart::Finished(summary))) => self.summary = Some(summary?),
                Some(Next::Missed(_)) => self.overflowed = true,
                None => return Err(Error::Closed),
            }
        }
        Ok(None)
    }

    /// The number of missing answers, after [`next`](Self::next) has returned the last one: the rest of the promised
    /// answers, and one for each live node that promised none.
    #[cfg(feature = "adapter")]
    pub(crate) fn missing(&self) -> u64 {
        self.summary.as_ref().map_or(0, |summary| summary.missing)
    }

    /// Waits for all answers.
    pub(crate) async fn collect(mut self) -> Result<Collected<T>> {
        let mut answers = Vec::new();
        while let Some(answer) = self.next().await? {
            answers.push(answer);
        }
        let Summary { expected, nodes, silent, knew_peers, unheard, .. } =
            self.summary.take().unwrap_or_default();
        let knew_nodes = knew_peers && !self.overflowed;
        tracing::trace!(request = %self.guard.id, expected, nodes, "a request has ended");
        Ok(Collected {
            answers,
            expected,
            silent,
            nodes,
            knew_nodes,
            unread: std::mem::take(&mut self.unread),
            unheard: Unheard { servers: unheard, sessions: Vec::new() },
        })
    }
}
