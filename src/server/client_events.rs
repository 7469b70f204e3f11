//! The events that clients emit: rooms to join and leave, and events to relay.
//!
//! In: an event with its acknowledgement. Out: a change of rooms, an event for the relay queue, or a refusal. Events above
//! the rate limit are refused, and then the client is disconnected.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use socketioxide::extract::SocketRef;
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::Room;

use super::ack::AckSender;
use super::admission::{shorten, usage_of};
use super::disconnect::{Disconnector, Reason};
use super::rate::{RateLimits, RateStatus};
use super::relay::{QueueFull, RelayQueue, RelayedEvent};
use super::rules::{ClientRules, NotAllowed, Relay};
use super::{ClusterAdapter, ClusterIo, ClusterSocket};
use crate::Error;
use crate::adapter::{PostgresAdapterCtr, Relayable, Sid, SocketData, args_of_client};
use crate::protocol::Value;

/// The longest name of a room that a client may join or leave, in bytes.
const MAX_ROOM_BYTES: usize = 256;

/// Handles the events of clients.
pub(super) struct ClientEvents {
    pub(super) rules: ClientRules,
    /// The maximum number of rooms that a client may join itself.
    pub(super) max_rooms: usize,
    pub(super) rates: RateLimits,
    pub(super) relay_queue: RelayQueue,
    pub(super) disconnector: Disconnector,
    pub(super) adapter: PostgresAdapterCtr,
}

impl ClientEvents {
    /// Handles one event.
    pub(super) fn handle(
        &self,
        socket: ClusterSocket,
        io: &ClusterIo,
        name: &str,
        event: ClientEvent,
        ack: AckSender<ClusterAdapter>,
    ) {
        metrics::counter!("pgio_events_received_total").increment(1);
        let pace = usage_of(&socket).emitted(&self.rates, event.bytes());
        let Some(ack) = self.check_rate(pace, &socket, ack) else { return };
        match name {
            _ if !event.is_strict() => self.refuse_malformed(&socket),
            "join" => self.change_rooms(Change::Join, &socket, io, event, ack),
            "leave" => self.change_rooms(Change::Leave, &socket, io, event, ack),
            _ => self.relay(socket, event, ack),
        }
    }

    /// Refuses an event above the rate limit. Returns the acknowledgement of an event within it.
    fn check_rate(
        &self,
        pace: RateStatus,
        socket: &ClusterSocket,
        ack: AckSender<ClusterAdapter>,
    ) -> Option<AckSender<ClusterAdapter>> {
        match pace {
            RateStatus::Within => return Some(ack),
            RateStatus::Exceeded => {
                metrics::counter!("pgio_events_refused_total").increment(1);
                refuse(socket, ack, "rate limit exceeded: too many events");
            }
            RateStatus::Flooding => self.disconnector.disconnect_socket(socket, Reason::TooFast),
        }
        None
    }

    /// Disconnects a client whose packet socket.io-parser would parse differently.
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
        let refused = |ack, reason: String| {
            metrics::counter!("pgio_events_refused_total").increment(1);
            refuse(socket, ack, &reason);
        };
        let rooms = match event.args().and_then(|args| self.rooms_of(&args)) {
            Ok(rooms) => rooms,
            Err(reason) => return refused(ack, reason),
        };
        // A short event causes checks of many rooms, and an acknowledgement that lists all of them.
        let held: usize = rooms_held(socket).iter().map(|room| room.len()).sum();
        let pace = usage_of(socket).caused(&self.rates, held + rooms.len() * MAX_ROOM_BYTES);
        let Some(ack) = self.check_rate(pace, socket, ack) else { return };
        let claims = socket.extensions.get::<SocketData>().unwrap_or_default().0;
        let allowed = rooms.iter().try_for_each(|room| self.allow(room, socket, &claims, io));
        if let Err(reason) = allowed.and_then(|()| self.allow_more(change, &rooms, socket)) {
            return refused(ack, reason);
        }
        match change {
            Change::Join => socket.join(rooms),
            Change::Leave => socket.leave(rooms),
        }
        let mut held = rooms_held(socket);
        held.sort();
        acknowledge(socket, ack, &held);
    }

    /// Reads the only argument of `join` or `leave`: a room or an array of rooms.
    fn rooms_of(&self, args: &[Value]) -> Result<Vec<String>, String> {
        let names: Option<Vec<&str>> = match args {
            [Value::String(room)] => Some(vec![room.as_str()]),
            [Value::Array(rooms)] => rooms.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let names = names.ok_or("expected a room or an array of rooms")?;
        let mut seen = HashSet::new();
        let distinct = names.into_iter().filter(|name| seen.insert(*name)).take(self.max_rooms + 1);
        let distinct: Vec<_> = distinct.map(str::to_owned).collect();
        match distinct.len() <= self.max_rooms {
            true => Ok(distinct),
            false => Err(format!("a client may be in at most {} rooms", self.max_rooms)),
        }
    }

    /// Checks the bound of the rooms of a client, which also bounds the acknowledgement that lists them.
    fn allow_more(&self, change: Change, rooms: &[String], socket: &ClusterSocket) -> Result<(), String> {
        if matches!(change, Change::Leave) {
            return Ok(());
        }
        let held: HashSet<Room> = rooms_held(socket).into_iter().collect();
        let new: HashSet<&str> =
            rooms.iter().map(String::as_str).filter(|room| !held.contains(*room)).collect();
        if !new.is_empty() && held.len() + new.len() > self.max_rooms {
            return Err(format!("a client may be in at most {} rooms", self.max_rooms));
        }
        Ok(())
    }

    fn allow(
        &self,
        room: &str,
        socket: &ClusterSocket,
        claims: &Value,
        io: &ClusterIo,
    ) -> Result<(), String> {
        if room.len() > MAX_ROOM_BYTES {
            return Err(format!("the name of a room may have at most {MAX_ROOM_BYTES} bytes"));
        }
        self.rules.may_join(room, socket.id.as_str(), claims).map_err(|why| match why {
            NotAllowed::NoPattern => format!("room {room:?} is not allowed"),
            NotAllowed::LooksLikeId => {
                format!("room {room:?} is not allowed: it looks like a socket id")
            }
        })?;
        // A room that is named like a socket id receives the messages of that socket.
        let other = room.parse::<Sid>().ok().filter(|sid| *sid != socket.id);
        let nsp = || io.of(socket.ns());
        match other.and_then(|sid| nsp()?.get_socket(sid)) {
            Some(_) => Err(format!("room {room:?} belongs to another client")),
            None => Ok(()),
        }
    }

    /// Relays any other event, if the rules allow it.
    fn relay(&self, socket: ClusterSocket, event: ClientEvent, ack: AckSender<ClusterAdapter>) {
        let rooms = match self.rules.relay {
            Relay::Off => {
                metrics::counter!("pgio_events_refused_total").increment(1);
                return refuse(&socket, ack, "this server does not accept events of clients");
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
        // The published event contains the names of its rooms.
        let room_bytes = rooms.iter().map(|room| room.len()).sum();
        let pace = usage_of(&socket).caused(&self.rates, room_bytes);
        let Some(ack) = self.check_rate(pace, &socket, ack) else { return };
        let bytes = bytes.max(event.memory()) + room_bytes;
        let permit = match self.relay_queue.reserve(&socket, bytes) {
            Ok(permit) => permit,
            Err(QueueFull) => return self.disconnector.disconnect_socket(&socket, Reason::TooFast),
        };
        match self.adapter.relay(socket.ns(), socket.id, rooms, event) {
            Ok(onward) => self.relay_queue.put(RelayedEvent { sender: socket, onward, ack, permit }),
            Err(error) => refused(&socket, ack, error),
        }
    }
}

/// An acknowledgement without arguments, `[]` as in Node. The unit would be `[null]`.
pub(super) const NO_ARGUMENTS: [(); 0] = [];

#[derive(Clone, Copy)]
enum Change {
    Join,
    Leave,
}

/// The rooms of a socket, without that of its own id.
fn rooms_held(socket: &ClusterSocket) -> Vec<Room> {
    let own = socket.id.to_string();
    socket.rooms().into_iter().filter(|room| *room != own).collect()
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
