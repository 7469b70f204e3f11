//! Encodes and decodes the packets of Socket.IO, with the parser of socketioxide.

use serde::Deserialize;
use socketioxide_core::packet::{Packet, PacketData};
use socketioxide_core::parser::{Parse, ParseConfig, ParseError, ParserState};
use socketioxide_core::{Str, Value as CoreValue};
use socketioxide_parser_common::CommonParser;

use super::engine::{Outgoing, Packet as EnginePacket};
use super::{MAX_MESSAGE_BYTES, Trouble};
use crate::adapter::convert::{Format, decode};
use crate::protocol::EventArgs;
use crate::{Namespace, Value};

/// Encodes and decodes the packets of one namespace.
pub(super) struct Packets {
    nsp: Str,
    state: ParserState,
    config: ParseConfig,
}

impl Packets {
    pub(super) fn new(nsp: &Namespace) -> Self {
        let config =
            ParseConfig { max_incoming_binary_buf_size: MAX_MESSAGE_BYTES, ..ParseConfig::default() };
        Self { nsp: nsp.to_string().into(), state: ParserState::default(), config }
    }

    pub(super) fn connect(&self, auth: Option<&Value>) -> Result<Outgoing, Trouble> {
        let text = auth.map(serde_json::to_string).transpose().map_err(unsendable)?;
        let auth = text.map(|text| CoreValue::Str(text.into(), None));
        Ok(encode(Packet { inner: PacketData::Connect(auth), ns: self.nsp.clone() }))
    }

    pub(super) fn disconnect(&self) -> Outgoing {
        encode(Packet { inner: PacketData::Disconnect, ns: self.nsp.clone() })
    }

    pub(super) fn event(&self, event: &str, args: &[Value], ack: Option<i64>) -> Result<Outgoing, Trouble> {
        let values: Vec<_> = std::iter::once(Value::from(event)).chain(args.iter().cloned()).collect();
        let data = Format::Json.encode(&values).map_err(unsendable)?;
        let mut packet = Packet::event(self.nsp.clone(), data);
        if let Some(id) = ack {
            packet.inner.set_ack_id(id);
        }
        Ok(encode(packet))
    }

    pub(super) fn ack(&self, args: &[Value], id: i64) -> Result<Outgoing, Trouble> {
        let data = Format::Json.encode(args).map_err(unsendable)?;
        Ok(encode(Packet::ack(self.nsp.clone(), data, id)))
    }

    /// Decodes a message. Returns the packet that it completes, if the packet is for this namespace.
    pub(super) fn read(&mut self, message: EnginePacket) -> Result<Option<PacketData>, Trouble> {
        let read = match message {
            // The parser is made for servers and does not know CONNECT_ERROR, which has the same format as CONNECT.
            EnginePacket::Text(text) if text.starts_with('4') => {
                let packet = self.read_text(text.replacen('4', "0", 1));
                packet
                    .map(|Packet { inner, ns }| Packet { inner: PacketData::ConnectError(reason(inner)), ns })
            }
            EnginePacket::Text(text) => self.read_text(text),
            EnginePacket::Binary(bytes) => CommonParser.decode_bin(&self.config, &self.state, bytes),
            EnginePacket::Ping | EnginePacket::Close | EnginePacket::Noop => return Ok(None),
        };
        match read {
            Ok(packet) => Ok(Some(packet.inner).filter(|_| packet.ns == self.nsp)),
            Err(ParseError::NeedsMoreBinaryData) => Ok(None),
            Err(error) => Err(Trouble::Protocol(error.to_string())),
        }
    }

    fn read_text(&self, text: String) -> Result<Packet, ParseError> {
        CommonParser.decode_str(&self.config, &self.state, text.into())
    }
}

/// The id of the socket, in the answer to CONNECT.
pub(super) fn sid(data: Option<CoreValue>) -> Result<String, Trouble> {
    #[derive(Deserialize)]
    struct Answer {
        sid: String,
    }
    match json::<Answer>(data) {
        Some(Answer { sid }) => Ok(sid),
        // A server of Socket.IO 2 connects every client at once.
        None => Err(Trouble::Protocol("the server names no socket id, as Socket.IO before 3 does".into())),
    }
}

/// The name and the arguments of an event.
pub(super) fn event(data: CoreValue) -> Result<(String, Vec<Value>), Trouble> {
    EventArgs::from_values(values(data)?).into_parts().map_err(malformed)
}

/// The arguments of an acknowledgement.
pub(super) fn values(data: CoreValue) -> Result<Vec<Value>, Trouble> {
    decode(data).map_err(malformed)
}

/// The reason why a namespace refuses a socket: the message of the error, and its data if there is any.
fn reason(packet: PacketData) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
        data: Option<serde_json::Value>,
    }
    let PacketData::Connect(data) = packet else { return "no reason".into() };
    match json::<Refusal>(data) {
        Some(Refusal { message, data: None }) => message,
        Some(Refusal { message, data: Some(data) }) => format!("{message} ({data})"),
        None => "no reason".into(),
    }
}

fn json<T: for<'de> Deserialize<'de>>(data: Option<CoreValue>) -> Option<T> {
    match data? {
        CoreValue::Str(text, _) => serde_json::from_str(&text).ok(),
        CoreValue::Bytes(_) => None,
    }
}

fn encode(packet: Packet) -> Outgoing {
    match CommonParser.encode(packet) {
        CoreValue::Str(text, binaries) => {
            Outgoing { text: text.as_str().to_owned(), binaries: binaries.into_iter().flatten().collect() }
        }
        // This parser writes text only.
        CoreValue::Bytes(bytes) => Outgoing { text: String::new(), binaries: vec![bytes] },
    }
}

fn unsendable(error: impl std::fmt::Display) -> Trouble {
    Trouble::Unsendable(error.to_string())
}

fn malformed(error: crate::Error) -> Trouble {
    Trouble::Protocol(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(nsp: &str, text: &str) -> Result<Option<PacketData>, Trouble> {
        Packets::new(&Namespace::new(nsp)).read(EnginePacket::Text(text.into()))
    }

    #[test]
    fn a_refusal_gives_its_reason() {
        let refused = |text: &str| match read("/admin", text) {
            Ok(Some(PacketData::ConnectError(reason))) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(r#"4/admin,{"message":"wrong token"}"#), "wrong token");
        assert_eq!(refused(r#"4/admin,{"message":"no","data":{"code":7}}"#), r#"no ({"code":7})"#);
        assert_eq!(refused("4/admin,"), "no reason");
    }

    #[test]
    fn other_namespaces_are_not_ours_and_nonsense_is_an_error() {
        assert_eq!(read("/", "2/admin,[\"e\"]"), Ok(None));
        for bad in ["", "9", "5[", "3[]"] {
            assert!(matches!(read("/", bad), Err(Trouble::Protocol(_))), "{bad}");
        }
        assert!(event(CoreValue::Str("[1]".into(), None)).is_err());
        assert!(values(CoreValue::Str("{}".into(), None)).is_err());
    }

    #[test]
    fn binary_comes_after_its_event() {
        let mut packets = Packets::new(&Namespace::default());
        let sent = packets.event("e", &[Value::Binary(vec![1, 2].into())], Some(3)).unwrap();
        assert_eq!(sent.text, r#"51-3["e",{"_placeholder":true,"num":0}]"#);
        assert_eq!(packets.read(EnginePacket::Text(sent.text)), Ok(None));
        let packet = packets.read(EnginePacket::Binary(sent.binaries[0].clone())).unwrap();
        let Some(PacketData::BinaryEvent(data, Some(3))) = packet else { panic!("{packet:?}") };
        assert_eq!(event(data).unwrap(), ("e".into(), vec![Value::Binary(vec![1, 2].into())]));
    }
}
