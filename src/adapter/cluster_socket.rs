//! A socket on any server of the cluster, and the operations on it.

use serde::Serialize;

use super::PostgresAdapterCtr;
use super::served::Action;
use crate::Result;
use crate::emitter::Rooms;
use crate::protocol::{Namespace, RemoteSocket, Uid, Value, client_event};

/// A socket of any server of the cluster, as [`fetch_all_sockets`](PostgresAdapterCtr::fetch_all_sockets) found it;
/// like Node's `RemoteSocket`.
///
/// It is a snapshot: later changes of the socket do not show. Its methods reach a socket of this server also while Postgres
/// is unreachable.
#[derive(Debug, Clone)]
pub struct ClusterSocket {
    /// Its id: 20 characters in Node, 16 in socketioxide.
    pub id: String,
    /// `headers, time, address, xdomain, secure, issued, url, query, auth`, from its server.
    pub handshake: Value,
    /// The rooms it was in, its own id among them.
    pub rooms: Vec<String>,
    /// The data of the application.
    pub data: Value,
    /// The uid of the adapter of its server.
    pub server: Uid,
    nsp: Namespace,
    adapter: PostgresAdapterCtr,
}

impl ClusterSocket {
    pub(super) fn new(
        socket: RemoteSocket,
        server: Uid,
        nsp: Namespace,
        adapter: PostgresAdapterCtr,
    ) -> Self {
        let RemoteSocket { id, handshake, rooms, data } = socket;
        Self { id, handshake, rooms, data, server, nsp, adapter }
    }

    /// Sends it an event. A tuple is several arguments, `()` is none.
    ///
    /// # Errors
    /// [`Error::ReservedEvent`](crate::Error::ReservedEvent), [`Error::Encode`](crate::Error::Encode), and those of
    /// [`Cluster::publish`](crate::Cluster::publish) for a socket of another server.
    pub async fn emit(&self, event: &str, args: impl Serialize) -> Result<()> {
        self.act(Action::Emit(client_event(event, Value::args_from_rust(&args)?)?)).await
    }

    /// Makes it join rooms.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`](crate::Cluster::publish) for a socket of another server.
    pub async fn join(&self, rooms: impl Rooms) -> Result<()> {
        self.act(Action::Join(rooms.into_rooms())).await
    }

    /// Makes it leave rooms.
    ///
    /// # Errors
    /// Those of [`join`](Self::join).
    pub async fn leave(&self, rooms: impl Rooms) -> Result<()> {
        self.act(Action::Leave(rooms.into_rooms())).await
    }

    /// Disconnects it from the namespace; with `close` from its other namespaces as well.
    ///
    /// # Errors
    /// Those of [`join`](Self::join).
    pub async fn disconnect(&self, close: bool) -> Result<()> {
        self.act(Action::Disconnect { close }).await
    }

    async fn act(&self, action: Action) -> Result<()> {
        self.adapter.0.adapters.get(&self.nsp)?.act(self.id.clone(), action).await
    }
}
