//! Type-erased access from the handle to the adapters of all namespaces.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use socketioxide_core::adapter::SocketEmitter;
use socketioxide_core::packet::Packet;

use super::{PostgresAdapter, Sid, target};
use crate::protocol::{Body, BroadcastOptions, EventArgs, Namespace, RemoteSocket};
use crate::{Error, Result};

/// An operation on one socket.
pub(super) enum Action {
    Emit(EventArgs),
    Join(Vec<String>),
    Leave(Vec<String>),
    Disconnect { close: bool },
}

/// The adapter of one namespace.
pub(super) trait Served: Send + Sync {
    /// The sockets of this server.
    fn sockets(&self, opts: BroadcastOptions) -> Vec<RemoteSocket>;

    /// Executes an action on a socket of any server. For a socket of this server it needs no other server.
    fn act(self: Arc<Self>, id: String, action: Action) -> BoxFuture<'static, Result<()>>;

    /// Starts a dormant namespace.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the limit of namespaces is reached.
    fn start_if_dormant(self: Arc<Self>) -> Result<()>;

    #[cfg(feature = "server")]
    fn relay(
        self: Arc<Self>,
        event: super::Relayable,
        opts: socketioxide_core::adapter::BroadcastOptions,
    ) -> super::relay::Enqueuing;
}

/// The adapters of all namespaces.
#[derive(Default)]
pub(super) struct Adapters(Mutex<HashMap<Namespace, Weak<dyn Served>>>);

impl Adapters {
    pub(super) fn insert<E: SocketEmitter>(&self, adapter: &Arc<PostgresAdapter<E>>) {
        let served: Weak<PostgresAdapter<E>> = Arc::downgrade(adapter);
        let mut adapters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        adapters.insert(adapter.node.nsp.clone(), served);
    }

    /// Removes an adapter; another one of the same namespace stays.
    pub(super) fn remove<E: SocketEmitter>(&self, adapter: &PostgresAdapter<E>) {
        let mut adapters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own =
            |known: &Weak<dyn Served>| std::ptr::addr_eq(known.as_ptr(), std::ptr::from_ref(adapter));
        if adapters.get(&adapter.node.nsp).is_some_and(is_own) {
            adapters.remove(&adapter.node.nsp);
        }
    }

    /// # Errors
    /// [`Error::Namespace`] if this server has no such namespace.
    pub(super) fn get(&self, nsp: &Namespace) -> Result<Arc<dyn Served>> {
        let adapters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        adapters.get(nsp).and_then(Weak::upgrade).ok_or_else(|| not_served(nsp))
    }
}

pub(super) fn not_served(nsp: &Namespace) -> Error {
    Error::Namespace { namespace: nsp.to_string(), reason: "this server does not serve it".into() }
}

impl<E: SocketEmitter> Served for PostgresAdapter<E> {
    fn sockets(&self, opts: BroadcastOptions) -> Vec<RemoteSocket> {
        self.describe_sockets(target::from_wire(opts))
    }

    fn act(self: Arc<Self>, id: String, action: Action) -> BoxFuture<'static, Result<()>> {
        let here = id.parse::<Sid>().ok().filter(|sid| self.is_local(*sid));
        async move {
            match here {
                Some(sid) => self.act_locally(sid, action),
                None => self.node.publish(message_for(id, action)).await,
            }
        }
        .boxed()
    }

    fn start_if_dormant(self: Arc<Self>) -> Result<()> {
        if self.ctr.0.on_admission.wake(&self.node)? {
            self.start();
        }
        Ok(())
    }

    #[cfg(feature = "server")]
    fn relay(
        self: Arc<Self>,
        event: super::Relayable,
        opts: socketioxide_core::adapter::BroadcastOptions,
    ) -> super::relay::Enqueuing {
        self.relay_event(event, opts)
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    fn act_locally(&self, sid: Sid, action: Action) -> Result<()> {
        let opts = target::one(sid);
        match action {
            Action::Emit(event) => {
                let packet = Packet::event(self.local.path().clone(), self.format.value_of(event)?);
                self.send_to_local(packet, opts);
            }
            Action::Join(rooms) => self.local.add_sockets(opts, rooms),
            Action::Leave(rooms) => self.local.del_sockets(opts, rooms),
            Action::Disconnect { close } => self.disconnect_local(opts, close),
        }
        Ok(())
    }
}

/// The message that makes the server of a socket execute the action.
fn message_for(id: String, action: Action) -> Body {
    let opts = BroadcastOptions { rooms: vec![id], ..BroadcastOptions::default() };
    match action {
        Action::Emit(event) => Body::Broadcast { opts, event, request_id: None },
        Action::Join(rooms) => Body::SocketsJoin { opts, rooms },
        Action::Leave(rooms) => Body::SocketsLeave { opts, rooms },
        Action::Disconnect { close } => Body::DisconnectSockets { opts, close },
    }
}
