//! Acknowledges the events of clients. An acknowledgement counts for its client's buffer like an event.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use serde::Serialize;
use socketioxide::SendError;
use socketioxide::adapter::Adapter;
use socketioxide::extract::AckSender as Sender;
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide_core::Value as CoreValue;

use super::client_buffers::ClientBuffer;
use super::client_usage::NamespaceSlot;
use super::disconnect::{Disconnector, Reason};
use super::options::Parser;
use super::{ClusterAdapter, ClusterSocket};

/// The account of a client, with its socket.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) buffer: Arc<ClientBuffer>,
    pub(super) parser: Parser,
    pub(super) disconnector: Disconnector,
    /// The client's slot in the namespace. The client holds it as long as the socket exists.
    pub(super) _slot: Arc<NamespaceSlot>,
}

impl Account {
    /// The account of a socket, once its client is admitted.
    pub(super) fn of(socket: &ClusterSocket) -> Option<Self> {
        socket.extensions.get()
    }
}

/// Acknowledges one event.
pub(super) struct AckSender<A: Adapter> {
    sender: Sender<A>,
    /// `None` if the client does not request an acknowledgement.
    waiting: Option<Waiting>,
}

struct Waiting {
    socket: ClusterSocket,
    account: Account,
}

impl FromMessageParts<ClusterAdapter> for AckSender<ClusterAdapter> {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket<ClusterAdapter>>,
        value: &mut CoreValue,
        id: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let account = id.and_then(|_| socket.extensions.get::<Account>());
        let waiting = account.map(|account| Waiting { socket: socket.clone().into(), account });
        Ok(Self { sender: Sender::from_message_parts(socket, value, id)?, waiting })
    }
}

impl AckSender<ClusterAdapter> {
    /// Sends an acknowledgement, if the client requested one. Disconnects a client whose buffer is full (backpressure).
    pub(super) fn send<T: Serialize + ?Sized>(self, answer: &T) -> Result<(), SendError> {
        let Some(Waiting { socket, account }) = self.waiting else { return self.sender.send(answer) };
        if account.buffer.queue(socket.ns(), size(account.parser, answer)) {
            account.disconnector.disconnect_socket(&socket, Reason::TooSlow);
            return Ok(());
        }
        let outcome = self.sender.send(answer);
        if outcome.is_err() {
            account.buffer.lose_count();
        }
        if let Err(SendError::Socket(socketioxide::SocketError::InternalChannelFull)) = &outcome {
            account.disconnector.disconnect_socket(&socket, Reason::TooSlow);
        }
        outcome
    }
}

/// The size of an acknowledgement's content.
fn size<T: Serialize + ?Sized>(parser: Parser, answer: &T) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let is_whole = match parser {
        Parser::Default => serde_json::to_writer(&mut count, answer).is_ok(),
        Parser::Msgpack => rmp_serde::encode::write_named(&mut count, answer).is_ok(),
    };
    // A serialization error also fails the send, which reports it.
    if is_whole { count.0 } else { 0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_size_of_an_acknowledgement_is_that_of_its_encoding() {
        let answer = json!([{ "rooms": ["a", "\"b\""] }]);
        assert_eq!(size(Parser::Default, &answer), answer.to_string().len());
        assert_eq!(size(Parser::Msgpack, &answer), rmp_serde::to_vec_named(&answer).unwrap().len());
    }
}
