//! The connection of a websocket, after hyper has answered its request.
//!
//! hyper puts it into boxes. Each of them is a cache miss for every event that a client gets, so they are taken off.

use std::io;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::either::Either;

use super::client_stream::ClientStream;
use super::tls::TlsStream;

/// With or without TLS.
pub(super) type ClientConnection = Either<ClientStream<TcpStream>, ClientStream<TlsStream>>;

/// The connection, with the bytes that the client has sent after its request.
pub(super) fn of_upgraded(upgraded: Upgraded) -> io::Result<ClientConnection> {
    match upgraded.downcast::<TokioIo<ClientStream<TcpStream>>>() {
        Ok(parts) => Ok(Either::Left(parts.io.into_inner().unread(&parts.read_buf))),
        Err(upgraded) => match upgraded.downcast::<TokioIo<ClientStream<TlsStream>>>() {
            Ok(parts) => Ok(Either::Right(parts.io.into_inner().unread(&parts.read_buf))),
            Err(_) => Err(io::Error::other("a connection of an unknown type")),
        },
    }
}
