//! Requests: send a request to all peers of a namespace, and collect their answers.

#[cfg(feature = "cli")]
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

#[cfg(feature = "cli")]
use super::driver::listening;
use super::driver::{Command, Dropped, Reaper, ResponsePart};
use super::state::{DISCOVERY, NewRequest, Reply, Summary, Unresponsive};
use super::{Cluster, LONGEST, LiveNode};
use crate::postgres::lossy_queue::{Next, Reader, lossy_queue};
use crate::protocol::{Body, Namespace, RemoteSocket, RequestId, Uid, Value};
use crate::{Error, Result};

/// The bound of the queue of answers, in bytes.
const ANSWER_BYTES: usize = 256 << 20;

/// The servers whose answers an emitter's request awaits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Awaited {
    /// Those that show themselves within the discovery, and in the main namespace as many as listen, as Postgres shows.
    #[default]
    AllListening,
    /// Those that show themselves within the discovery.
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the command line asks for it"))]
    Discovered,
}

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
    /// Servers that listen, as Postgres shows, and sent no message in time.
    pub unresponsive: Unresponsive,
}

impl<T> Collected<T> {
    /// Whether all live nodes have answered in full.
    pub fn is_complete(&self) -> bool {
        self.knew_nodes && self.silent.is_empty() && self.unresponsive.servers() == 0
    }

    /// The answers alone.
    pub fn into_values(self) -> Vec<T> {
        self.answers.into_iter().map(|answer| answer.value).collect()
    }
}

impl Collected<Vec<RemoteSocket>> {
    /// The sockets of all nodes, each with its node.
    pub(crate) fn flatten(self) -> Collected<RemoteSocket> {
        let Self { answers, expected, silent, nodes, knew_nodes, unread, unresponsive } = self;
        let of_node = |Answer { node, value: sockets }: Answer<Vec<RemoteSocket>>| {
            sockets.into_iter().map(move |value| Answer { node: node.clone(), value })
        };
        let answers = answers.into_iter().flat_map(of_node).collect();
        Collected { answers, expected, silent, nodes, knew_nodes, unread, unresponsive }
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

    /// Sends a request as an emitter, which first has to discover the nodes.
    pub(crate) async fn request_as_emitter<T>(
        &self,
        nsp: &Namespace,
        wait: Duration,
        awaited: Awaited,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(Reply) -> Option<T>,
    ) -> Result<Collected<T>> {
        // Of another namespace it is not known which sessions serve it.
        let awaits_listening = awaited == Awaited::AllListening && *nsp == Namespace::default();
        let request = self.start_request(Uid::emitter(), nsp, wait, awaits_listening, body, read).await?;
        let collected = request.collect().await?;
        self.ensure_loopback(wait)?;
        Ok(collected)
    }

    /// The servers that listen, as Postgres shows, and are not among the live ones.
    #[cfg(feature = "cli")]
    pub(crate) async fn unresponsive(
        &self,
        nsp: &Namespace,
        live: impl Iterator<Item = &Uid>,
    ) -> Unresponsive {
        if *nsp != Namespace::default() {
            return Unresponsive::default();
        }
        let sessions =
            listening(self.0.rows.clone(), self.options().channel_prefix.clone(), Arc::default()).await;
        sessions.unwrap_or_default().unresponsive(live)
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
        self.start_request(uid, nsp, wait, false, body, read).await
    }

    async fn start_request<T>(
        &self,
        uid: Uid,
        nsp: &Namespace,
        wait: Duration,
        awaits_listening: bool,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(Reply) -> Option<T>,
    ) -> Result<PendingRequest<T>> {
        let deadline = Instant::now() + wait.min(LONGEST);
        let id = RequestId::random();
        let (writer, parts) = lossy_queue(ANSWER_BYTES);
        let request = NewRequest {
            id: id.clone(),
            channel: self.channel(nsp)?,
            namespace: nsp.clone(),
            sender: uid,
            body: body(id.clone()),
            deadline,
            awaits_listening,
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
        let Summary { expected, nodes, silent, knew_peers, unresponsive, .. } =
            self.summary.take().unwrap_or_default();
        let knew_nodes = knew_peers && !self.overflowed;
        tracing::trace!(request = %self.guard.id, expected, nodes, "a request has ended");
        let unread = std::mem::take(&mut self.unread);
        Ok(Collected { answers, expected, silent, nodes, knew_nodes, unread, unresponsive })
    }
}
