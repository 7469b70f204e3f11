//! A client of this server: let in or not, and what it then may do.

use std::sync::Arc;

use serde::Serialize;
use socketioxide::extract::{AckSender, Event as EventName, SocketRef, TryData};
use socketioxide::handler::{ConnectHandler, FromMessageParts};
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::Room;

use super::auth::{Authentication, Credentials, Refusal};
use super::cutting::{Cutter, Reason};
use super::relay::{Outbox, Relayed, TooMany};
use super::rules::{ClientRules, Relay};
use super::{ClusterAdapter, ClusterIo, ClusterSocket};
use crate::adapter::{PostgresAdapterCtr, Sid, SocketData, args_of_client};
use crate::protocol::Value;

/// Decides about clients.
pub(super) struct Doorkeeper {
    pub(super) authentication: Authentication,
    pub(super) rules: ClientRules,
    pub(super) outbox: Outbox,
    pub(super) cutter: Cutter,
    pub(super) adapter: PostgresAdapterCtr,
}

/// What socketioxide calls for each client of a namespace.
pub(super) fn handler(
    keeper: Arc<Doorkeeper>,
) -> impl ConnectHandler<ClusterAdapter, (ClusterSocket, ClusterIo)> {
    let cutter = keeper.cutter.clone();
    let admit = move |socket: ClusterSocket, credentials: TryData<Credentials>| {
        let outcome = keeper.clone().admit(&socket, credentials.0.ok());
        std::future::ready(outcome)
    };
    let welcome = move |socket: ClusterSocket, io: ClusterIo| {
        metrics::counter!("pgio_connections_total").increment(1);
        tracing::debug!(sid = %socket.id, nsp = socket.ns(), "a client has connected");
        // An empty namespace may go between the knock and here. The client comes back to a new one.
        if io.of(socket.ns()).is_none_or(|nsp| nsp.get_socket(socket.id).is_none()) && socket.connected() {
            cutter.cut_socket(&socket, Reason::NamespaceGone);
        }
        std::future::ready(())
    };
    welcome.with(admit)
}

impl Doorkeeper {
    /// Does all that has to be done before the client may hear that it is connected.
    fn admit(
        self: Arc<Self>,
        socket: &ClusterSocket,
        credentials: Option<Credentials>,
    ) -> Result<(), Refusal> {
        let admission = self.authentication.admit(credentials).inspect_err(|refusal| {
            metrics::counter!("pgio_connections_refused_total", "reason" => refusal.reason()).increment(1);
            tracing::info!(sid = %socket.id, nsp = socket.ns(), %refusal, "a client was refused");
        })?;
        socket.extensions.insert(SocketData(admission.data));
        socket.join(admission.rooms);
        // One handler for all events, as each costs every client some memory. They run in the order of the events up to
        // their first pause, which is why this has none.
        socket.on_fallback(move |socket, io, name: EventName, event, ack| {
            match name.0.as_str() {
                "join" => self.change_rooms(Change::Join, &socket, &io, event, ack),
                "leave" => self.change_rooms(Change::Leave, &socket, &io, event, ack),
                _ => self.take(socket, event, ack),
            }
            std::future::ready(())
        });
        socket.on_disconnect(farewell);
        Ok(())
    }

    fn change_rooms(
        &self,
        change: Change,
        socket: &ClusterSocket,
        io: &ClusterIo,
        event: ClientEvent,
        ack: AckSender<ClusterAdapter>,
    ) {
        metrics::counter!("pgio_events_received_total").increment(1);
        let rooms = event
            .args()
            .and_then(|args| rooms_of(&args))
            .and_then(|rooms| rooms.iter().try_for_each(|room| self.allow(room, socket, io)).map(|()| rooms));
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

    fn allow(&self, room: &str, socket: &ClusterSocket, io: &ClusterIo) -> Result<(), String> {
        if !self.rules.may_join(room) {
            return Err(format!("room {room:?} is not allowed"));
        }
        // Who is in the room of another's id gets what is meant for that one alone.
        let other = room.parse::<Sid>().ok().filter(|sid| *sid != socket.id);
        let nsp = || io.of(socket.ns());
        match other.and_then(|sid| nsp()?.get_socket(sid)) {
            Some(_) => Err(format!("room {room:?} is that of another client")),
            None => Ok(()),
        }
    }

    /// Takes any other event.
    fn take(&self, socket: ClusterSocket, event: ClientEvent, ack: AckSender<ClusterAdapter>) {
        metrics::counter!("pgio_events_received_total").increment(1);
        let rooms = match self.rules.relay {
            Relay::Off => {
                metrics::counter!("pgio_events_refused_total").increment(1);
                return refuse(&socket, ack, "this server takes no events of clients");
            }
            Relay::Namespace => Vec::new(),
            Relay::Rooms => match rooms_held(&socket) {
                // Nobody is to hear it, where no rooms would mean everybody.
                rooms if rooms.is_empty() => return acknowledge(&socket, ack, &()),
                rooms => rooms,
            },
        };
        match self.adapter.relay(socket.ns(), socket.id, rooms, event.0) {
            Ok(onward) => {
                if let Err(TooMany) = self.outbox.put(Relayed { sender: socket.clone(), onward, ack }) {
                    self.cutter.cut_socket(&socket, Reason::TooFast);
                }
            }
            Err(error) => {
                metrics::counter!("pgio_events_refused_total").increment(1);
                refuse(&socket, ack, &error.to_string());
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    Join,
    Leave,
}

async fn farewell(socket: ClusterSocket, reason: DisconnectReason) {
    let label = format!("{reason:?}");
    tracing::debug!(sid = %socket.id, nsp = socket.ns(), reason = label, "a client has gone");
    metrics::counter!("pgio_disconnections_total", "reason" => label).increment(1);
}

/// The rooms of a socket, without that of its own id.
fn rooms_held(socket: &ClusterSocket) -> Vec<Room> {
    let own = socket.id.to_string();
    socket.rooms().into_iter().filter(|room| *room != own).collect()
}

/// One room, or an array of rooms, as the only argument.
fn rooms_of(args: &[Value]) -> Result<Vec<String>, String> {
    let rooms = match args {
        [Value::String(room)] => Some(vec![room.to_string()]),
        [Value::Array(rooms)] => rooms.iter().map(|room| room.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    rooms.ok_or_else(|| "expected a room or an array of rooms".into())
}

/// An event as it came.
pub(super) struct ClientEvent(CoreValue);

impl ClientEvent {
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

/// Acknowledges an event, if the client asked for that.
pub(super) fn acknowledge<T: Serialize + ?Sized>(
    socket: &SocketRef<ClusterAdapter>,
    ack: AckSender<ClusterAdapter>,
    answer: &T,
) {
    if let Err(error) = ack.send(answer) {
        tracing::debug!(%error, sid = %socket.id, "not acknowledged");
    }
}

/// Tells the client why not, if it asked for an acknowledgement: `{error}`.
pub(super) fn refuse(socket: &SocketRef<ClusterAdapter>, ack: AckSender<ClusterAdapter>, reason: &str) {
    #[derive(Serialize)]
    struct Refused<'a> {
        error: &'a str,
    }
    acknowledge(socket, ack, &Refused { error: reason });
}
