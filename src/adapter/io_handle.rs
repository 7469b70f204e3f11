//! Type-erased access from an adapter to the sockets of a namespace.

use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;

#[cfg(feature = "server")]
use super::admin_data::with_admin;
use super::{Sid, describe};
use crate::protocol::Value;

type Describe = Box<dyn Fn(&str, Sid) -> Option<(Value, Value)> + Send + Sync>;
type Disconnect = Box<dyn Fn(&str, Sid) + Send + Sync>;

pub(super) struct IoHandle {
    describe: Describe,
    disconnect: Disconnect,
}

impl IoHandle {
    pub(super) fn to<A: Adapter>(io: SocketIo<A>, share_headers: bool) -> Self {
        let other = io.clone();
        let describe = move |nsp: &str, sid| {
            let socket = other.of(nsp)?.get_socket(sid)?;
            Some(describe::socket(&socket, share_headers))
        };
        Self::with(io, Box::new(describe))
    }

    /// The same, with the client of each socket for the Admin UI of Node servers.
    #[cfg(feature = "server")]
    pub(super) fn for_admin_ui<A: Adapter>(io: SocketIo<A>, share_headers: bool) -> Self {
        let other = io.clone();
        let describe = move |nsp: &str, sid| {
            let socket = other.of(nsp)?.get_socket(sid)?;
            let (handshake, data) = describe::socket(&socket, share_headers);
            Some((handshake, with_admin(data, sid, socket.transport_type())))
        };
        Self::with(io, Box::new(describe))
    }

    fn with<A: Adapter>(io: SocketIo<A>, describe: Describe) -> Self {
        let disconnect = move |nsp: &str, sid| {
            for other in io.nsps().into_iter().filter(|other| other.ns_path() != nsp) {
                // A socket has the same id in every namespace of its connection.
                if let Some(socket) = other.get_socket(sid)
                    && let Err(error) = socket.disconnect()
                {
                    tracing::debug!(%error, %sid, "not disconnected");
                }
            }
        };
        Self { describe, disconnect: Box::new(disconnect) }
    }

    /// The handshake and the data of a socket.
    pub(super) fn describe(&self, nsp: &str, sid: Sid) -> Option<(Value, Value)> {
        (self.describe)(nsp, sid)
    }

    /// Disconnects a socket from all other namespaces.
    pub(super) fn disconnect_other_namespaces(&self, nsp: &str, sid: Sid) {
        (self.disconnect)(nsp, sid);
    }
}
