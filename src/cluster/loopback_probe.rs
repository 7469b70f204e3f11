//! The loopback probe: whether published notifications are delivered to this process.
//!
//! A notification is a commit that writes WAL. So a probe is published only when the last successful probe proves nothing
//! any more: at the start, after an interruption of the listening connection, on a new publishing connection, and after any
//! other message was published. Otherwise the probe only checks that both sessions answer, which writes nothing.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::timeout_at;

use super::{Cluster, Event, Subscription};
use crate::Result;
use crate::protocol::{Body, Message, Namespace, PROBES, Uid};

/// The loopback probe: heartbeats in a random namespace, which this process publishes and has to receive.
pub(crate) struct LoopbackProbe {
    cluster: Cluster,
    nsp: Namespace,
    subscription: Subscription,
    /// The number of consecutive probes that did not arrive.
    losses: u32,
    /// The state that the last successful probe proves; `None` if a new probe is needed.
    proven: Option<ProvenState>,
}

/// The state of the sessions. While it does not change, the last successful probe is still valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProvenState {
    /// How often the listening connection was interrupted.
    interruptions: u64,
    /// How many publishing connections there have been.
    connections: u64,
    /// How many messages were queued.
    queued: u64,
}

/// The number of consecutive lost probes after which the sessions are replaced, which loses messages.
const MAX_LOSSES: u32 = 2;

/// The outcome of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeOutcome {
    /// It arrived. The time between publication and arrival.
    Delivered(Duration),
    /// No probe was needed: nothing has changed since the last successful one, and both sessions answer.
    Skipped,
    /// It was published, and did not arrive in time.
    NotDelivered,
    /// It could not be published in time.
    NotPublished,
    /// The listening connection was interrupted, so the probe may be lost.
    Interrupted,
}

impl LoopbackProbe {
    /// Starts to listen.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`].
    pub(crate) async fn listen(cluster: &Cluster) -> Result<Self> {
        let nsp = Namespace::new(&format!("{PROBES}{}", Uid::random()));
        let subscription = cluster.subscribe([&nsp], |_| true).await?;
        Ok(Self { cluster: cluster.clone(), nsp, subscription, losses: 0, proven: None })
    }

    /// Checks that both sessions answer, if the last successful probe is still valid; else publishes a probe.
    pub(crate) async fn check(&mut self, limit: Duration) -> ProbeOutcome {
        if self.proven.is_some() && self.proven == Some(self.current_state()) && self.cluster.is_listening() {
            // The listener pings its session itself.
            if !self.cluster.publishing_session_answers(limit).await {
                self.proven = None;
                return ProbeOutcome::NotPublished;
            }
            if self.proven == Some(self.current_state()) {
                return ProbeOutcome::Skipped;
            }
        }
        let before = self.current_state();
        let outcome = self.probe(limit).await;
        // A message that was queued during the probe may be lost, so it needs the next probe.
        let is_delivered = matches!(outcome, ProbeOutcome::Delivered(_));
        self.proven = is_delivered.then_some(ProvenState { queued: before.queued + 1, ..before });
        outcome
    }

    fn current_state(&self) -> ProvenState {
        ProvenState {
            interruptions: self.cluster.interruptions(),
            connections: self.cluster.0.publishing.connections(),
            queued: self.cluster.0.publisher.queued(),
        }
    }

    /// Publishes a probe, and waits for it. If probes are lost although both sessions work, both sessions are replaced:
    /// they may be on different servers.
    pub(crate) async fn probe(&mut self, limit: Duration) -> ProbeOutcome {
        let interruptions = self.cluster.interruptions();
        let was_listening = self.cluster.is_listening();
        let mut outcome = self.publish_and_wait(limit).await;
        let is_steady =
            was_listening && self.cluster.is_listening() && self.cluster.interruptions() == interruptions;
        if outcome == ProbeOutcome::NotDelivered && !is_steady {
            outcome = ProbeOutcome::Interrupted;
        }
        self.losses = if outcome == ProbeOutcome::NotDelivered { self.losses + 1 } else { 0 };
        if outcome != ProbeOutcome::Interrupted {
            self.cluster.0.loopback.record(matches!(outcome, ProbeOutcome::Delivered(_)));
        }
        // Behind a pooler in transaction mode, new sessions would lose it as well.
        if self.losses >= MAX_LOSSES && !self.cluster.receives_nothing() {
            tracing::warn!("the loopback probe did not arrive; replacing all sessions");
            self.cluster.0.same_server.replace_sessions();
            self.losses = 0;
        }
        outcome
    }

    async fn publish_and_wait(&mut self, limit: Duration) -> ProbeOutcome {
        // Events before this probe do not matter to it.
        while let Some(Some(_)) = self.subscription.next().now_or_never() {}
        let sent = Instant::now();
        let deadline = (sent + limit).into();
        let message = Message { uid: Uid::random(), nsp: self.nsp.clone(), body: Body::Heartbeat };
        // A publication that hangs counts as not published.
        if !matches!(timeout_at(deadline, self.cluster.publish(&message)).await, Ok(Ok(()))) {
            return ProbeOutcome::NotPublished;
        }
        // Under load, the messages before the probe are read first, so the time starts again.
        let deadline = (Instant::now() + limit).into();
        while let Ok(Some(event)) = timeout_at(deadline, self.subscription.next()).await {
            match event {
                Event::Message(received)
                    if received.content.header().is_some_and(|header| header.uid == message.uid) =>
                {
                    return ProbeOutcome::Delivered(sent.elapsed());
                }
                // The probe may have been published before the session listened. The next probe decides.
                Event::Restored(_) | Event::Missed(_) => return ProbeOutcome::Interrupted,
                _ => {}
            }
        }
        ProbeOutcome::NotDelivered
    }
}
