//! The start of a namespace's adapter, which takes a round trip.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use socketioxide_core::adapter::{SocketEmitter, Spawnable};
use tokio_util::task::AbortOnDropHandle;

use super::node::Node;
use super::{PostgresAdapter, incoming};
use crate::protocol::{Body, Header, MessageKind};
use crate::{Error, Result};

/// What `SocketIo::ns` returns: await it before serving clients.
#[must_use = "the namespace is not served before this has been awaited"]
pub struct Init {
    node: Arc<Node>,
    start: BoxFuture<'static, Result<()>>,
}

impl Init {
    pub(super) fn new(node: Arc<Node>, start: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        Self { node, start: start.boxed() }
    }
}

impl Future for Init {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.start.poll_unpin(context)
    }
}

impl Spawnable for Init {
    /// For dynamic namespaces, whose start nobody awaits. It ends with the round trip.
    fn spawn(self) {
        let Self { node, start } = self;
        tokio::spawn(async move {
            if let Err(error) = start.await {
                tracing::error!(%error, nsp = %node.nsp, "the namespace cannot be served");
                node.cluster.options().report(&error);
            }
        });
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// Listens, tells the others, and serves from then on.
    pub(super) async fn start(self: Arc<Self>, on_success: impl FnOnce() + Send) -> Result<()> {
        let own = self.node.uid.clone();
        let wants = move |header: Option<&Header>| match header {
            Some(header) => header.uid != own && is_for_servers(header.kind),
            None => true,
        };
        let heard = self.node.cluster.subscribe([&self.node.nsp], wants).await?;
        let serving = tokio::spawn(incoming::serve(Arc::downgrade(&self), self.node.clone(), heard));
        if self.task.set(AbortOnDropHandle::new(serving)).is_err() {
            return Err(Error::Closed);
        }
        self.ctr.nodes().push(self.node.clone());
        self.ctr.0.adapters.insert(&self);
        self.ctr.clean_up_regularly();
        self.node.publish(Body::InitialHeartbeat).await?;
        on_success();
        Ok(())
    }
}

/// Answers to requests go to whoever asked, by a subscription of their own.
fn is_for_servers(kind: MessageKind) -> bool {
    use MessageKind::*;
    match kind {
        InitialHeartbeat | Broadcast | SocketsJoin | SocketsLeave | DisconnectSockets | FetchSockets
        | ServerSideEmit => true,
        Heartbeat
        | FetchSocketsResponse
        | ServerSideEmitResponse
        | BroadcastClientCount
        | BroadcastAck
        | AdapterClose => false,
    }
}
