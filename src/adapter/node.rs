//! One node: a namespace of this server, as a member of the cluster with its own uid.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::admission::Dormancy;
use super::meters::Meters;
use super::readiness::Readiness;
use crate::cluster::{Cluster, LiveNode, PendingRequest, Reply, SubscriptionId};
use crate::protocol::{Body, Message, Namespace, RequestId, Uid};
use crate::{Error, Receipt, Result};

pub(super) struct Node {
    pub(super) cluster: Cluster,
    pub(super) uid: Uid,
    pub(super) nsp: Namespace,
    pub(super) meters: Meters,
    pub(super) readiness: Readiness,
    pub(super) dormancy: Dormancy,
    /// Whether it has said goodbye (`ADAPTER_CLOSE`): after a further message the other servers would count it as live
    /// again.
    is_closed: AtomicBool,
    /// Whether the other servers can know it. One that has published nothing needs no goodbye.
    has_spoken: AtomicBool,
}

impl Node {
    pub(super) fn new(cluster: Cluster, nsp: Namespace) -> Self {
        Self {
            uid: cluster.new_node(),
            cluster,
            nsp,
            meters: Meters::default(),
            readiness: Readiness::default(),
            dormancy: Dormancy::default(),
            is_closed: AtomicBool::new(false),
            has_spoken: AtomicBool::new(false),
        }
    }

    /// Publishes; returns when it is committed.
    pub(super) async fn publish(&self, body: Body) -> Result<()> {
        let start = Instant::now();
        let outcome = async { self.enqueue(body).await?.await }.await;
        match &outcome {
            Ok(()) => self.meters.publishing().record(start.elapsed()),
            Err(_) if self.is_closed() => {}
            Err(_) => metrics::counter!("pgio_publish_errors_total").increment(1),
        }
        outcome
    }

    /// Publishes what no caller waits for.
    pub(super) async fn say(&self, body: Body) {
        let kind = body.kind();
        if let Err(error) = self.publish(body).await
            && !self.is_closed()
        {
            self.report(&error, &format!("cannot publish a {kind}"));
        }
    }

    /// Takes note of an error that no caller gets.
    pub(super) fn report(&self, error: &Error, what: &str) {
        tracing::warn!(%error, nsp = %self.nsp, "{what}");
        self.cluster.options().report(error);
    }

    /// Queues a message; the receipt tells when it is committed. After the goodbye nothing goes out any more.
    pub(super) async fn enqueue(&self, body: Body) -> Result<Receipt> {
        match self.is_closed() {
            true => Err(Error::Closed),
            false => self.send(body).await,
        }
    }

    async fn send(&self, body: Body) -> Result<Receipt> {
        self.has_spoken.store(true, Ordering::Relaxed);
        self.meters.published(body.kind()).increment(1);
        let is_durable = self.cluster.options().durable && may_be_durable(&body);
        let message = Message { uid: self.uid.clone(), nsp: self.nsp.clone(), body };
        match is_durable {
            true => self.cluster.enqueue_durable(&message).await,
            false => self.cluster.enqueue(&message).await,
        }
    }

    /// From now on the others see it live; with `hello_pending` after its initial heartbeat, which is published until that
    /// succeeds.
    pub(super) async fn join(&self, heard: SubscriptionId, hello_pending: bool) -> Result<()> {
        self.has_spoken.fetch_or(hello_pending, Ordering::Relaxed);
        self.cluster.join(heard, &self.nsp, &self.uid, hello_pending).await?;
        // A concurrent close may not have found it.
        if self.is_closed() {
            self.cluster.leave(&self.nsp, &self.uid).await;
            if hello_pending {
                // It may have gone out after the goodbye.
                self.queue_goodbye().await?;
            }
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// The other live nodes of the namespace.
    pub(super) async fn peers(&self) -> Result<Vec<LiveNode>> {
        let (live, _) = self.cluster.live_nodes(&self.nsp).await?;
        Ok(live.into_iter().filter(|node| node.uid != self.uid).collect())
    }

    /// Asks the other nodes.
    pub(super) async fn request<T>(
        &self,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(Reply) -> Option<T>,
    ) -> Result<PendingRequest<T>> {
        self.cluster.request(self.uid.clone(), &self.nsp, wait, body, read).await
    }

    /// Whether it has said goodbye.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Whether it has published anything.
    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken.load(Ordering::Relaxed)
    }

    /// Closes the node: from now on it publishes nothing but its goodbye. Returns whether it was open.
    pub(super) fn close(&self) -> bool {
        let was_open = !self.is_closed.swap(true, Ordering::Relaxed);
        if was_open {
            self.cluster.suppress_goodbye(&self.nsp, &self.uid);
        }
        was_open
    }

    /// Its goodbye is not queued any more.
    pub(super) fn queue_goodbye_on_drop(&self) {
        self.cluster.queue_goodbye_on_drop(&self.nsp, &self.uid);
    }

    /// Queues the goodbye of a closed node, after whatever shows that it lives.
    pub(super) async fn enqueue_goodbye(&self) -> Result<Receipt> {
        self.cluster.leave(&self.nsp, &self.uid).await;
        self.send(Body::AdapterClose).await
    }

    /// The goodbye was not published. It is tried until it is, as the lock of this process shows its nodes as live.
    pub(super) async fn queue_goodbye(&self) -> Result<()> {
        self.cluster.queue_goodbye(&self.nsp, &self.uid).await
    }
}

/// Whether it is an event for clients that does not need them to be there now.
fn may_be_durable(body: &Body) -> bool {
    match body {
        Body::Broadcast { opts, request_id: None, .. } => opts.flags.volatile != Some(true),
        _ => false,
    }
}
