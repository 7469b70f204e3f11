//! Asking all nodes of a namespace, and collecting what they answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout_at};

use super::{Cluster, Content, Event, LiveNode, Subscription};
use crate::protocol::{Body, Header, Message, MessageKind, Namespace, RemoteSocket, RequestId, Uid, Value};
use crate::{Error, Result};

/// How long nodes that have not been heard yet are given to answer an initial heartbeat, which they do at once.
pub(super) const DISCOVERY: Duration = Duration::from_millis(500);

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
    /// Answers that came and could not be read, and why: a row of the attachment table that was gone, or that this
    /// role may not see. They may belong to another request.
    pub unread: Vec<Answer<String>>,
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

impl Collected<Vec<RemoteSocket>> {
    /// The sockets of all nodes, each with its node.
    pub(crate) fn flatten(self) -> Collected<RemoteSocket> {
        let Self { answers, expected, silent, nodes, unread } = self;
        let of_node = |Answer { node, value: sockets }: Answer<Vec<RemoteSocket>>| {
            sockets.into_iter().map(move |value| Answer { node: node.clone(), value })
        };
        Collected {
            answers: answers.into_iter().flat_map(of_node).collect(),
            expected,
            silent,
            nodes,
            unread,
        }
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
    /// Those of [`Cluster::subscribe`] and [`Cluster::publish`], and [`Error::Deaf`] where not even the heartbeat itself
    /// came back.
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
                self.must_hear(wait)?;
                return Ok(self.live_nodes(nsp).await?.0);
            }
        }
    }

    pub(crate) async fn live_nodes(&self, nsp: &Namespace) -> Result<(Vec<LiveNode>, bool)> {
        let channel = nsp.channel(&self.options().channel_prefix)?;
        Ok(self.hub().await?.live_nodes(&channel))
    }

    /// Asks as an emitter, who first has to find out which nodes there are.
    pub(crate) async fn ask_as_emitter<T>(
        &self,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(&Body) -> Option<Said<T>>,
    ) -> Result<Collected<T>> {
        let collected = self.ask(Uid::emitter(), nsp, wait, body, read).await?.collect().await?;
        self.must_hear(wait)?;
        Ok(collected)
    }

    /// Whoever asks hears at least the own question, if there was time for it.
    pub(crate) fn must_hear(&self, waited: Duration) -> Result<()> {
        match waited >= DISCOVERY && self.is_deaf() {
            true => Err(Error::Deaf),
            false => Ok(()),
        }
    }

    /// Sends a request, and gives the answers as they come. A node knows its peers; an emitter first finds out who is
    /// there.
    pub(crate) async fn ask<T>(
        &self,
        uid: Uid,
        nsp: &Namespace,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(&Body) -> Option<Said<T>>,
    ) -> Result<Asking<T>> {
        let request_id = RequestId::random();
        let heard = self.subscribe(std::slice::from_ref(nsp), is_of_interest).await?;
        let (_, all_known) = self.live_nodes(nsp).await?;
        let deadline = Instant::now() + wait;
        let mut known_from = Instant::now();
        if uid.is_emitter() && !all_known {
            self.publish_as_emitter(nsp, Body::InitialHeartbeat).await?;
            known_from = deadline.min(Instant::now() + DISCOVERY);
        }
        let message = Message { uid: uid.clone(), nsp: nsp.clone(), body: body(request_id.clone()) };
        self.publish(&message).await?;
        let (cluster, nsp, of) = (self.clone(), nsp.clone(), HashMap::new());
        let unread = Vec::new();
        Ok(Asking { cluster, uid, nsp, request_id, heard, known_from, deadline, of, read, unread })
    }
}

/// What an answer to a broadcast with acknowledgements means.
pub(crate) fn client_said(body: &Body) -> Option<Said<Value>> {
    match body {
        Body::BroadcastClientCount { client_count, .. } => Some(Said::Promise(*client_count)),
        Body::BroadcastAck { answer, .. } => Some(Said::One(answer.clone())),
        _ => None,
    }
}

/// What an answer to a server-side event means.
pub(crate) fn server_said(body: &Body) -> Option<Said<Value>> {
    match body {
        Body::ServerSideEmitResponse { answer, .. } => Some(Said::All(answer.clone())),
        _ => None,
    }
}

/// What an answer to a request for sockets means.
pub(crate) fn node_listed(body: &Body) -> Option<Said<Vec<RemoteSocket>>> {
    match body {
        Body::FetchSocketsResponse { sockets, .. } => Some(Said::All(sockets.clone())),
        _ => None,
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

/// An answer that cannot be read, and why.
fn unread(content: &Content) -> Option<Answer<String>> {
    let (header, why) = match content {
        Content::Missing(header) => (header, "its attachment is gone".to_owned()),
        Content::Unreadable(Some(header), error) => (header, error.to_string()),
        Content::Message(_) | Content::Unreadable(None, _) => return None,
    };
    Some(Answer { node: header.uid.clone(), value: why })
}

/// What a message means to a request.
pub(crate) enum Said<T> {
    /// So many answers will come from this node.
    Promise(u64),
    /// One of them.
    One(T),
    /// The node's only one.
    All(T),
}

/// A request under way.
pub(crate) struct Asking<T> {
    cluster: Cluster,
    uid: Uid,
    nsp: Namespace,
    request_id: RequestId,
    heard: Subscription,
    /// From when on every live node must have been heard.
    known_from: Instant,
    deadline: Instant,
    of: HashMap<Uid, Progress>,
    read: fn(&Body) -> Option<Said<T>>,
    unread: Vec<Answer<String>>,
}

impl<T> Asking<T> {
    /// The next answer; `None` once every live node has said all, or the time is over.
    pub(crate) async fn next(&mut self) -> Result<Option<Answer<T>>> {
        loop {
            let silent = self.silent().await?;
            let now = Instant::now();
            if now >= self.deadline || (silent.is_empty() && now >= self.known_from) {
                return Ok(None);
            }
            let next_look = if now < self.known_from { self.known_from } else { now + TICK };
            tokio::select! {
                event = self.heard.next() => match event {
                    Some(Event::Message(received)) => {
                        if let Content::Message(message) = &received.content
                            && message.body.request_id() == Some(&self.request_id)
                            && let Some(said) = (self.read)(&message.body)
                            && let Some(value) = self.note(&message.uid, said)
                        {
                            return Ok(Some(Answer { node: message.uid.clone(), value }));
                        }
                        self.unread.extend(unread(&received.content));
                    }
                    Some(_) => {}
                    None => return Err(Error::Closed),
                },
                () = sleep_until(next_look.min(self.deadline).into()) => {}
            }
        }
    }

    /// All answers.
    pub(crate) async fn collect(mut self) -> Result<Collected<T>> {
        let mut answers = Vec::new();
        while let Some(answer) = self.next().await? {
            answers.push(answer);
        }
        let silent = self.silent().await?;
        let expected = self.of.values().map(|node| node.expected.unwrap_or(node.came)).sum();
        let nodes = self.of.values().filter(|node| node.is_complete()).count();
        Ok(Collected { answers, expected, silent, nodes, unread: self.unread })
    }

    /// How many answers are missing: the rest of those that were promised, and one of each live node that promised none.
    #[cfg(feature = "adapter")]
    pub(crate) async fn missing(&self) -> Result<u64> {
        let rest = |node: &Progress| node.expected.map_or(0, |expected| expected.saturating_sub(node.came));
        let promised = self.of.values().map(rest).fold(0, u64::saturating_add);
        let silent = self.silent().await?;
        let unpromised =
            silent.iter().filter(|uid| self.of.get(uid).is_none_or(|node| node.expected.is_none()));
        Ok(promised.saturating_add(unpromised.count() as u64))
    }

    fn note(&mut self, node: &Uid, said: Said<T>) -> Option<T> {
        let progress = self.of.entry(node.clone()).or_default();
        match said {
            Said::Promise(count) => {
                progress.expected = Some(count);
                None
            }
            Said::One(value) => {
                progress.came += 1;
                Some(value)
            }
            Said::All(value) => {
                *progress = Progress { expected: Some(1), came: 1 };
                Some(value)
            }
        }
    }

    /// Live nodes that have not said everything yet. Who has left is waited for no longer.
    async fn silent(&self) -> Result<Vec<Uid>> {
        let (live, _) = self.cluster.live_nodes(&self.nsp).await?;
        let is_silent = |uid: &Uid| *uid != self.uid && !self.of.get(uid).is_some_and(Progress::is_complete);
        Ok(live.into_iter().map(|node| node.uid).filter(is_silent).collect())
    }
}
