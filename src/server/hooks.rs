//! The hooks that the adapter calls, with which the server disconnects or refuses a client.

use std::sync::Arc;

use socketioxide_core::Value as CoreValue;

use super::client_buffers::ClientBuffers;
use super::direct_write;
use super::disconnect::{Disconnector, Reason};
use super::pending_namespaces::TooMany;
use super::readers::Readers;
use super::shared_io::SharedIo;
use crate::adapter::{ClientQueues, PostgresAdapterCtr, Refused, Sid};

/// The maximum length of a namespace's name in a request. A request with a longer name gets no answer.
const MAX_NAMESPACE_BYTES: usize = 256;

/// The queues of the clients. A slow client is disconnected (backpressure).
struct Queues<D> {
    buffers: Arc<ClientBuffers>,
    disconnect: D,
}

impl<D: Fn(&str, Sid) + Send + Sync> ClientQueues for Queues<D> {
    fn write_to_idle(&self, sids: &[Sid], encode: &dyn Fn() -> Vec<CoreValue>) -> Vec<Sid> {
        direct_write::write_to_idle(&self.buffers, sids, encode)
    }

    fn queue(&self, nsp: &str, sids: &[Sid], content_bytes: usize) -> Vec<Sid> {
        let full = self.buffers.queue(nsp, sids, content_bytes);
        full.iter().for_each(|sid| (self.disconnect)(nsp, *sid));
        full
    }

    fn busy(&self, sids: &[Sid]) -> Vec<Sid> {
        self.buffers.busy(sids)
    }

    fn lose_count(&self, sids: &[Sid]) {
        self.buffers.lose_count(sids);
    }
}

/// Counts what is queued for the clients, and disconnects slow clients (backpressure).
pub(super) fn count_queued(
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
    adapter.set_client_queues(Queues { buffers: buffers.clone(), disconnect });
}

/// Disconnects clients whose connect request was dropped, so that they reconnect at once.
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

/// Closes connections that request too many namespaces at once, or one with a very long name.
pub(super) fn limit_pending_namespaces(
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
        match handle.pending_namespaces.add(max) {
            Ok(pending_namespaces) => Ok(Box::new(pending_namespaces)),
            Err(TooMany { is_first }) => {
                if is_first {
                    disconnector.disconnect_connection(&handle, Reason::TooManyNamespaces);
                }
                Err(Refused)
            }
        }
    });
}
