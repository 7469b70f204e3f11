//! One node: a namespace of this server, as a member of the cluster with its own uid.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinError;

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
    /// Whether it has published its goodbye (`ADAPTER_CLOSE`). It must publish nothing more, or other servers would count
    /// it as live again.
    is_closed: AtomicBool,
    /// Whether it has published anything, so that other servers may know it. Otherwise it needs no goodbye.
    has_published: AtomicBool,
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
            has_published: AtomicBool::new(false),
        }
    }

    /// Publishes a message. Returns when it is committed.
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

    /// Publishes a message that no caller waits for, and reports an error.
    pub(super) async fn publish_or_report(&self, body: Body) {
        let kind = body.kind();
        if let Err(error) = self.publish(body).await
            && !self.is_closed()
        {
            self.report(&error, &format!("cannot publish a {kind}"));
        }
    }

    /// Logs an error that no caller gets, and calls the error handler.
    pub(super) fn report(&self, error: &Error, what: &str) {
        tracing::warn!(%error, nsp = %self.nsp, "{what}");
        self.cluster.options().report(error);
    }

    /// Reports the panic of a task, if it ended with one. Returns whether it did.
    pub(super) fn report_panic(&self, task: &str, error: &JoinError, what: &str) -> bool {
        if error.is_panic() {
            self.report(&Error::Panicked { what: task.into(), message: error.to_string() }, what);
        }
        error.is_panic()
    }

    /// Queues a message. The receipt resolves when it is committed. After the goodbye it fails.
    pub(super) async fn enqueue(&self, body: Body) -> Result<Receipt> {
        match self.is_closed() {
            true => Err(Error::Closed),
            false => self.send(body).await,
        }
    }

    async fn send(&self, body: Body) -> Result<Receipt> {
        self.has_published.store(true, Ordering::Relaxed);
        self.meters.published(body.kind()).increment(1);
        let is_durable = self.cluster.options().durable && may_be_durable(&body);
        let message = Message { uid: self.uid.clone(), nsp: self.nsp.clone(), body };
        match is_durable {
            true => self.cluster.enqueue_durable(&message).await,
            false => self.cluster.enqueue(&message).await,
        }
    }

    /// Joins the cluster. With `hello_pending`, its initial heartbeat is published, and retried until it is committed.
    pub(super) async fn join(&self, subscription: SubscriptionId, hello_pending: bool) -> Result<()> {
        self.has_published.fetch_or(hello_pending, Ordering::Relaxed);
        self.cluster.join(subscription, &self.nsp, &self.uid, hello_pending).await?;
        // A concurrent close may have run before the join.
        if self.is_closed() {
            self.cluster.leave(&self.nsp, &self.uid).await;
            if hello_pending {
                // The initial heartbeat may have been published after the goodbye.
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

    /// Sends a request to the other nodes.
    pub(super) async fn request<T>(
        &self,
        wait: Duration,
        body: impl FnOnce(RequestId) -> Body,
        read: fn(Reply) -> Option<T>,
    ) -> Result<PendingRequest<T>> {
        self.cluster.request(self.uid.clone(), &self.nsp, wait, body, read).await
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Whether it has published anything.
    pub(super) fn has_published(&self) -> bool {
        self.has_published.load(Ordering::Relaxed)
    }

    /// Closes the node: from now on it publishes only its goodbye. Returns whether it was open.
    pub(super) fn close(&self) -> bool {
        let was_open = !self.is_closed.swap(true, Ordering::Relaxed);
        if was_open {
            self.cluster.suppress_goodbye(&self.nsp, &self.uid);
        }
        was_open
    }

    /// Hands its goodbye over to the cluster, without waiting.
    pub(super) fn queue_goodbye_on_drop(&self) {
        self.cluster.queue_goodbye_on_drop(&self.nsp, &self.uid);
    }

    /// Queues the goodbye of a closed node, after all its other messages.
    pub(super) async fn enqueue_goodbye(&self) -> Result<Receipt> {
        self.cluster.leave(&self.nsp, &self.uid).await;
        self.send(Body::AdapterClose).await
    }

    /// Hands a goodbye that was not published over to the cluster, which retries it. Without the goodbye, the lock of this
    /// process would keep the node live.
    pub(super) async fn queue_goodbye(&self) -> Result<()> {
        self.cluster.queue_goodbye(&self.nsp, &self.uid).await
    }
}

/// Whether it is an event for clients that may be durable: neither volatile nor with acknowledgements.
fn may_be_durable(body: &Body) -> bool {
    match body {
        Body::Broadcast { opts, request_id: None, .. } => opts.flags.volatile != Some(true),
        _ => false,
    }
}
