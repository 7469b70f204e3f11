//! Disconnects clients by closing their connection. A client whose buffer is full cannot be sent a disconnect packet, so
//! socketioxide's own `disconnect` does not work for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use http::{Method, Request, Uri};
use socketioxide::TransportType;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service;

use super::wire::ConnectionHandle;
use super::{ClusterIo, ClusterSocket};
use crate::adapter::Sid;

/// How many polling sessions may wait to be closed. One that does not fit is tried again with the next reason to close it.
const POLLING_QUEUE: usize = 4096;

/// Why the server disconnects a client.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason {
    /// The client does not read as fast as the server sends.
    TooSlow,
    /// The client emits faster than the cluster accepts.
    TooFast,
    /// The client connected to a namespace while the namespace was being deleted.
    NamespaceGone,
    /// The client connected to a namespace while another client was creating the namespace.
    NamespaceCreated,
    /// The client asks for more namespaces than it may, or for one whose name is too long.
    TooManyNamespaces,
    /// The client asks for namespaces again and again although it is refused.
    RefusedTooOften,
    /// The token of the client has expired.
    Expired,
}

impl Reason {
    /// The label of the metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TooSlow => "too_slow",
            Self::TooFast => "too_fast",
            Self::NamespaceGone => "namespace_gone",
            Self::NamespaceCreated => "namespace_created",
            Self::TooManyNamespaces => "too_many_namespaces",
            Self::RefusedTooOften => "refused_too_often",
            Self::Expired => "expired",
        }
    }
}

/// Marks a socket that is being disconnected, so that this happens once.
#[derive(Clone)]
struct Disconnecting;

/// Disconnects clients.
#[derive(Clone)]
pub(super) struct Disconnector {
    upgraded: Arc<UpgradedConnections>,
    polling: mpsc::Sender<Sid>,
}

/// Closes polling sessions, one after the other.
pub(super) struct PollingDisconnector {
    sids: mpsc::Receiver<Sid>,
}

/// Makes a disconnector, and the task that closes the sessions of clients that poll.
pub(super) fn disconnector(upgraded: Arc<UpgradedConnections>) -> (Disconnector, PollingDisconnector) {
    let (polling, sids) = mpsc::channel(POLLING_QUEUE);
    (Disconnector { upgraded, polling }, PollingDisconnector { sids })
}

impl Disconnector {
    /// Disconnects a socket of this server. Does nothing if the socket has already left.
    pub(super) fn disconnect(&self, io: &ClusterIo, nsp: &str, sid: Sid, reason: Reason) {
        if let Some(socket) = io.of(nsp).and_then(|nsp| nsp.get_socket(sid)) {
            self.disconnect_socket(&socket, reason);
        }
    }

    /// Disconnects a socket.
    pub(super) fn disconnect_socket(&self, socket: &ClusterSocket, reason: Reason) {
        if socket.extensions.insert(Disconnecting).is_some() {
            return;
        }
        let transport = socket.transport_type();
        let first = socket.req_parts().extensions.get::<Arc<ConnectionHandle>>();
        let address = first.map(|handle| handle.peer.ip().to_string());
        metrics::counter!("pgio_clients_cut_off_total", "reason" => reason.label()).increment(1);
        tracing::warn!(
            sid = %socket.id, nsp = socket.ns(), address, ?transport, reason = reason.label(),
            "disconnecting a client"
        );
        match self.upgraded.get(socket.id) {
            Some(handle) => handle.abort.cancel(),
            None if transport == TransportType::Websocket => {
                first.inspect(|handle| handle.abort.cancel());
            }
            None => {
                if !self.close_polling(socket.id) {
                    socket.extensions.remove::<Disconnecting>();
                }
            }
        }
    }

    /// Disconnects the client of a connection that is not connected to a namespace yet.
    pub(super) fn disconnect_connection(&self, handle: &ConnectionHandle, reason: Reason) {
        metrics::counter!("pgio_clients_cut_off_total", "reason" => reason.label()).increment(1);
        tracing::debug!(address = %handle.peer.ip(), reason = reason.label(), "disconnecting a client");
        match handle.polling() {
            Some(sid) if !handle.is_websocket() => drop(self.close_polling(sid)),
            _ => handle.abort.cancel(),
        }
    }

    /// Closes a polling session. Its connections may belong to a proxy and carry other clients, so only the session is
    /// closed.
    fn close_polling(&self, sid: Sid) -> bool {
        self.polling.try_send(sid).is_ok()
    }
}

impl PollingDisconnector {
    /// Starts the task; dropping the handle ends it.
    pub(super) fn start(mut self, closer: SessionCloser) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(sid) = self.sids.recv().await {
                closer.close(sid).await;
            }
        }))
    }
}

/// Closes polling sessions at once.
#[derive(Clone)]
pub(super) struct SessionCloser {
    app: Router,
    path: String,
}

impl SessionCloser {
    /// `app` serves Socket.IO at `path`.
    pub(super) fn new(app: Router, path: String) -> Self {
        Self { app, path }
    }

    /// A polling session ends when a close packet is posted to it, so this posts one.
    pub(super) async fn close(&self, sid: Sid) {
        let uri = format!("{}/?EIO=4&transport=polling&sid={sid}", self.path);
        let Ok(uri) = uri.parse::<Uri>() else { return };
        let mut request = Request::new(Body::from("1"));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let Ok(response) = self.app.clone().call(request).await;
        tracing::debug!(%sid, status = %response.status(), "polling session closed");
    }
}

/// The connections of the sessions that upgraded from polling to websocket.
#[derive(Default)]
pub(super) struct UpgradedConnections(Mutex<HashMap<Sid, Arc<ConnectionHandle>>>);

impl UpgradedConnections {
    /// Registers the connection to which a session upgrades.
    pub(super) fn register(&self, sid: Sid, handle: &Arc<ConnectionHandle>) {
        if handle.session.set(sid).is_ok() {
            self.handles().insert(sid, handle.clone());
        }
    }

    fn get(&self, sid: Sid) -> Option<Arc<ConnectionHandle>> {
        self.handles().get(&sid).cloned()
    }

    pub(super) fn forget(&self, sid: Sid, handle: &Arc<ConnectionHandle>) {
        let mut handles = self.handles();
        if handles.get(&sid).is_some_and(|known| Arc::ptr_eq(known, handle)) {
            handles.remove(&sid);
        }
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<Sid, Arc<ConnectionHandle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
