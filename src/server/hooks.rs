//! The hooks that the adapter calls, by which the server disconnects or refuses a client.

use std::sync::Arc;

use super::client_buffers::ClientBuffers;
use super::disconnect::{Disconnector, Reason};
use super::readers::Readers;
use super::shared_io::SharedIo;
use super::undecided::TooMany;
use crate::adapter::{PostgresAdapterCtr, Refused};

/// The longest name of a namespace that a client is answered about. A namespace that can be used is far shorter.
const MAX_NAMESPACE_BYTES: usize = 256;

/// Disconnects clients that do not read as fast as the server sends.
pub(super) fn disconnect_slow_clients(
    adapter: &PostgresAdapterCtr,
    io: &SharedIo,
    buffers: &Arc<ClientBuffers>,
    disconnector: &Disconnector,
) {
    let disconnect = {
        let (io, disconnector) = (io.clone(), disconnector.clone());
        move |nsp: &str, sid| {
            if let Some(io) = io.get() {
                disconnector.disconnect(&io, nsp, sid, Reason::TooSlow);
            }
        }
    };
    adapter.on_slow_client(disconnect.clone());
    let buffers = buffers.clone();
    adapter.on_queued(move |nsp, sids, bytes| {
        for sid in buffers.queue(sids, bytes) {
            disconnect(nsp, sid);
        }
    });
}

/// Disconnects clients whose connect request is not answered, so that they connect again at once.
pub(super) fn disconnect_dropped_connects(
    adapter: &PostgresAdapterCtr,
    readers: Arc<Readers>,
    disconnector: Disconnector,
) {
    adapter.on_connect_dropped(move || match readers.current() {
        Some(handle) => disconnector.disconnect_connection(&handle, Reason::NamespaceCreated),
        None => tracing::warn!("cannot end a session, so it ends at its timeout"),
    });
}

/// Closes the connections that ask for many namespaces at once, or for one with a very long name.
pub(super) fn limit_undecided(
    adapter: &PostgresAdapterCtr,
    max: usize,
    readers: Arc<Readers>,
    disconnector: Disconnector,
) {
    adapter.on_creating(move |nsp| {
        let Some(handle) = readers.current() else {
            tracing::warn!("cannot attribute a namespace request to a connection");
            return Err(Refused);
        };
        let max = if nsp.len() > MAX_NAMESPACE_BYTES { 0 } else { max };
        match handle.undecided.add(max) {
            Ok(undecided) => Ok(Box::new(undecided)),
            Err(TooMany { is_first }) => {
                if is_first {
                    disconnector.disconnect_connection(&handle, Reason::TooManyNamespaces);
                }
                Err(Refused)
            }
        }
    });
}
