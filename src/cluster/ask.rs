//! Requests: ask all peers of a namespace, and collect their answers.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::driver::{Command, Gone, Part, Reaper};
use super::state::{DISCOVERY, NewRequest, Reply, Summary};
use super::{Cluster, LiveNode};
use crate::postgres::lossy_queue::{Next, Reader, lossy_queue};
use crate::protocol::{Body, Namespace, RemoteSocket, RequestId, Uid, Value};
use crate::{Error, Result};

/// How many bytes of answers may wait for their reader.
const ANSWER_BYTES: usize = 256 << 20;

/// One peer's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The node that gave it.
    pub node: Uid,
    /// What it said.
    pub value: T,
}

/// What came in answer to a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Collected<T> {
    /// The answers, in the order in which they came.
    pub answers: Vec<Answer<T>>,
    /// How many answers were promised. With fewer here, the time was over first.
    pub expected: u64,
    /// Live nodes that were asked and did not answer, or not with everything they promised.
    pub silent: Vec<Uid>,
    /// How many nodes answered in full.
    pub nodes: usize,
    /// Whether the nodes that were asked are known to be all. They are not after a loss of the connection, before each of
    /// them has been heard again.
    pub knew_nodes: bool,
    /// Answers that came and could not be read, and why: a row of the attachment table that was gone, or that this
    /// role may not see. They may belong to another request.
    pub unread: Vec<Answer<String>>,
}

impl<T> Collected<T> {
    /// Whether every live node has said all it had to say.
    pub fn is_complete(&self) -> bool {
        self.knew_nodes && self.silent.is_empty()
    }

    /// The answers alone.
    pub fn into_values(self) -> Vec<T> {
        self.answers.into_iter().map(|answer| answer.value).collect()
    }
}

impl Collected<Vec<RemoteSocket>> {
    /// The sockets of all nodes, each with its node.
    pub(crate) fn flatten(self) -> Collected<RemoteSocket> {
        let Self { answers, expected, silent, nodes, knew_nodes, unread } = self;
        let of_node = |Answer { node, value: sockets }: Answer<Vec<RemoteSocket>>| {
            sockets.into_iter().map(move |value| Answer { node: node.clone(), value })
        };
        let answers = answers.into_iter().flat_map(of_node).collect();
        Collected { answers, expected, silent, nodes, knew_nodes, unread }
    }
}

impl Cluster {
    /// The nodes that are live in a namespace, found by one initial heartbeat from an emitter, which every version
    /// answers and none counts. Returns as soon as `enough` are known, else after `wait`.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`] and [`Cluster::publish`], and [`Error::NotificationsNotDelivered`] where not
    /// even the heartbeat itself arrived.
    pub async fn nodes(
        &self,
        nsp: impl Into<Namespace>,
        wait: Duration,
        enough: usize,
    ) -> Result<Vec<LiveNode>> {
        let nsp = &nsp.into();
        let mut heard = self.subscribe([nsp], |header| header.is_some()).await?;
        self.publish_as_emitter(nsp, Body::InitialHeartbeat).await?;
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let (live, _) = self.live_nodes(nsp).await?;
            if live.len() >= enough {
                return Ok(live);
            }
            if timeout_at(deadline, heard.next()).await.is_err() {
                self.ensure_loopback(wait)?;
                return Ok(self.live_nodes(nsp).await?.0);
            }
        }
    }

    /// Asks as an emitter, who first has to find out which nodes there are.
    pub(crate) async fn ask_as_emitter<T>(
        &self,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(Reply) -> Option<T>,
    ) -> Result<Collected<T>> {
        let collected = self.ask(Uid::emitter(), nsp, wait, body, read).await?.collect().await?;
        self.ensure_loopback(wait)?;
        Ok(collected)
    }

    /// An asker hears at least its own question, if there was time for it.
    pub(crate) fn ensure_loopback(&self, waited: Duration) -> Result<()> {
        match waited >= DISCOVERY && self.is_deaf() {
            true => Err(Error::NotificationsNotDelivered),
            false => Ok(()),
        }
    }

    /// Sends a request, and gives the answers as they come. The time covers all: connecting, listening, finding out which
    /// nodes there are, and their answers.
    pub(crate) async fn ask<T>(
        &self,
        uid: Uid,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(Reply) -> Option<T>,
    ) -> Result<PendingRequest<T>> {
        let deadline = Instant::now() + wait;
        let id = RequestId::random();
        let (writer, parts) = lossy_queue(ANSWER_BYTES);
        let request = NewRequest {
            id: id.clone(),
            channel: self.channel(nsp)?,
            namespace: nsp.clone(),
            sender: uid,
            body: body(id.clone()),
            deadline,
        };
        let reaper = timeout_at(deadline.into(), async {
            let driver = self.driver().await?;
            driver.send(Command::Request { request, parts: writer }).await?;
            Ok::<_, Error>(driver.reaper.clone())
        });
        let in_time = || Error::ConnectionLost("no connection in time for the request".into());
        let reaper = reaper.await.map_err(|_| in_time())??;
        Ok(PendingRequest {
            parts,
            summary: None,
            missed: false,
            unread: Vec::new(),
            read,
            guard: Guard { id, reaper },
        })
    }
}

/// The acknowledgement of a client.
pub(crate) fn client_said(reply: Reply) -> Option<Value> {
    match reply {
        Reply::Ack(answer) => Some(answer),
        _ => None,
    }
}

/// The answer of a server to a server-side event.
pub(crate) fn server_said(reply: Reply) -> Option<Value> {
    match reply {
        Reply::Answer(answer) => Some(answer),
        _ => None,
    }
}

/// The sockets of a server.
pub(crate) fn node_listed(reply: Reply) -> Option<Vec<RemoteSocket>> {
    match reply {
        Reply::Sockets(sockets) => Some(sockets),
        _ => None,
    }
}

/// A pending request. Dropping it ends it.
pub(crate) struct PendingRequest<T> {
    parts: Reader<Part>,
    summary: Option<Summary>,
    /// Whether answers were dropped, as there were too many at once.
    missed: bool,
    unread: Vec<Answer<String>>,
    read: fn(Reply) -> Option<T>,
    // Dropped after the reader, so that the driver finds no reader where this says that the request is gone.
    guard: Guard,
}

struct Guard {
    id: RequestId,
    reaper: Reaper,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.reaper.add(Gone::Request(self.id.clone()));
    }
}

impl<T> PendingRequest<T> {
    /// The next answer; `None` once every node that was asked has said all, or the time is over.
    pub(crate) async fn next(&mut self) -> Result<Option<Answer<T>>> {
        while self.summary.is_none() {
            match self.parts.next().await {
                Some(Next::Item(Part::Answer { node, reply })) => {
                    if let Some(value) = (self.read)(reply) {
                        return Ok(Some(Answer { node, value }));
                    }
                }
                Some(Next::Item(Part::Unread { node, reason })) => {
                    self.unread.push(Answer { node, value: reason });
                }
                Some(Next::Item(Part::Finished(summary))) => self.summary = Some(summary?),
                Some(Next::Missed(_)) => self.missed = true,
                None => return Err(Error::Closed),
            }
        }
        Ok(None)
    }

    /// How many answers are missing, once [`next`](Self::next) has returned the last one: the rest of those that were
    /// promised, and one of each live node that promised none.
    #[cfg(feature = "adapter")]
    pub(crate) fn missing(&self) -> u64 {
        self.summary.as_ref().map_or(0, |summary| summary.missing)
    }

    /// All answers.
    pub(crate) async fn collect(mut self) -> Result<Collected<T>> {
        let mut answers = Vec::new();
        while let Some(answer) = self.next().await? {
            answers.push(answer);
        }
        let Summary { expected, nodes, silent, knew_peers, .. } = self.summary.take().unwrap_or_default();
        let knew_nodes = knew_peers && !self.missed;
        tracing::trace!(request = %self.guard.id, expected, nodes, "a request has ended");
        Ok(Collected {
            answers,
            expected,
            silent,
            nodes,
            knew_nodes,
            unread: std::mem::take(&mut self.unread),
        })
    }
}
