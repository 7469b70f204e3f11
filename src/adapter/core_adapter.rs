//! The adapter itself, as socketioxide calls it. The clients of this server come first, then the other servers.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socketioxide_core::adapter::errors::{AdapterError, BroadcastError};
use socketioxide_core::adapter::{
    BroadcastOptions as CoreOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, RemoteSocketData, Room,
    RoomParam, SocketEmitter,
};
use socketioxide_core::packet::Packet;
use tokio_util::task::AbortOnDropHandle;

use super::acks::RemoteBroadcast;
use super::convert::{self, Format};
use super::node::Node;
use super::{Acks, Init, PostgresAdapterCtr, Sid, target};
use crate::cluster::socket_list;
use crate::protocol::{Body, Namespace, RemoteSocket};
use crate::{Error, Result};

/// The adapter of one namespace. socketioxide creates it; [`PostgresAdapterCtr`] is the handle.
pub struct PostgresAdapter<E> {
    pub(super) local: CoreLocalAdapter<E>,
    pub(super) ctr: PostgresAdapterCtr,
    pub(super) node: Arc<Node>,
    pub(super) format: Format,
    pub(super) task: OnceLock<AbortOnDropHandle<()>>,
    /// The start of a dynamic namespace.
    pub(super) starting: OnceLock<AbortOnDropHandle<()>>,
}

impl<E> DefinedAdapter for PostgresAdapter<E> {}

impl From<Error> for AdapterError {
    fn from(error: Error) -> Self {
        Self(Box::new(error))
    }
}

impl<E: SocketEmitter> CoreAdapter<E> for PostgresAdapter<E> {
    type Error = Error;
    type State = PostgresAdapterCtr;
    type AckStream = Acks<E::AckError>;
    type InitRes = Init;

    fn new(state: &PostgresAdapterCtr, local: CoreLocalAdapter<E>) -> Self {
        let node = Arc::new(Node::new(state.cluster().clone(), Namespace::new(local.path())));
        let format = Format::of(local.parser());
        // The state lives in every `SocketIo`, and must not own one.
        state.1.release(&state.0);
        let (task, starting) = Default::default();
        Self { local, ctr: state.detached(), node, format, task, starting }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) -> Init {
        Init::new(self, on_success)
    }

    async fn close(&self) -> Result<()> {
        // When a namespace is deleted, this is polled only once, so the work is done before the await.
        self.ctr.0.registry.release(&self.node);
        self.ctr.0.adapters.remove(self);
        let goodbye = self.ctr.close_node(self.node.clone());
        for task in [&self.task, &self.starting].into_iter().filter_map(|task| task.get()) {
            task.abort();
        }
        goodbye.await
    }

    async fn server_count(&self) -> Result<u16> {
        let others = self.node.peers().await?.len();
        Ok(u16::try_from(others + 1).unwrap_or(u16::MAX))
    }

    /// Local clients first: they are served also while Postgres is unreachable.
    async fn broadcast(&self, packet: Packet, opts: CoreOptions) -> Result<(), BroadcastError> {
        let publish = match self.is_local_only(&opts) {
            true => None,
            false => Some((convert::event_of(&packet)?, target::to_wire(&opts))),
        };
        self.send_to_local(packet, opts);
        if let Some((event, opts)) = publish {
            let body = Body::Broadcast { opts, event, request_id: None };
            self.node.publish(body).await.map_err(AdapterError::from)?;
        }
        Ok(())
    }

    /// Local clients first, here as well. A failed request to other servers is an item of the stream.
    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        opts: CoreOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream> {
        let request = match self.is_local_only(&opts) {
            true => None,
            false => {
                let event = convert::event_of(&packet).map_err(|e| Error::Encode(e.to_string()))?;
                Some((event, target::to_wire(&opts)))
            }
        };
        let (local, _) = self.send_to_local_with_ack(packet, opts, timeout);
        let Some((event, opts)) = request else { return Ok(Acks::of_local_clients(local)) };
        let wait = timeout.unwrap_or_else(|| self.local.ack_timeout());
        let (node, format) = (self.node.clone(), self.format);
        Ok(Acks::of_all_clients(local, RemoteBroadcast { node, event, opts, wait, format }).await)
    }

    async fn add_sockets(&self, opts: CoreOptions, rooms: impl RoomParam) -> Result<()> {
        let rooms: Vec<Room> = rooms.into_room_iter().collect();
        let publish = (!self.is_local_only(&opts)).then(|| target::to_wire(&opts));
        self.ensure_sid_rooms(&opts);
        self.local.add_sockets(opts, rooms.clone());
        match publish {
            Some(opts) => self.node.publish(Body::SocketsJoin { opts, rooms: target::names(rooms) }).await,
            None => Ok(()),
        }
    }

    async fn del_sockets(&self, opts: CoreOptions, rooms: impl RoomParam) -> Result<()> {
        let rooms: Vec<Room> = rooms.into_room_iter().collect();
        let publish = (!self.is_local_only(&opts)).then(|| target::to_wire(&opts));
        self.ensure_sid_rooms(&opts);
        self.local.del_sockets(opts, rooms.clone());
        match publish {
            Some(opts) => self.node.publish(Body::SocketsLeave { opts, rooms: target::names(rooms) }).await,
            None => Ok(()),
        }
    }

    async fn disconnect_socket(&self, opts: CoreOptions) -> Result<(), BroadcastError> {
        let publish = (!self.is_local_only(&opts)).then(|| target::to_wire(&opts));
        self.disconnect_local(opts, false);
        if let Some(opts) = publish {
            let body = Body::DisconnectSockets { opts, close: false };
            self.node.publish(body).await.map_err(AdapterError::from)?;
        }
        Ok(())
    }

    async fn rooms(&self, opts: CoreOptions) -> Result<Vec<Room>> {
        let mut remote = Vec::new();
        if !self.is_local_only(&opts) {
            remote = self.fetch_remote(&opts).await?;
        }
        self.ensure_sid_rooms(&opts);
        let mut rooms = self.local.rooms(opts);
        let ids: HashSet<String> = remote.iter().map(|socket| socket.id.clone()).collect();
        rooms.extend(remote.into_iter().flat_map(|socket| socket.rooms).map(Room::from));
        // An application of socketioxide does not expect the room of a socket's own id here.
        let is_id = |room: &Room| {
            ids.contains(room.as_ref()) || room.parse::<Sid>().is_ok_and(|sid| self.is_local(sid))
        };
        rooms.retain(|room| !is_id(room));
        Ok(rooms.into_iter().collect())
    }

    async fn fetch_sockets(&self, opts: CoreOptions) -> Result<Vec<RemoteSocketData>> {
        let mut remote = Vec::new();
        if !self.is_local_only(&opts) {
            remote = self.fetch_remote(&opts).await?;
        }
        self.ensure_sid_rooms(&opts);
        let mut sockets = self.local.fetch_sockets(opts);
        let ns = self.local.path();
        // Ids of Node servers are four characters too long for this type.
        sockets.extend(remote.iter().filter_map(|socket| {
            let id = socket.id.parse().ok()?;
            Some(RemoteSocketData { id, server_id: socketioxide_core::Uid::ZERO, ns: ns.clone() })
        }));
        Ok(sockets)
    }

    fn get_local(&self) -> &CoreLocalAdapter<E> {
        &self.local
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    async fn fetch_remote(&self, opts: &CoreOptions) -> Result<Vec<RemoteSocket>> {
        let mut opts = target::to_wire(opts);
        let wait = self.ctr.cluster().request_timeout();
        opts.flags = opts.flags.timeout(wait);
        let asked = self
            .node
            .request(wait, |request_id| Body::FetchSockets { opts, request_id }, socket_list)
            .await?;
        Ok(asked.collect().await?.flatten().into_values())
    }
}
