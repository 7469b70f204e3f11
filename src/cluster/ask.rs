//! Asking all nodes of a namespace, and collecting what they answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout_at};

use super::{Cluster, Content, Event, LiveNode, Subscription};
use crate::protocol::{Body, Header, MessageKind, Namespace, RemoteSocket, RequestId, Uid, Value};
use crate::{Error, Result};

/// How long nodes that have not been heard yet are given to answer an initial heartbeat, which they do at once.
const DISCOVERY: Duration = Duration::from_millis(500);

/// How often to look for nodes that have fallen silent.
const TICK: Duration = Duration::from_secs(1);

/// One node's word.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The node that gave it.
    pub node: Uid,
    /// What it said.
    pub value: T,
}

/// What came in answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected<T> {
    /// The answers, in the order in which they came.
    pub answers: Vec<Answer<T>>,
    /// How many answers were promised. With fewer here, the time was over first.
    pub expected: u64,
    /// Live nodes that did not answer at all, or not with everything they promised.
    pub silent: Vec<Uid>,
    /// How many nodes answered in full.
    pub nodes: usize,
}

impl<T> Collected<T> {
    /// Whether every live node has said all it had to say.
    pub fn is_complete(&self) -> bool {
        self.silent.is_empty()
    }

    /// The answers alone.
    pub fn into_values(self) -> Vec<T> {
        self.answers.into_iter().map(|answer| answer.value).collect()
    }
}

/// How far one node has come.
#[derive(Default)]
struct Progress {
    expected: Option<u64>,
    came: u64,
}

impl Progress {
    fn is_complete(&self) -> bool {
        self.expected.is_some_and(|expected| self.came >= expected)
    }
}

impl Cluster {
    /// The nodes that are live in a namespace, found by one initial heartbeat from an emitter, which every version
    /// answers and none counts. Returns as soon as `enough` are known, else after `wait`.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`] and [`Cluster::publish`].
    pub async fn nodes(&self, nsp: &Namespace, wait: Duration, enough: usize) -> Result<Vec<LiveNode>> {
        let mut heard = self.subscribe(std::slice::from_ref(nsp), |header| header.is_some()).await?;
        self.publish_as_emitter(nsp, Body::InitialHeartbeat).await?;
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let (live, _) = self.live_nodes(nsp).await?;
            if live.len() >= enough {
                return Ok(live);
            }
            if timeout_at(deadline, heard.next()).await.is_err() {
                return Ok(self.live_nodes(nsp).await?.0);
            }
        }
    }

    pub(crate) async fn live_nodes(&self, nsp: &Namespace) -> Result<(Vec<LiveNode>, bool)> {
        let channel = nsp.channel(&self.options().channel_prefix)?;
        Ok(self.hub().await?.live_nodes(&channel))
    }

    /// Broadcasts an event and collects the acknowledgements of the clients. `body` makes the broadcast of the request.
    pub(crate) async fn ask_clients(
        &self,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
    ) -> Result<Collected<Value>> {
        self.ask(nsp, wait, body, |body| match body {
            Body::BroadcastClientCount { client_count, .. } => Some(Said::Promise(*client_count)),
            Body::BroadcastAck { answer, .. } => Some(Said::One(answer.clone())),
            _ => None,
        })
        .await
    }

    /// Asks the servers themselves.
    pub(crate) async fn ask_servers(
        &self,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
    ) -> Result<Collected<Value>> {
        self.ask(nsp, wait, body, |body| match body {
            Body::ServerSideEmitResponse { answer, .. } => Some(Said::All(answer.clone())),
            _ => None,
        })
        .await
    }

    /// Asks every node for its sockets.
    pub(crate) async fn ask_for_sockets(
        &self,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
    ) -> Result<Collected<Vec<RemoteSocket>>> {
        self.ask(nsp, wait, body, |body| match body {
            Body::FetchSocketsResponse { sockets, .. } => Some(Said::All(sockets.clone())),
            _ => None,
        })
        .await
    }

    async fn ask<T>(
        &self,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: impl Fn(&Body) -> Option<Said<T>>,
    ) -> Result<Collected<T>> {
        let request_id = RequestId::random();
        let heard = self.subscribe(std::slice::from_ref(nsp), is_of_interest).await?;
        let (_, all_known) = self.live_nodes(nsp).await?;
        let deadline = Instant::now() + wait;
        let mut known_from = Instant::now();
        if !all_known {
            self.publish_as_emitter(nsp, Body::InitialHeartbeat).await?;
            known_from = deadline.min(Instant::now() + DISCOVERY);
        }
        self.publish_as_emitter(nsp, body(request_id.clone())).await?;
        Asking {
            cluster: self,
            nsp,
            request_id,
            heard,
            known_from,
            deadline,
            of: HashMap::new(),
            answers: Vec::new(),
        }
        .collect(read)
        .await
    }
}

/// Answers; and whatever shows that a node is live, or has left, makes the asker look again.
fn is_of_interest(header: Option<&Header>) -> bool {
    use MessageKind::*;
    let kinds = [
        FetchSocketsResponse,
        ServerSideEmitResponse,
        BroadcastClientCount,
        BroadcastAck,
        InitialHeartbeat,
        Heartbeat,
        AdapterClose,
    ];
    header.is_some_and(|header| kinds.contains(&header.kind))
}

/// What a message means to a request.
enum Said<T> {
    /// So many answers will come from this node.
    Promise(u64),
    /// One of them.
    One(T),
    /// The node's only one.
    All(T),
}

/// A request under way.
struct Asking<'a, T> {
    cluster: &'a Cluster,
    nsp: &'a Namespace,
    request_id: RequestId,
    heard: Subscription,
    /// From when on every live node must have been heard.
    known_from: Instant,
    deadline: Instant,
    of: HashMap<Uid, Progress>,
    answers: Vec<Answer<T>>,
}

impl<T> Asking<'_, T> {
    async fn collect(mut self, read: impl Fn(&Body) -> Option<Said<T>>) -> Result<Collected<T>> {
        loop {
            let silent = self.silent().await?;
            let now = Instant::now();
            if now >= self.deadline || (silent.is_empty() && now >= self.known_from) {
                let expected = self.of.values().map(|node| node.expected.unwrap_or(node.came)).sum();
                let nodes = self.of.values().filter(|node| node.is_complete()).count();
                return Ok(Collected { answers: self.answers, expected, silent, nodes });
            }
            let next_look = if now < self.known_from { self.known_from } else { now + TICK };
            tokio::select! {
                event = self.heard.next() => match event {
                    Some(Event::Message(received)) => {
                        if let Content::Message(message) = &received.content
                            && message.body.request_id() == Some(&self.request_id)
                            && let Some(said) = read(&message.body)
                        {
                            self.note(message.uid.clone(), said);
                        }
                    }
                    Some(_) => {}
                    None => return Err(Error::Closed),
                },
                () = sleep_until(next_look.min(self.deadline).into()) => {}
            }
        }
    }

    fn note(&mut self, node: Uid, said: Said<T>) {
        let progress = self.of.entry(node.clone()).or_default();
        match said {
            Said::Promise(count) => progress.expected = Some(count),
            Said::One(value) => {
                progress.came += 1;
                self.answers.push(Answer { node, value });
            }
            Said::All(value) => {
                *progress = Progress { expected: Some(1), came: 1 };
                self.answers.push(Answer { node, value });
            }
        }
    }

    /// Live nodes that have not said everything yet. Who has left is waited for no longer.
    async fn silent(&self) -> Result<Vec<Uid>> {
        let (live, _) = self.cluster.live_nodes(self.nsp).await?;
        let is_silent = |uid: &Uid| !self.of.get(uid).is_some_and(Progress::is_complete);
        Ok(live.into_iter().map(|node| node.uid).filter(is_silent).collect())
    }
}
