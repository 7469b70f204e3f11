//! The event line: the JSON format of a message, printed by `tail -o json` and read by `emit --from`.

mod read;
mod verbatim;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

pub(super) use read::{Line, LineEvent, LineTargets, Wanted, parse};

use super::binary_json::{self, BinaryJson};
use super::timestamp;
use crate::cluster::{Attached, Content, Received};
use crate::protocol::{Body, BroadcastOptions};
use crate::{RemoteSocket, Value};

/// Serializes a received message as an event line.
pub(super) struct EventLine<'a>(pub(super) &'a Received);

impl Serialize for EventLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Received { time, attachment, content, .. } = self.0;
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("time", &format_args!("{:.3}", timestamp::of(*time)))?;
        if let Some(header) = content.header() {
            line.serialize_entry("namespace", header.nsp.as_str())?;
            line.serialize_entry("uid", &header.uid)?;
            line.serialize_entry("type", header.kind.name())?;
        }
        match content {
            // Decodes the whole event before it writes a field, since half a line would be invalid JSON.
            Content::Message(message) => match event_of(&message.body) {
                Ok(event) => body(&mut line, &message.body, event.as_ref())?,
                Err(error) => line.serialize_entry("error", &error.to_string())?,
            },
            Content::Missing(_) => {}
            Content::Unreadable(_, error) => line.serialize_entry("error", &error.to_string())?,
        }
        line.serialize_entry("attachment", &attachment.map(Attachment::from))?;
        line.end()
    }
}

#[derive(Serialize)]
struct Attachment {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    missing: bool,
}

impl From<Attached> for Attachment {
    fn from(Attached { id, bytes, .. }: Attached) -> Self {
        Self { id: id.to_string(), bytes, missing: bytes.is_none() }
    }
}

/// An event's name and arguments.
type Event = (String, Vec<Value>);

/// The event of a message, if messages of its kind have one.
fn event_of(body: &Body) -> crate::Result<Option<Event>> {
    match body {
        Body::Broadcast { event, .. } | Body::ServerSideEmit { event, .. } => {
            event.clone().into_parts().map(Some)
        }
        _ => Ok(None),
    }
}

fn body<M: SerializeMap>(line: &mut M, body: &Body, event: Option<&Event>) -> Result<(), M::Error> {
    if let Some((name, args)) = event {
        line.serialize_entry("event", name)?;
        line.serialize_entry("args", &binary_json::all(args))?;
    }
    match body {
        Body::InitialHeartbeat | Body::Heartbeat | Body::AdapterClose => Ok(()),
        Body::Broadcast { opts, request_id, .. } => {
            options(line, opts)?;
            line.serialize_entry("requestId", request_id)
        }
        Body::SocketsJoin { opts, rooms } => {
            options(line, opts)?;
            line.serialize_entry("join", rooms)
        }
        Body::SocketsLeave { opts, rooms } => {
            options(line, opts)?;
            line.serialize_entry("leave", rooms)
        }
        Body::DisconnectSockets { opts, close } => {
            options(line, opts)?;
            line.serialize_entry("close", close)
        }
        Body::FetchSockets { opts, request_id } => {
            options(line, opts)?;
            line.serialize_entry("requestId", request_id)
        }
        Body::FetchSocketsResponse { request_id, sockets } => {
            line.serialize_entry("requestId", request_id)?;
            line.serialize_entry("sockets", &sockets.iter().map(Socket).collect::<Vec<_>>())
        }
        Body::ServerSideEmit { request_id, .. } => line.serialize_entry("requestId", request_id),
        Body::BroadcastAck { request_id, answer: None } => {
            line.serialize_entry("requestId", request_id)?;
            line.serialize_entry("answer", &())
        }
        Body::ServerSideEmitResponse { request_id, answer }
        | Body::BroadcastAck { request_id, answer: Some(answer) } => {
            line.serialize_entry("requestId", request_id)?;
            line.serialize_entry("answer", &BinaryJson(answer))
        }
        Body::BroadcastClientCount { request_id, client_count } => {
            line.serialize_entry("requestId", request_id)?;
            line.serialize_entry("clientCount", client_count)
        }
    }
}

fn options<M: SerializeMap>(line: &mut M, opts: &BroadcastOptions) -> Result<(), M::Error> {
    line.serialize_entry("rooms", &opts.rooms)?;
    line.serialize_entry("except", &opts.except)?;
    line.serialize_entry("flags", &opts.flags)
}

struct Socket<'a>(&'a RemoteSocket);

impl Serialize for Socket<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let RemoteSocket { id, handshake, rooms, data } = self.0;
        let mut socket = serializer.serialize_map(Some(4))?;
        socket.serialize_entry("id", id)?;
        socket.serialize_entry("rooms", rooms)?;
        socket.serialize_entry("data", &BinaryJson(data))?;
        socket.serialize_entry("handshake", &BinaryJson(handshake))?;
        socket.end()
    }
}

#[cfg(test)]
mod tests;
