//! The admission of clients: whether a client may connect to a namespace, and what a connected client owns.
//!
//! The connect requests that socketioxide hands over go in; a connected socket with its handlers, or a refusal, comes out.

use std::sync::Arc;
use std::time::Duration;

use socketioxide::extract::{Event as EventName, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::socket::DisconnectReason;
use tokio::time::sleep;

use super::ack::Account;
use super::admin_ui::Departures;
use super::auth::refusal_delay::RefusalDelay;
use super::auth::{Admitted, Authentication, Credentials, Refusal};
use super::client_buffers::ClientBuffers;
use super::client_events::ClientEvents;
use super::client_usage::{ClientUsage, NamespaceSlot, Refusals};
use super::disconnect::{Disconnector, Reason};
use super::expiry::Expiries;
use super::front::Client;
use super::reload::is_revoked;
use super::{ClusterAdapter, ClusterIo, ClusterSocket};
use crate::adapter::{AdmissionGuard, Connection, PostgresAdapterCtr, SocketData};

/// The time that a client waits for its namespace to listen to the other servers. After that the client is connected
/// anyway: while Postgres is unreachable, a server still serves its own clients.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum length of the reason in a `connect_error`, in bytes.
const MAX_REASON_BYTES: usize = 100;

/// Decides which clients may connect.
pub(super) struct AdmissionControl {
    pub(super) authentication: Authentication,
    pub(super) refusal_delay: RefusalDelay,
    /// `None` if clients stay connected when their token expires or is no longer listed.
    pub(super) expiries: Option<Expiries>,
    pub(super) max_namespaces_per_client: usize,
    pub(super) events: Arc<ClientEvents>,
    pub(super) disconnector: Disconnector,
    pub(super) buffers: Arc<ClientBuffers>,
    pub(super) adapter: PostgresAdapterCtr,
    pub(super) departures: Arc<Departures>,
}

/// The connect handler that socketioxide calls for each client of a namespace. `is_hosted` checks whether a name is hosted.
pub(super) fn handler(
    admission_control: Arc<AdmissionControl>,
    is_hosted: impl Fn(&str) -> bool + Clone + Send + Sync + 'static,
) -> impl ConnectHandler<ClusterAdapter, (ClusterSocket, ClusterIo)> {
    let control = admission_control.clone();
    let authorize = move |socket: ClusterSocket, io: ClusterIo, credentials: TryData<Credentials>| {
        let (admission_control, is_hosted) = (admission_control.clone(), is_hosted(socket.ns()));
        async move { admission_control.admit(&socket, &io, is_hosted, credentials.0.ok()).await }
    };
    let on_connect = move |socket: ClusterSocket, io: ClusterIo| {
        metrics::counter!("pgio_connections_total").increment(1);
        tracing::debug!(sid = %socket.id, nsp = socket.ns(), "client connected");
        if let Some(account) = Account::of(&socket) {
            account.buffer.connected();
        }
        if socket.connected() {
            control.check_connected(socket, &io);
        }
        std::future::ready(())
    };
    on_connect.with(authorize)
}

impl AdmissionControl {
    /// Does all steps before the client gets its connect packet. A namespace publishes nothing to other servers before its
    /// first client is admitted.
    async fn admit(
        self: Arc<Self>,
        socket: &ClusterSocket,
        io: &ClusterIo,
        is_hosted: bool,
        credentials: Option<Credentials>,
    ) -> Result<(), Refusal> {
        let visit = self.adapter.admission_guard(socket.ns());
        let outcome = match is_hosted {
            true => self.authorize(socket, credentials).await,
            false => Err(Refusal::UnknownNamespace),
        };
        match outcome {
            Ok((admitted, slot)) => {
                self.set_up_client(socket, admitted, slot);
                Ok(())
            }
            Err(refusal) => {
                self.record_refusal(socket, io, visit, &refusal);
                self.delay_refusal(socket, &refusal).await;
                Err(refusal)
            }
        }
    }

    /// Checks again whether the namespace was deleted or the token revoked while the client was connecting.
    fn check_connected(&self, socket: ClusterSocket, io: &ClusterIo) {
        if is_deleted(&socket, io) {
            // The client reconnects to a new namespace.
            self.disconnector.disconnect_orphaned(&socket);
        } else if is_revoked(&socket, &self.authentication) {
            self.disconnector.disconnect_revoked(socket, Reason::Revoked);
        }
    }

    async fn authorize(
        &self,
        socket: &ClusterSocket,
        credentials: Option<Credentials>,
    ) -> Result<(Admitted, NamespaceSlot), Refusal> {
        let max = self.max_namespaces_per_client;
        let slot = usage_of(socket).join_namespace(max).ok_or(Refusal::TooManyNamespaces(max))?;
        let admitted = self.authentication.admit(credentials, socket.ns())?;
        let listening = self.adapter.wait_until_listening(socket.ns(), LISTEN_TIMEOUT).await;
        listening.map_err(|error| Refusal::Namespace(shorten(&error.to_string()).to_owned()))?;
        Ok((admitted, slot.admit()))
    }

    /// Counts a refusal, deletes a namespace that only refused clients have requested, and disconnects a client with too
    /// many refusals.
    fn record_refusal(
        &self,
        socket: &ClusterSocket,
        io: &ClusterIo,
        visit: AdmissionGuard,
        refusal: &Refusal,
    ) {
        metrics::counter!("pgio_connections_refused_total", "reason" => refusal.reason()).increment(1);
        if visit.end_refused() {
            io.delete_ns(socket.ns());
        }
        match usage_of(socket).refused(self.max_namespaces_per_client) {
            Refusals::Few => {
                tracing::info!(sid = %socket.id, nsp = socket.ns(), %refusal, "client refused");
            }
            Refusals::TooMany => self.disconnector.disconnect_socket(socket, Reason::RefusedTooOften),
            // The client is already being disconnected.
            Refusals::More => {}
        }
    }

    /// Delays the refusal of a client that may be guessing tokens (brute force).
    async fn delay_refusal(&self, socket: &ClusterSocket, refusal: &Refusal) {
        let Some(connection) = socket.req_parts().extensions.get::<Connection>() else { return };
        if !refusal.may_be_a_guess() {
            return;
        }
        match self.refusal_delay.delay(connection.peer.ip()) {
            Some(delay) => sleep(delay).await,
            None => self.disconnector.disconnect_socket(socket, Reason::RefusedTooOften),
        }
    }

    fn set_up_client(&self, socket: &ClusterSocket, admitted: Admitted, slot: NamespaceSlot) {
        self.account(socket, slot);
        let disconnector = self.disconnector.clone();
        if let Some(expiries) = &self.expiries {
            if let Some(time) = admitted.expires {
                expiries.add(socket, time);
            }
            if let Some(credential) = admitted.credential {
                socket.extensions.insert(credential);
            }
        }
        socket.extensions.insert(SocketData(admitted.data));
        socket.join(admitted.rooms);
        let (events, departures) = (self.events.clone(), self.departures.clone());
        // One handler for all events, since each handler costs memory for every client. Handlers run in the order of the
        // events up to their first await, so this one has none.
        socket.on_fallback(move |socket, io, name: EventName, event, ack| {
            events.handle(socket, &io, &name.0, event, ack);
            std::future::ready(())
        });
        // Async, so that it runs in a task of its own: socketioxide calls it under the lock that `io.of` takes.
        socket.on_disconnect(
            move |socket: ClusterSocket, io: ClusterIo, reason: DisconnectReason| async move {
                departures.add(socket.ns(), socket.id, reason);
                on_disconnect(&disconnector, &socket, &io, reason);
            },
        );
    }

    /// Counts what is queued for the client while it has a socket.
    fn account(&self, socket: &ClusterSocket, slot: NamespaceSlot) {
        let buffer = match client_of(socket) {
            Some(client) => {
                client.session.admit();
                client.session.buffer_in(&self.buffers, socket.id)
            }
            None => self.buffers.of(socket.id),
        };
        buffer.connecting();
        let disconnector = self.disconnector.clone();
        let parser = self.buffers.parser();
        socket.extensions.insert(Account { buffer, parser, disconnector, _slot: Arc::new(slot) });
    }
}

/// The client of a socket.
fn client_of(socket: &ClusterSocket) -> Option<&Client> {
    socket.req_parts().extensions.get::<Client>()
}

/// The account of a client's session.
pub(super) fn usage_of(socket: &ClusterSocket) -> Arc<ClientUsage> {
    client_of(socket).map(|client| client.session.usage.clone()).unwrap_or_default()
}

fn on_disconnect(
    disconnector: &Disconnector,
    socket: &ClusterSocket,
    io: &ClusterIo,
    reason: DisconnectReason,
) {
    let label = format!("{reason:?}");
    tracing::debug!(sid = %socket.id, nsp = socket.ns(), reason = label, "client disconnected");
    metrics::counter!("pgio_disconnections_total", "reason" => label).increment(1);
    // The socket is removed from the namespace after this. A packet that is counted between may not be sent.
    if let Some(account) = Account::of(socket) {
        account.buffer.lose_count();
    }
    // socketioxide sends no packet to the clients of a namespace that is deleted.
    if reason == DisconnectReason::ServerNSDisconnect && is_deleted(socket, io) {
        disconnector.disconnect_socket(socket, Reason::NamespaceGone);
    }
}

/// Whether the namespace of a socket was deleted.
fn is_deleted(socket: &ClusterSocket, io: &ClusterIo) -> bool {
    io.of(socket.ns()).is_none_or(|nsp| nsp.get_socket(socket.id).is_none())
}

/// Truncates a reason, since it may quote input of the client.
pub(super) fn shorten(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)]
}
