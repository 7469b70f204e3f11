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

    /// Does something with a socket, wherever it is. A socket of this server needs no other one for that.
    fn act(self: Arc<Self>, id: String, action: Action) -> BoxFuture<'static, Result<()>>;

    /// Starts a dormant namespace.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the server has as many namespaces as it may have.
    fn start_if_dormant(self: Arc<Self>) -> Result<()>;

    #[cfg(feature = "server")]
    fn relay(
        self: Arc<Self>,
        event: super::Relayable,
        opts: socketioxide_core::adapter::BroadcastOptions,
    ) -> super::relay::Enqueuing;
}

/// All of them, by name.
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
    /// [`Error::Namespace`] where this server has no such namespace.
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
        let here = id.parse::<Sid>().ok().filter(|sid| self.is_here(*sid));
        async move {
            match here {
                Some(sid) => self.act_here(sid, action),
                None => self.node.publish(elsewhere(id, action)).await,
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
    fn act_here(&self, sid: Sid, action: Action) -> Result<()> {
        let opts = target::one(sid);
        match action {
            Action::Emit(event) => {
                let packet = Packet::event(self.local.path().clone(), self.format.value_of(event)?);
                self.send_here(packet, opts);
            }
            Action::Join(rooms) => self.local.add_sockets(opts, rooms),
            Action::Leave(rooms) => self.local.del_sockets(opts, rooms),
            Action::Disconnect { close } => self.disconnect_here(opts, close),
        }
        Ok(())
    }
}

/// The message that makes the server of a socket do it.
fn elsewhere(id: String, action: Action) -> Body {
    let opts = BroadcastOptions { rooms: vec![id], ..BroadcastOptions::default() };
    match action {
        Action::Emit(event) => Body::Broadcast { opts, event, request_id: None },
        Action::Join(rooms) => Body::SocketsJoin { opts, rooms },
        Action::Leave(rooms) => Body::SocketsLeave { opts, rooms },
        Action::Disconnect { close } => Body::DisconnectSockets { opts, close },
    }
}
