//! The loopback probe: whether published notifications are delivered to this process.
//!
//! A notification is a commit that writes WAL. So one is published only where the last that arrived proves nothing
//! any more: at the start, after an interruption of the listening connection, on another publishing connection, and
//! after anything else was published. In between, both sessions are asked whether they answer, which writes nothing.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::timeout_at;

use super::{Cluster, Event, Subscription};
use crate::Result;
use crate::protocol::{Body, Message, Namespace, PROBES, Uid};

/// The loopback probe: heartbeats in a random namespace, which the node publishes and has to receive.
pub(crate) struct LoopbackProbe {
    cluster: Cluster,
    nsp: Namespace,
    heard: Subscription,
    /// How many in a row did not arrive.
    silences: u32,
    /// What was so when the last one arrived.
    proven: Option<Circumstances>,
}

/// The circumstances that the arrival of a probe proves something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Circumstances {
    /// How often the listening connection was interrupted.
    interruptions: u64,
    /// How many publishing connections there have been.
    connections: u64,
    /// How many messages were queued.
    queued: u64,
}

/// How many have to be lost in a row before the sessions are replaced, which costs messages.
const SILENCES: u32 = 2;

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeOutcome {
    /// It arrived, after so long.
    Back(Duration),
    /// No probe was needed: nothing has changed since the last one arrived, and both sessions answer.
    Quiet,
    /// It was published, and did not arrive in time.
    NotDelivered,
    /// It could not be published in time.
    NotPublished,
    /// The listening connection was interrupted meanwhile, so that it may have been lost.
    Interrupted,
}

impl LoopbackProbe {
    /// Starts to listen.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`].
    pub(crate) async fn listen(cluster: &Cluster) -> Result<Self> {
        let nsp = Namespace::new(&format!("{PROBES}{}", Uid::random()));
        let heard = cluster.subscribe([&nsp], |_| true).await?;
        Ok(Self { cluster: cluster.clone(), nsp, heard, silences: 0, proven: None })
    }

    /// Asks both sessions whether they answer, where that is enough to know; else publishes a heartbeat.
    pub(crate) async fn check(&mut self, patience: Duration) -> ProbeOutcome {
        if self.proven.is_some() && self.proven == Some(self.circumstances()) && self.cluster.is_listening() {
            // The listening session has pings of its own.
            if !self.cluster.publishing_session_answers(patience).await {
                self.proven = None;
                return ProbeOutcome::NotPublished;
            }
            if self.proven == Some(self.circumstances()) {
                return ProbeOutcome::Quiet;
            }
        }
        let before = self.circumstances();
        let outcome = self.sound(patience).await;
        // What was queued meanwhile may be lost, and the next one tells.
        let is_back = matches!(outcome, ProbeOutcome::Back(_));
        self.proven = is_back.then_some(Circumstances { queued: before.queued + 1, ..before });
        outcome
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances {
            interruptions: self.cluster.interruptions(),
            connections: self.cluster.0.publishing.connections(),
            queued: self.cluster.0.publisher.queued(),
        }
    }

    /// Publishes one, and waits for it. Where it is lost between two sessions that seem to work, both are replaced: they may
    /// be on different servers.
    pub(crate) async fn sound(&mut self, patience: Duration) -> ProbeOutcome {
        let interruptions = self.cluster.interruptions();
        let was_listening = self.cluster.is_listening();
        let mut outcome = self.publish_and_wait(patience).await;
        let is_steady =
            was_listening && self.cluster.is_listening() && self.cluster.interruptions() == interruptions;
        if outcome == ProbeOutcome::NotDelivered && !is_steady {
            outcome = ProbeOutcome::Interrupted;
        }
        self.silences = if outcome == ProbeOutcome::NotDelivered { self.silences + 1 } else { 0 };
        if outcome != ProbeOutcome::Interrupted {
            self.cluster.0.loopback.note(matches!(outcome, ProbeOutcome::Back(_)));
        }
        // A pooler in between would lose it on any session.
        if self.silences >= SILENCES && !self.cluster.is_deaf() {
            tracing::warn!("the loopback probe did not arrive; replacing all sessions");
            self.cluster.0.same_server.replace_sessions();
            self.silences = 0;
        }
        outcome
    }

    async fn publish_and_wait(&mut self, patience: Duration) -> ProbeOutcome {
        // What happened since the last one does not concern this one.
        while let Some(Some(_)) = self.heard.next().now_or_never() {}
        let sent = Instant::now();
        let deadline = (sent + patience).into();
        let message = Message { uid: Uid::random(), nsp: self.nsp.clone(), body: Body::Heartbeat };
        // One that hangs is not sent, either.
        if !matches!(timeout_at(deadline, self.cluster.publish(&message)).await, Ok(Ok(()))) {
            return ProbeOutcome::NotPublished;
        }
        // What came in a flood before it has to be read first.
        let deadline = (Instant::now() + patience).into();
        while let Ok(Some(event)) = timeout_at(deadline, self.heard.next()).await {
            match event {
                Event::Message(received)
                    if received.content.header().is_some_and(|header| header.uid == message.uid) =>
                {
                    return ProbeOutcome::Back(sent.elapsed());
                }
                // It may have been published before the session listened. The next probe decides.
                Event::Restored(_) | Event::Missed(_) => return ProbeOutcome::Interrupted,
                _ => {}
            }
        }
        ProbeOutcome::NotDelivered
    }
}
