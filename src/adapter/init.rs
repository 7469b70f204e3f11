//! The start of a namespace's adapter: listens on the channel, then announces the namespace to the other servers.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use socketioxide_core::adapter::{SocketEmitter, Spawnable};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::node::Node;
use super::registry::Claim;
#[cfg(feature = "server")]
use super::relay::Refused;
use super::{PostgresAdapter, incoming};
use crate::cluster::Subscription;
use crate::protocol::{Body, Header, MessageKind};
use crate::{Error, Result};

/// The pause between two attempts to subscribe a dynamic namespace.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The future that `SocketIo::ns` returns. Await it before serving clients.
#[must_use = "the namespace is not served before this has been awaited"]
pub struct Init(Stage);

enum Stage {
    New(Box<dyn Start>),
    Started(BoxFuture<'static, Result<()>>),
    Done,
}

/// An adapter that is not started yet, with socketioxide's callback.
trait Start: Send {
    /// Starts the adapter of a namespace that the application adds, which waits for it.
    fn start_static(self: Box<Self>) -> BoxFuture<'static, Result<()>>;

    /// Starts the adapter of a namespace that the first client creates. No caller waits for it.
    fn start_dynamic(self: Box<Self>);
}

struct NotStarted<E, F> {
    adapter: Arc<PostgresAdapter<E>>,
    on_success: F,
}

impl Init {
    pub(super) fn new<E: SocketEmitter>(
        adapter: Arc<PostgresAdapter<E>>,
        on_success: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self(Stage::New(Box::new(NotStarted { adapter, on_success })))
    }
}

impl Future for Init {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Stage::New(_) = self.0
            && let Stage::New(start) = std::mem::replace(&mut self.0, Stage::Done)
        {
            self.0 = Stage::Started(start.start_static());
        }
        match &mut self.0 {
            Stage::Started(start) => start.poll_unpin(context),
            _ => Poll::Ready(Err(Error::Closed)),
        }
    }
}

impl Spawnable for Init {
    fn spawn(self) {
        if let Stage::New(start) = self.0 {
            start.start_dynamic();
        }
    }
}

impl<E: SocketEmitter, F: FnOnce() + Send + 'static> Start for NotStarted<E, F> {
    fn start_static(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let Self { adapter, on_success } = *self;
        async move {
            match adapter.ctr.0.registry.claim(&adapter.node) {
                Claim::Registered => {}
                Claim::Closed => return Err(Error::Closed),
                Claim::Taken => {
                    return Err(Error::Namespace {
                        namespace: adapter.node.nsp.to_string(),
                        reason: "this server serves it already".into(),
                    });
                }
            }
            let subscription = subscribe(&adapter.node).await?;
            let subscription_id = subscription.id();
            adapter.serve(subscription)?;
            // Before the initial heartbeat, so that requests of other servers find the node.
            adapter.node.join(subscription_id, false).await?;
            adapter.node.publish(Body::InitialHeartbeat).await?;
            adapter.ctr.start_cleanup();
            on_success();
            Ok(())
        }
        .boxed()
    }

    /// The namespace exists from here on, so the next client finds it. It starts at once, or with the first admitted
    /// client. Connect handlers can wait until it listens.
    ///
    /// socketioxide calls `init` for each client that did not find the namespace, and `on_success` inserts the object of
    /// that client, also over one that was inserted meanwhile. So only the first object for a path calls it. The client of
    /// a later object cannot be moved to the first one: its connection has to be closed, and it reconnects.
    fn start_dynamic(self: Box<Self>) {
        let Self { adapter, on_success } = *self;
        let shared = &adapter.ctr.0;
        #[cfg(feature = "server")]
        let permit = match shared.hooks.creating(adapter.node.nsp.as_str()) {
            Ok(permit) => permit,
            Err(Refused) => return,
        };
        #[cfg(not(feature = "server"))]
        let permit = None;
        match shared.registry.claim(&adapter.node) {
            Claim::Registered => {}
            Claim::Closed => return,
            Claim::Taken => {
                tracing::debug!("another client created the namespace first");
                #[cfg(feature = "server")]
                shared.hooks.connect_dropped();
                return;
            }
        }
        shared.adapters.insert(&adapter);
        if shared.on_admission.is_enabled() {
            adapter.node.dormancy.begin(permit);
            adapter.node.readiness.set_dormant();
            on_success();
        } else {
            on_success();
            adapter.start();
        }
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// Starts a dynamic namespace.
    pub(super) fn start(self: &Arc<Self>) {
        let starting = tokio::spawn(start_with_retries(Arc::downgrade(self), self.node.clone()));
        self.starting.get_or_init(|| AbortOnDropHandle::new(starting));
    }
}

/// Subscribes, with retries: a namespace that is created while Postgres is unreachable serves its own clients meanwhile.
/// Ends with the adapter.
async fn start_with_retries<E: SocketEmitter>(adapter: Weak<PostgresAdapter<E>>, node: Arc<Node>) {
    let mut is_reported = false;
    while !node.is_closed() && adapter.strong_count() > 0 {
        let error = match subscribe(&node).await {
            Ok(subscription) => {
                let subscription_id = subscription.id();
                let Some(Ok(())) = adapter.upgrade().map(|adapter| adapter.serve(subscription)) else {
                    return;
                };
                if let Err(error) = node.join(subscription_id, true).await
                    && !node.is_closed()
                {
                    node.report(&error, "cannot announce a namespace to the other servers; retrying");
                }
                if let Some(adapter) = adapter.upgrade() {
                    adapter.ctr.start_cleanup();
                }
                return;
            }
            Err(error) => error,
        };
        if !is_reported {
            is_reported = true;
            node.report(&error, "cannot listen on the channel of a namespace");
        }
        if matches!(error, Error::Namespace { .. }) {
            return node.readiness.fail(error);
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn subscribe(node: &Arc<Node>) -> Result<Subscription> {
    let own = node.uid.clone();
    let wants = move |header: Option<&Header>| match header {
        Some(header) => header.uid != own && is_for_servers(header.kind),
        None => true,
    };
    node.cluster.subscribe_without_text(&node.nsp, wants).await
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// Serves the namespace from now on.
    fn serve(self: &Arc<Self>, subscription: Subscription) -> Result<()> {
        if self.node.is_closed() {
            return Err(Error::Closed);
        }
        let serving = tokio::spawn(incoming::serve(Arc::downgrade(self), self.node.clone(), subscription));
        if self.task.set(AbortOnDropHandle::new(serving)).is_err() {
            return Err(Error::Closed);
        }
        self.ctr.0.adapters.insert(self);
        self.ctr.answer_discovery();
        self.node.readiness.succeed();
        Ok(())
    }
}

/// Answers to requests of this server arrive by a separate subscription.
fn is_for_servers(kind: MessageKind) -> bool {
    use MessageKind::*;
    match kind {
        Broadcast | SocketsJoin | SocketsLeave | DisconnectSockets | FetchSockets | ServerSideEmit => true,
        // The driver answers it.
        InitialHeartbeat
        | Heartbeat
        | FetchSocketsResponse
        | ServerSideEmitResponse
        | BroadcastClientCount
        | BroadcastAck
        | AdapterClose => false,
    }
}
