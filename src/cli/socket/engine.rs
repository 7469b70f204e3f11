//! Engine.IO, version 4: the packets below Socket.IO, and the session that a server opens.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::Trouble;
use crate::safe_text;

/// The separator of packets in the body of an HTTP request.
pub(super) const SEPARATOR: char = '\x1e';

/// A packet after the handshake.
#[derive(Debug, PartialEq)]
pub(super) enum Packet {
    Text(String),
    Binary(Bytes),
    Ping,
    Close,
    /// A pong or a noop, which needs no action.
    Noop,
}

impl Packet {
    /// Parses the text of a packet.
    pub(super) fn read(text: &str) -> Result<Self, Trouble> {
        match text.split_at_checked(1) {
            Some(("1", _)) => Ok(Self::Close),
            Some(("2", _)) => Ok(Self::Ping),
            Some(("3" | "6", _)) => Ok(Self::Noop),
            Some(("4", message)) => Ok(Self::Text(message.to_owned())),
            _ => Err(Trouble::Protocol(format!("packet {:?}", safe_text::quoted(text)))),
        }
    }
}

/// A message of the client: the text of a packet, and its binary attachments.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) text: String,
    pub(super) binaries: Vec<Bytes>,
}

/// The session that a server opens.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    pub(super) sid: String,
    ping_interval: u64,
    ping_timeout: u64,
    max_payload: Option<usize>,
}

impl Session {
    /// Parses the first packet of a server.
    pub(super) fn read(packet: &str) -> Result<Self, Trouble> {
        let json = packet.strip_prefix('0').ok_or_else(|| "no open packet".to_owned());
        let session = json.and_then(|json| serde_json::from_str(json).map_err(|error| error.to_string()));
        session.map_err(|reason| Trouble::Protocol(format!("{reason} in {:?}", safe_text::quoted(packet))))
    }

    /// The longest silence of a live server.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.ping_interval.saturating_add(self.ping_timeout))
    }

    /// Whether the server accepts this number of bytes at once.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        self.max_payload.is_none_or(|limit| limit == 0 || bytes <= limit)
    }

    /// Refuses a packet for which the server would close the connection.
    pub(super) fn check(&self, packet: &Outgoing) -> Result<(), Trouble> {
        let size = packet.binaries.iter().map(Bytes::len).max().unwrap_or(0).max(packet.text.len() + 1);
        match self.max_payload {
            Some(limit) if !self.takes(size) => Err(Trouble::Unsendable(format!(
                "the event has {size} bytes, and the server takes at most {limit}"
            ))),
            _ => Ok(()),
        }
    }
}

/// A transport with an open session.
pub(super) trait EngineTransport: Send + 'static {
    fn session(&self) -> &Session;

    /// Receives the next packet. It is cancel safe: no packet is lost when the future is dropped.
    fn receive(&mut self) -> impl Future<Output = Result<Packet, Trouble>> + Send;

    /// Sends a message and its bytes, with nothing between them.
    fn send(&mut self, message: Outgoing) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Answers a ping.
    fn pong(&mut self) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Ends the session.
    fn close(self) -> impl Future<Output = ()> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_sessions() {
        assert_eq!(Packet::read("42[\"a\"]").unwrap(), Packet::Text("2[\"a\"]".into()));
        assert_eq!((Packet::read("2").unwrap(), Packet::read("1").unwrap()), (Packet::Ping, Packet::Close));
        for bad in ["", "9", "é"] {
            assert!(Packet::read(bad).is_err(), "{bad}");
        }
        let session =
            r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":10}"#;
        let session = Session::read(session).unwrap();
        assert_eq!((session.sid.as_str(), session.patience()), ("s", Duration::from_secs(45)));
        let packet = |bytes| Outgoing { text: "x".into(), binaries: vec![Bytes::from(vec![0; bytes])] };
        assert!(session.check(&packet(10)).is_ok() && session.check(&packet(11)).is_err());
        for bad in ["", "0", "0{}", "40"] {
            assert!(matches!(Session::read(bad), Err(Trouble::Protocol(_))), "{bad}");
        }
    }
}
