//! Disconnects clients by closing their connection. A client whose buffer is full cannot be sent a disconnect packet, so
//! socketioxide's own `disconnect` does not work for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use http::{Method, Request, Uri};
use socketioxide::TransportType;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service;

use super::ack::Account;
use super::connection_handle::ConnectionHandle;
use super::front::Client;
use super::{ClusterIo, ClusterSocket};
use crate::adapter::Sid;

/// The bound of the queue of polling sessions to close. A session that does not fit is queued again with the next reason.
const POLLING_QUEUE: usize = 4096;

/// Why the server disconnects a client.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason {
    /// Backpressure: the client does not read as fast as the server sends.
    TooSlow,
    /// The client emits faster than the cluster accepts.
    TooFast,
    /// The client sent a packet that is malformed.
    Malformed,
    /// The client connected to a namespace while the namespace was being deleted.
    NamespaceGone,
    /// The client connected to a namespace while another client was creating the namespace.
    NamespaceCreated,
    /// The client requests too many namespaces, or one with a too long name.
    TooManyNamespaces,
    /// The client keeps requesting namespaces although it is refused.
    RefusedTooOften,
    /// A message or an event of the client was not completed in time, or exceeded the memory quota.
    Incomplete,
    /// The client sent too much before it connected to a namespace.
    Unadmitted,
    /// The token of the client has expired.
    Expired,
    /// The token of the client, or its key, is no longer listed.
    Revoked,
}

impl Reason {
    /// The label of the metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TooSlow => "too_slow",
            Self::TooFast => "too_fast",
            Self::Malformed => "malformed",
            Self::NamespaceGone => "namespace_gone",
            Self::NamespaceCreated => "namespace_created",
            Self::TooManyNamespaces => "too_many_namespaces",
            Self::RefusedTooOften => "refused_too_often",
            Self::Incomplete => "incomplete",
            Self::Unadmitted => "unadmitted",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Counts a disconnected client in the metrics.
    pub(super) fn count(self) {
        metrics::counter!("pgio_clients_cut_off_total", "reason" => self.label()).increment(1);
    }
}

/// Marks a socket that is being disconnected, so that it is disconnected only once.
#[derive(Clone)]
struct Disconnecting;

/// Disconnects clients.
#[derive(Clone)]
pub(super) struct Disconnector {
    upgraded: Arc<UpgradedConnections>,
    polling: mpsc::Sender<PollingSession>,
}

/// Closes polling sessions, one after the other.
pub(super) struct PollingDisconnector {
    sessions: mpsc::Receiver<PollingSession>,
}

/// A polling session to close.
struct PollingSession {
    sid: Sid,
    /// Its socket in a namespace that was deleted. socketioxide does not find it there when the session closes, and the two
    /// would keep each other alive.
    orphaned: Option<ClusterSocket>,
}

/// Makes a disconnector, and the task that closes the sessions of clients that poll.
pub(super) fn disconnector(upgraded: Arc<UpgradedConnections>) -> (Disconnector, PollingDisconnector) {
    let (polling, sessions) = mpsc::channel(POLLING_QUEUE);
    (Disconnector { upgraded, polling }, PollingDisconnector { sessions })
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
        self.close_connection(socket, reason, None);
    }

    /// Disconnects a socket whose token is no longer valid. The client gets a disconnect packet, as after
    /// `socket.disconnect()` in Node, so it does not reconnect automatically with the same token.
    pub(super) fn disconnect_revoked(&self, socket: ClusterSocket, reason: Reason) {
        let label = reason.label();
        reason.count();
        tracing::info!(sid = %socket.id, nsp = socket.ns(), reason = label, "disconnecting a client whose token is no longer valid");
        // No event may overtake the disconnect packet, which is not counted.
        if let Some(account) = Account::of(&socket) {
            account.buffer.lose_count();
        }
        if socket.clone().disconnect().is_err() {
            // Its buffer is full.
            self.disconnect_socket(&socket, Reason::TooSlow);
        }
    }

    /// Disconnects a socket whose namespace was deleted, and removes it from the namespace. The client gets no disconnect
    /// packet, so it reconnects automatically.
    pub(super) fn disconnect_orphaned(&self, socket: &ClusterSocket) {
        if !self.close_connection(socket, Reason::NamespaceGone, Some(socket.clone())) {
            leave_namespace(socket);
        }
    }

    /// Returns true if another task removes the orphaned socket from its namespace.
    fn close_connection(
        &self,
        socket: &ClusterSocket,
        reason: Reason,
        orphaned: Option<ClusterSocket>,
    ) -> bool {
        if socket.extensions.insert(Disconnecting).is_some() {
            return false;
        }
        let transport = socket.transport_type();
        let first = socket.req_parts().extensions.get::<Client>().map(|client| &client.handle);
        let address = first.map(|handle| handle.peer.ip().to_string());
        reason.count();
        tracing::warn!(
            sid = %socket.id, nsp = socket.ns(), address, ?transport, reason = reason.label(),
            "disconnecting a client"
        );
        let upgraded = self.upgraded.get(socket.id);
        upgraded.iter().for_each(|handle| handle.abort());
        match transport {
            _ if !upgraded.is_empty() => {}
            TransportType::Websocket => {
                first.inspect(|handle| handle.abort());
            }
            TransportType::Polling => {
                let is_queued = self.queue(PollingSession { sid: socket.id, orphaned });
                if !is_queued {
                    socket.extensions.remove::<Disconnecting>();
                }
                return is_queued;
            }
        }
        false
    }

    /// Ends a polling session with all its sockets.
    pub(super) fn disconnect_session(&self, sid: Sid, peer: SocketAddr, reason: Reason) {
        reason.count();
        tracing::warn!(%sid, address = %peer.ip(), reason = reason.label(), "disconnecting a client");
        self.upgraded.get(sid).iter().for_each(|handle| handle.abort());
        self.close_polling(sid);
    }

    /// Disconnects the client of a connection that is not connected to a namespace yet.
    pub(super) fn disconnect_connection(&self, handle: &ConnectionHandle, reason: Reason) {
        reason.count();
        tracing::debug!(address = %handle.peer.ip(), reason = reason.label(), "disconnecting a client");
        match handle.polling() {
            Some(sid) if !handle.is_websocket() => drop(self.close_polling(sid)),
            _ => handle.abort(),
        }
    }

    /// Closes a polling session. Its connections may belong to a proxy and carry other clients, so only the session is
    /// closed.
    pub(super) fn close_polling(&self, sid: Sid) -> bool {
        self.queue(PollingSession { sid, orphaned: None })
    }

    fn queue(&self, session: PollingSession) -> bool {
        self.polling.try_send(session).is_ok()
    }
}

impl PollingDisconnector {
    /// Starts the task; dropping the handle ends it.
    pub(super) fn start(mut self, closer: SessionCloser) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(PollingSession { sid, orphaned }) = self.sessions.recv().await {
                closer.close(sid).await;
                orphaned.as_ref().inspect(|socket| leave_namespace(socket));
            }
        }))
    }
}

/// Removes a socket from its namespace. Its connection is closed or closing, so no disconnect packet is sent.
fn leave_namespace(socket: &ClusterSocket) {
    if let Err(error) = socket.clone().disconnect() {
        tracing::debug!(%error, sid = %socket.id, "cannot remove a socket from a deleted namespace");
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

/// The connections of the sessions that upgraded from polling to websocket. A client may try to upgrade more than once.
#[derive(Default)]
pub(super) struct UpgradedConnections(Mutex<HashMap<Sid, Vec<Arc<ConnectionHandle>>>>);

impl UpgradedConnections {
    /// Registers the connection to which a session upgrades.
    pub(super) fn register(&self, sid: Sid, handle: &Arc<ConnectionHandle>) {
        if handle.session.set(sid).is_ok() {
            self.handles().entry(sid).or_default().push(handle.clone());
        }
    }

    fn get(&self, sid: Sid) -> Vec<Arc<ConnectionHandle>> {
        self.handles().get(&sid).cloned().unwrap_or_default()
    }

    pub(super) fn forget(&self, sid: Sid, handle: &Arc<ConnectionHandle>) {
        let mut handles = self.handles();
        if let Some(known) = handles.get_mut(&sid) {
            known.retain(|known| !Arc::ptr_eq(known, handle));
            if known.is_empty() {
                handles.remove(&sid);
            }
        }
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<Sid, Vec<Arc<ConnectionHandle>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
