//! A Socket.IO client: one connection to one namespace of a server.
//!
//! Input: a [`Target`], a namespace, the `auth` object, and events. Output: the events and acknowledgements of the
//! server, in order. A task owns the transport ([`driver`]), and ends with the [`Socket`]. The queues between the two
//! are bounded: one incoming message of at most [`MAX_MESSAGE_BYTES`], and [`driver::OUTGOING`] outgoing messages.

mod driver;
mod engine;
mod http;
mod packets;
mod polling;
mod stream;
mod target;
mod trouble;
mod websocket;

use std::time::Duration;

use clap::ValueEnum;
use socketioxide_core::packet::PacketData;
use tokio::time::timeout;

use crate::{Namespace, Value};
use driver::Driver;
use packets::Packets;
pub(super) use stream::{Certificates, Stream, connect};
pub(super) use target::Target;
pub(super) use trouble::Trouble;

/// The maximum memory of a message of a server, in bytes.
const MAX_MESSAGE_BYTES: usize = 64_000_000;

/// The deadline for closing a connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// The transport between the client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Transport {
    /// WebSocket, without a start by polling
    #[default]
    Websocket,
    /// HTTP long-polling, without an upgrade to WebSocket
    Polling,
}

/// An event or acknowledgement of the server.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// An event. If it has an id, the server waits for an acknowledgement.
    Event { name: String, args: Vec<Value>, ack: Option<i64> },
    /// The acknowledgement of the event that was sent with this id.
    Ack { id: i64, args: Vec<Value> },
}

/// A socket that is connected to its namespace.
pub(super) struct Socket {
    driver: Driver,
    packets: Packets,
    id: String,
}

impl Socket {
    /// Connects: transport, Engine.IO, then the namespace. The caller sets a deadline.
    pub(super) async fn connect(
        target: &Target,
        transport: Transport,
        nsp: &Namespace,
        auth: Option<&Value>,
    ) -> Result<Self, Trouble> {
        let mut driver = match transport {
            Transport::Websocket => Driver::start(websocket::WebSocket::open(target).await?),
            Transport::Polling => Driver::start(polling::Polling::open(target).await?),
        };
        let mut packets = Packets::new(nsp);
        driver.send(packets.connect(auth)?).await?;
        loop {
            let Some(packet) = packets.read(driver.next().await?)? else { continue };
            match packet {
                PacketData::Connect(data) => {
                    let id = packets::sid(data)?;
                    return Ok(Self { driver, packets, id });
                }
                PacketData::ConnectError(reason) => return Err(Trouble::Refused(reason)),
                // A server must not send any other packet before.
                _ => return Err(Trouble::Protocol("a packet came before the answer to CONNECT".into())),
            }
        }
    }

    /// The socket's id, which is also the name of its room.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the next event or acknowledgement. It is cancel safe: nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Incoming, Trouble> {
        loop {
            let Some(packet) = self.packets.read(self.driver.next().await?)? else { continue };
            match packet {
                PacketData::Event(data, ack) | PacketData::BinaryEvent(data, ack) => {
                    let (name, args) = packets::event(data)?;
                    return Ok(Incoming::Event { name, args, ack });
                }
                PacketData::EventAck(data, id) | PacketData::BinaryAck(data, id) => {
                    return Ok(Incoming::Ack { id, args: packets::values(data)? });
                }
                PacketData::Disconnect => return Err(Trouble::Disconnected),
                PacketData::Connect(_) | PacketData::ConnectError(_) => {}
            }
        }
    }

    /// Sends an event, and returns once it is sent. An id requests an acknowledgement.
    pub(super) async fn emit(
        &mut self,
        event: &str,
        args: &[Value],
        ack: Option<i64>,
    ) -> Result<(), Trouble> {
        let packets = self.packets.event(event, args, ack)?;
        self.driver.send(packets).await
    }

    /// Acknowledges an event that has an id.
    pub(super) async fn acknowledge(&mut self, id: i64, args: &[Value]) -> Result<(), Trouble> {
        let packets = self.packets.ack(args, id)?;
        self.driver.send(packets).await
    }

    /// Disconnects. If the server does not answer in time, closes the connection anyway.
    pub(super) async fn close(mut self) {
        let leave = async {
            // A connection that has ended needs no disconnect packet.
            if self.driver.send(self.packets.disconnect()).await.is_ok() {
                self.driver.finish().await;
            }
        };
        timeout(FAREWELL, leave).await.ok();
    }
}
