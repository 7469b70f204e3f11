//! The handlers of a client: whether it may connect, and what happens to the events that it emits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use socketioxide::TransportType;
use socketioxide::extract::{Event as EventName, SocketRef, TryData};
use socketioxide::handler::{ConnectHandler, FromMessageParts};
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::Room;
use tokio::time::sleep;

use super::ack::{Account, AckSender};
use super::auth::refusal_pace::RefusalPace;
use super::auth::{Admitted, Authentication, Credentials, Refusal};
use super::client_buffers::ClientBuffers;
use super::client_usage::{ClientUsage, NamespaceSlot, Refusals};
use super::disconnect::{Disconnector, Reason};
use super::expiry::Expiries;
use super::front::Client;
use super::rate::{Pace, RateLimits};
use super::relay::{RelayQueue, RelayedEvent, TooMany};
use super::reload::is_revoked;
use super::rules::{ClientRules, NotAllowed, Relay};
use super::{ClusterAdapter, ClusterIo, ClusterSocket};
use crate::Error;
use crate::adapter::{Connection, PostgresAdapterCtr, Relayable, Sid, SocketData, Visit, args_of_client};
use crate::protocol::Value;

/// How long a client waits for its namespace to listen to the other servers. After that it is connected all the same: while
/// Postgres is away, a server serves its own clients.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest name of a room that a client may join or leave, in bytes.
const MAX_ROOM_BYTES: usize = 256;

/// The longest reason for a refusal that a client is told, in bytes.
const MAX_REASON_BYTES: usize = 100;

/// Decides which clients may connect, and what they may do.
pub(super) struct AdmissionControl {
    pub(super) authentication: Authentication,
    pub(super) refusal_pace: RefusalPace,
    /// `None` if clients stay connected when their token expires or is no longer listed.
    pub(super) expiries: Option<Expiries>,
    pub(super) rules: ClientRules,
    /// How many rooms a client may join by itself.
    pub(super) max_rooms: usize,
    pub(super) max_namespaces_per_client: usize,
    pub(super) rates: RateLimits,
    pub(super) relay_queue: RelayQueue,
    pub(super) disconnector: Disconnector,
    pub(super) buffers: Arc<ClientBuffers>,
    pub(super) adapter: PostgresAdapterCtr,
}

/// The connect handler that socketioxide calls for each client of a namespace. `is_hosted` tells the names that are hosted.
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
        if socket.connected() {
            control.check_connected(socket, &io);
        }
        std::future::ready(())
    };
    on_connect.with(authorize)
}

impl AdmissionControl {
    /// Does everything that must happen before the client is told that it is connected. Nothing of a namespace reaches the other
    /// servers before its first client is admitted.
    async fn admit(
        self: Arc<Self>,
        socket: &ClusterSocket,
        io: &ClusterIo,
        is_hosted: bool,
        credentials: Option<Credentials>,
    ) -> Result<(), Refusal> {
        let visit = self.adapter.visit(socket.ns());
        let outcome = match is_hosted {
            true => self.judge(socket, credentials).await,
            false => Err(Refusal::UnknownNamespace),
        };
        match outcome {
            Ok((admitted, slot)) => {
                self.welcome(socket, admitted, slot);
                Ok(())
            }
            Err(refusal) => {
                self.note_refusal(socket, io, visit, &refusal);
                self.slow_down(socket, &refusal).await;
                Err(refusal)
            }
        }
    }

    /// Looks again at what may have changed while the client was connecting.
    fn check_connected(&self, socket: ClusterSocket, io: &ClusterIo) {
        if is_deleted(&socket, io) {
            // The client reconnects to a new namespace.
            self.disconnector.disconnect_stranded(&socket);
        } else if is_revoked(&socket, &self.authentication) {
            self.disconnector.expel(socket, Reason::Revoked);
        }
    }

    async fn judge(
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

    /// Counts a refusal, deletes a namespace that only refused clients have asked for, and disconnects a client that is refused
    /// again and again.
    fn note_refusal(&self, socket: &ClusterSocket, io: &ClusterIo, visit: Visit, refusal: &Refusal) {
        metrics::counter!("pgio_connections_refused_total", "reason" => refusal.reason()).increment(1);
        if visit.end_refused() {
            io.delete_ns(socket.ns());
        }
        match usage_of(socket).refused(self.max_namespaces_per_client) {
            Refusals::Few => {
                tracing::info!(sid = %socket.id, nsp = socket.ns(), %refusal, "client refused");
            }
            Refusals::TooMany => self.disconnector.disconnect_socket(socket, Reason::RefusedTooOften),
            // It is being disconnected.
            Refusals::More => {}
        }
    }

    /// Lets a client that may be guessing tokens wait for its refusal.
    async fn slow_down(&self, socket: &ClusterSocket, refusal: &Refusal) {
        let Some(connection) = socket.req_parts().extensions.get::<Connection>() else { return };
        if !refusal.may_be_a_guess() {
            return;
        }
        match self.refusal_pace.delay(connection.peer.ip()) {
            Some(delay) => sleep(delay).await,
            None => self.disconnector.disconnect_socket(socket, Reason::RefusedTooOften),
        }
    }

    fn welcome(self: Arc<Self>, socket: &ClusterSocket, admitted: Admitted, slot: NamespaceSlot) {
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
        // One handler for all events, since each handler costs memory for every client. Handlers run in the order of the
        // events up to their first await, so this one has none.
        socket.on_fallback(move |socket, io, name: EventName, event, ack| {
            self.handle_event(socket, &io, &name.0, event, ack);
            std::future::ready(())
        });
        // Async, so that it runs in a task of its own: socketioxide calls it under the lock that `io.of` takes.
        socket.on_disconnect(
            move |socket: ClusterSocket, io: ClusterIo, reason: DisconnectReason| async move {
                on_disconnect(&disconnector, &socket, &io, reason);
            },
        );
    }

    fn handle_event(
        &self,
        socket: ClusterSocket,
        io: &ClusterIo,
        name: &str,
        event: ClientEvent,
        ack: AckSender<ClusterAdapter>,
    ) {
        metrics::counter!("pgio_events_received_total").increment(1);
        let pace = usage_of(&socket).emitted(&self.rates, event.bytes());
        let Some(ack) = self.keep_pace(pace, &socket, ack) else { return };
        match name {
            _ if !event.is_strict() => self.refuse_malformed(&socket),
            "join" => self.change_rooms(Change::Join, &socket, io, event, ack),
            "leave" => self.change_rooms(Change::Leave, &socket, io, event, ack),
            _ => self.relay(socket, event, ack),
        }
    }

    /// Refuses an event of a client that emits faster than it may. Returns the acknowledgement of an event that may go on.
    fn keep_pace(
        &self,
        pace: Pace,
        socket: &ClusterSocket,
        ack: AckSender<ClusterAdapter>,
    ) -> Option<AckSender<ClusterAdapter>> {
        match pace {
            Pace::Kept => return Some(ack),
            Pace::Exceeded => {
                metrics::counter!("pgio_events_refused_total").increment(1);
                refuse(socket, ack, "too many events: the client emits faster than it may");
            }
            Pace::Ignored => self.disconnector.disconnect_socket(socket, Reason::TooFast),
        }
        None
    }

    /// Accounts for what waits for the client, as long as it has a socket.
    fn account(&self, socket: &ClusterSocket, slot: NamespaceSlot) {
        let buffer = self.buffers.of(socket.id);
        if socket.transport_type() == TransportType::Websocket
            && let Some(client) = client_of(socket)
            && client.handle.is_websocket()
        {
            client.handle.buffer.get_or_init(|| buffer.clone());
        }
        if let Some(client) = client_of(socket) {
            client.session.admit();
        }
        let disconnector = self.disconnector.clone();
        socket.extensions.insert(Account { buffer, disconnector, _slot: Arc::new(slot) });
    }

    /// Disconnects a client whose packet socket.io-parser would read in another way.
    fn refuse_malformed(&self, socket: &ClusterSocket) {
        metrics::counter!("pgio_events_refused_total").increment(1);
        self.disconnector.disconnect_socket(socket, Reason::Malformed);
    }

    fn change_rooms(
        &self,
        change: Change,
        socket: &ClusterSocket,
        io: &ClusterIo,
        event: ClientEvent,
        ack: AckSender<ClusterAdapter>,
    ) {
        let rooms = event
            .args()
            .and_then(|args| rooms_of(&args))
            .and_then(|rooms| rooms.iter().try_for_each(|room| self.allow(room, socket, io)).map(|()| rooms))
            .and_then(|rooms| self.allow_more(change, &rooms, socket).map(|()| rooms));
        match rooms {
            Ok(rooms) => {
                match change {
                    Change::Join => socket.join(rooms),
                    Change::Leave => socket.leave(rooms),
                }
                let mut held = rooms_held(socket);
                held.sort();
                acknowledge(socket, ack, &held);
            }
            Err(reason) => {
                metrics::counter!("pgio_events_refused_total").increment(1);
                refuse(socket, ack, &reason);
            }
        }
    }

    /// Bounds the rooms of a client, and with them the acknowledgement, which lists them.
    fn allow_more(&self, change: Change, rooms: &[String], socket: &ClusterSocket) -> Result<(), String> {
        if matches!(change, Change::Leave) {
            return Ok(());
        }
        let held: HashSet<Room> = rooms_held(socket).into_iter().collect();
        let new: HashSet<&str> =
            rooms.iter().map(String::as_str).filter(|room| !held.contains(*room)).collect();
        if !new.is_empty() && held.len() + new.len() > self.max_rooms {
            return Err(format!("a client may be in {} rooms at most", self.max_rooms));
        }
        Ok(())
    }

    fn allow(&self, room: &str, socket: &ClusterSocket, io: &ClusterIo) -> Result<(), String> {
        if room.len() > MAX_ROOM_BYTES {
            return Err(format!("the name of a room has {MAX_ROOM_BYTES} bytes at most"));
        }
        let claims = socket.extensions.get::<SocketData>().unwrap_or_default().0;
        self.rules.may_join(room, socket.id.as_str(), &claims).map_err(|why| match why {
            NotAllowed::NoPattern => format!("room {room:?} is not allowed"),
            NotAllowed::LooksLikeId => {
                format!("room {room:?} is not allowed: it looks like the id of a client")
            }
        })?;
        // A room that is named like a socket id receives the messages of that socket.
        let other = room.parse::<Sid>().ok().filter(|sid| *sid != socket.id);
        let nsp = || io.of(socket.ns());
        match other.and_then(|sid| nsp()?.get_socket(sid)) {
            Some(_) => Err(format!("room {room:?} is that of another client")),
            None => Ok(()),
        }
    }

    /// Relays any other event, if the rules allow it.
    fn relay(&self, socket: ClusterSocket, event: ClientEvent, ack: AckSender<ClusterAdapter>) {
        let rooms = match self.rules.relay {
            Relay::Off => {
                metrics::counter!("pgio_events_refused_total").increment(1);
                return refuse(&socket, ack, "this server takes no events of clients");
            }
            Relay::Namespace => Vec::new(),
            Relay::Rooms => match rooms_held(&socket) {
                // The sender is in no room, so no client receives it. An empty list would mean every client.
                rooms if rooms.is_empty() => return acknowledge(&socket, ack, &NO_ARGUMENTS),
                rooms => rooms,
            },
        };
        let refused = |socket: &ClusterSocket, ack, error: Error| {
            metrics::counter!("pgio_events_refused_total").increment(1);
            refuse(socket, ack, &error.to_string());
        };
        let bytes = event.bytes();
        let event = match Relayable::check(event.0) {
            Ok(event) => event,
            Err(error) => return refused(&socket, ack, error),
        };
        // Its rooms travel with it.
        let room_bytes = rooms.iter().map(|room| room.len()).sum();
        let pace = usage_of(&socket).caused(&self.rates, room_bytes);
        let Some(ack) = self.keep_pace(pace, &socket, ack) else { return };
        let bytes = bytes.max(event.memory()) + room_bytes;
        let room = match self.relay_queue.reserve(&socket, bytes) {
            Ok(room) => room,
            Err(TooMany) => return self.disconnector.disconnect_socket(&socket, Reason::TooFast),
        };
        match self.adapter.relay(socket.ns(), socket.id, rooms, event) {
            Ok(onward) => self.relay_queue.put(RelayedEvent { sender: socket, onward, ack, room }),
            Err(error) => refused(&socket, ack, error),
        }
    }
}

/// The client of a socket.
fn client_of(socket: &ClusterSocket) -> Option<&Client> {
    socket.req_parts().extensions.get::<Client>()
}

/// The account of a client's session.
fn usage_of(socket: &ClusterSocket) -> Arc<ClientUsage> {
    client_of(socket).map(|client| client.session.usage.clone()).unwrap_or_default()
}

/// An acknowledgement without arguments, `[]` as in Node. The unit would be `[null]`.
pub(super) const NO_ARGUMENTS: [(); 0] = [];

#[derive(Clone, Copy)]
enum Change {
    Join,
    Leave,
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
    // socketioxide sends no packet to the clients of a namespace that is deleted.
    if reason == DisconnectReason::ServerNSDisconnect && is_deleted(socket, io) {
        disconnector.disconnect_socket(socket, Reason::NamespaceGone);
    }
}

/// Whether the namespace of a socket was deleted.
fn is_deleted(socket: &ClusterSocket, io: &ClusterIo) -> bool {
    io.of(socket.ns()).is_none_or(|nsp| nsp.get_socket(socket.id).is_none())
}

/// The rooms of a socket, without that of its own id.
fn rooms_held(socket: &ClusterSocket) -> Vec<Room> {
    let own = socket.id.to_string();
    socket.rooms().into_iter().filter(|room| *room != own).collect()
}

/// Reads the only argument of `join` or `leave`: a room or an array of rooms.
fn rooms_of(args: &[Value]) -> Result<Vec<String>, String> {
    let rooms = match args {
        [Value::String(room)] => Some(vec![room.to_string()]),
        [Value::Array(rooms)] => rooms.iter().map(|room| room.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    rooms.ok_or_else(|| "expected a room or an array of rooms".into())
}

/// An event as the client sent it.
pub(super) struct ClientEvent(CoreValue);

impl ClientEvent {
    /// Whether the array of an event directly follows its head, as socket.io-parser writes it.
    fn is_strict(&self) -> bool {
        match &self.0 {
            CoreValue::Str(text, _) => text.starts_with('['),
            CoreValue::Bytes(_) => true,
        }
    }

    fn bytes(&self) -> usize {
        match &self.0 {
            CoreValue::Str(text, binaries) => {
                text.len() + binaries.iter().flatten().map(|binary| binary.len()).sum::<usize>()
            }
            CoreValue::Bytes(bytes) => bytes.len(),
        }
    }

    fn args(self) -> Result<Vec<Value>, String> {
        args_of_client(self.0).map_err(|error| error.to_string())
    }
}

impl FromMessageParts<ClusterAdapter> for ClientEvent {
    type Error = std::convert::Infallible;

    fn from_message_parts(
        _: &Arc<Socket<ClusterAdapter>>,
        value: &mut CoreValue,
        _: &Option<i64>,
    ) -> Result<Self, Self::Error> {
        Ok(Self(value.clone()))
    }
}

/// Acknowledges an event, if the client asked for an acknowledgement.
pub(super) fn acknowledge<T: Serialize + ?Sized>(
    socket: &SocketRef<ClusterAdapter>,
    ack: AckSender<ClusterAdapter>,
    answer: &T,
) {
    if let Err(error) = ack.send(answer) {
        tracing::debug!(%error, sid = %socket.id, "cannot send an acknowledgement");
    }
}

/// Acknowledges an event with `{error}`, if the client asked for an acknowledgement.
pub(super) fn refuse(socket: &SocketRef<ClusterAdapter>, ack: AckSender<ClusterAdapter>, reason: &str) {
    #[derive(Serialize)]
    struct Refused<'a> {
        error: &'a str,
    }
    acknowledge(socket, ack, &Refused { error: shorten(reason) });
}

/// The start of a reason, since what a client is told may quote what it has sent.
fn shorten(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)]
}
