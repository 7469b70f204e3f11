//! The `data` of each kind of message, with its keys on the wire.

use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Body, BroadcastOptions, EventArgs, MessageKind, RemoteSocket, RequestId, Value, event, room_list,
};

/// The number of an event packet in the Socket.IO protocol.
const EVENT_PACKET: u8 = 2;

/// The `data` of a broadcast.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(bound(deserialize = "E: Deserialize<'de>"))]
pub(super) struct BroadcastData<E> {
    #[serde(default)]
    opts: BroadcastOptions,
    packet: PacketData<E>,
    request_id: Option<RequestId>,
}

impl<E> BroadcastData<E> {
    /// A broadcast that requests no acknowledgements.
    pub(super) fn new(opts: BroadcastOptions, event: E) -> Self {
        Self { opts, packet: PacketData { data: event }, request_id: None }
    }

    pub(super) fn opts(&self) -> &BroadcastOptions {
        &self.opts
    }

    /// The event, if the broadcast requests no acknowledgements.
    pub(super) fn event_without_request(&self) -> Option<&E> {
        self.request_id.is_none().then_some(&self.packet.data)
    }

    pub(super) fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    pub(super) fn into_body(self, event: impl FnOnce(E) -> EventArgs) -> Body {
        let Self { opts, packet, request_id } = self;
        Body::Broadcast { opts, event: event(packet.data), request_id }
    }
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "E: Deserialize<'de>"))]
struct PacketData<E> {
    data: E,
}

#[derive(Deserialize)]
struct RoomsData {
    #[serde(default)]
    opts: BroadcastOptions,
    #[serde(deserialize_with = "room_list::one_or_more")]
    rooms: Vec<String>,
}

#[derive(Deserialize)]
struct DisconnectData {
    #[serde(default)]
    opts: BroadcastOptions,
    #[serde(default)]
    close: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FetchData {
    #[serde(default)]
    opts: BroadcastOptions,
    request_id: RequestId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SocketsData {
    request_id: RequestId,
    sockets: Vec<RemoteSocket>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(bound(deserialize = "E: Deserialize<'de>"))]
struct ServerEventData<E> {
    packet: E,
    request_id: Option<RequestId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerData {
    request_id: RequestId,
    /// Missing in JSON if the answer is `undefined`.
    #[serde(default)]
    packet: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AckData {
    request_id: RequestId,
    #[serde(default, deserialize_with = "present")]
    packet: Option<Value>,
}

/// Reads a field that is there, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CountData {
    request_id: RequestId,
    client_count: u64,
}

/// Reads the `data` of a message of that kind; an event is read as `E`.
pub(super) fn read<'de, D, E>(kind: MessageKind, data: D, event: fn(E) -> EventArgs) -> Result<Body, D::Error>
where
    D: Deserializer<'de>,
    E: Deserialize<'de>,
{
    Ok(match kind {
        MessageKind::InitialHeartbeat => Body::InitialHeartbeat,
        MessageKind::Heartbeat => Body::Heartbeat,
        MessageKind::AdapterClose => Body::AdapterClose,
        MessageKind::Broadcast => BroadcastData::<E>::deserialize(data)?.into_body(event),
        MessageKind::SocketsJoin => {
            let RoomsData { opts, rooms } = RoomsData::deserialize(data)?;
            Body::SocketsJoin { opts, rooms }
        }
        MessageKind::SocketsLeave => {
            let RoomsData { opts, rooms } = RoomsData::deserialize(data)?;
            Body::SocketsLeave { opts, rooms }
        }
        MessageKind::DisconnectSockets => {
            let DisconnectData { opts, close } = DisconnectData::deserialize(data)?;
            Body::DisconnectSockets { opts, close }
        }
        MessageKind::FetchSockets => {
            let FetchData { opts, request_id } = FetchData::deserialize(data)?;
            Body::FetchSockets { opts, request_id }
        }
        MessageKind::FetchSocketsResponse => {
            let SocketsData { request_id, sockets } = SocketsData::deserialize(data)?;
            Body::FetchSocketsResponse { request_id, sockets }
        }
        MessageKind::ServerSideEmit => {
            let ServerEventData { packet, request_id } = ServerEventData::<E>::deserialize(data)?;
            Body::ServerSideEmit { event: event(packet), request_id }
        }
        MessageKind::ServerSideEmitResponse => {
            let AnswerData { request_id, packet } = AnswerData::deserialize(data)?;
            Body::ServerSideEmitResponse { request_id, answer: packet }
        }
        MessageKind::BroadcastClientCount => {
            let CountData { request_id, client_count } = CountData::deserialize(data)?;
            Body::BroadcastClientCount { request_id, client_count }
        }
        MessageKind::BroadcastAck => {
            let AckData { request_id, packet } = AckData::deserialize(data)?;
            Body::BroadcastAck { request_id, answer: packet }
        }
    })
}

/// Writes the `data` of a message.
pub(super) struct Data<'a>(pub(super) &'a Body);

impl Data<'_> {
    pub(super) fn is_none(&self) -> bool {
        matches!(self.0, Body::InitialHeartbeat | Body::Heartbeat | Body::AdapterClose)
    }
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Body::InitialHeartbeat | Body::Heartbeat | Body::AdapterClose => serializer.serialize_none(),
            Body::Broadcast { opts, event, request_id } => {
                let mut data =
                    serializer.serialize_struct("Broadcast", 2 + usize::from(request_id.is_some()))?;
                data.serialize_field("opts", opts)?;
                data.serialize_field("packet", &Packet { kind: EVENT_PACKET, data: event })?;
                optional_request(&mut data, request_id.as_ref())?;
                data.end()
            }
            Body::SocketsJoin { opts, rooms } | Body::SocketsLeave { opts, rooms } => {
                let mut data = serializer.serialize_struct("Rooms", 2)?;
                data.serialize_field("opts", opts)?;
                data.serialize_field("rooms", rooms)?;
                data.end()
            }
            Body::DisconnectSockets { opts, close } => {
                let mut data = serializer.serialize_struct("Disconnect", 2)?;
                data.serialize_field("opts", opts)?;
                data.serialize_field("close", close)?;
                data.end()
            }
            Body::FetchSockets { opts, request_id } => {
                let mut data = serializer.serialize_struct("Fetch", 2)?;
                data.serialize_field("opts", opts)?;
                data.serialize_field("requestId", request_id)?;
                data.end()
            }
            Body::FetchSocketsResponse { request_id, sockets } => {
                let mut data = serializer.serialize_struct("Sockets", 2)?;
                data.serialize_field("requestId", request_id)?;
                data.serialize_field("sockets", sockets)?;
                data.end()
            }
            Body::ServerSideEmit { event, request_id } => {
                let mut data =
                    serializer.serialize_struct("ServerEvent", 1 + usize::from(request_id.is_some()))?;
                data.serialize_field("packet", event)?;
                optional_request(&mut data, request_id.as_ref())?;
                data.end()
            }
            Body::BroadcastAck { request_id, answer: None } => {
                let mut data = serializer.serialize_struct("Answer", 1)?;
                data.serialize_field("requestId", request_id)?;
                data.end()
            }
            Body::ServerSideEmitResponse { request_id, answer }
            | Body::BroadcastAck { request_id, answer: Some(answer) } => {
                let mut data = serializer.serialize_struct("Answer", 2)?;
                data.serialize_field("requestId", request_id)?;
                data.serialize_field("packet", answer)?;
                data.end()
            }
            Body::BroadcastClientCount { request_id, client_count } => {
                let mut data = serializer.serialize_struct("Count", 2)?;
                data.serialize_field("requestId", request_id)?;
                data.serialize_field("clientCount", client_count)?;
                data.end()
            }
        }
    }
}

/// Writes `requestId` only if there is one: Node answers every message that has the key, even with the value `null`.
fn optional_request<S: SerializeStruct>(
    data: &mut S,
    request_id: Option<&RequestId>,
) -> Result<(), S::Error> {
    match request_id {
        Some(id) => data.serialize_field("requestId", id),
        None => data.skip_field("requestId"),
    }
}

/// A Socket.IO packet that carries an event.
#[derive(Serialize)]
struct Packet<'a> {
    #[serde(rename = "type")]
    kind: u8,
    data: &'a event::EventArgs,
}
