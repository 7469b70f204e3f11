//! Engine.IO over one WebSocket.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, header};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::engine::{EngineTransport, Outgoing, Packet, Session};
use super::http::refusal;
use super::stream::{self, Stream};
use super::{MAX_MESSAGE_BYTES, Target, Trouble};
use crate::error::without_os_code;

/// A WebSocket on which the server has opened a session.
pub(super) struct WebSocket {
    socket: WebSocketStream<Box<dyn Stream>>,
    session: Session,
}

impl WebSocket {
    pub(super) async fn open(target: &Target) -> Result<Self, Trouble> {
        let request = request(target)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let stream = stream::connect(target, stream::Certificates::Checked).await?;
        let (mut socket, _) =
            client_async_with_config(request, stream, Some(config)).await.map_err(trouble)?;
        let session = match next(&mut socket).await? {
            Message::Text(text) => Session::read(&text)?,
            _ => return Err(Trouble::Protocol("the first packet is binary".into())),
        };
        Ok(Self { socket, session })
    }

    async fn write(&mut self, message: Message) -> Result<(), Trouble> {
        self.socket.send(message).await.map_err(trouble)
    }
}

impl EngineTransport for WebSocket {
    fn session(&self) -> &Session {
        &self.session
    }

    async fn receive(&mut self) -> Result<Packet, Trouble> {
        match next(&mut self.socket).await? {
            Message::Text(text) => Packet::read(&text),
            Message::Binary(bytes) => Ok(Packet::Binary(bytes)),
            _ => Ok(Packet::Noop),
        }
    }

    async fn send(&mut self, Outgoing { text, binaries }: Outgoing) -> Result<(), Trouble> {
        self.socket.feed(Message::Text(format!("4{text}").into())).await.map_err(trouble)?;
        for bytes in binaries {
            self.socket.feed(Message::Binary(bytes)).await.map_err(trouble)?;
        }
        self.socket.flush().await.map_err(trouble)
    }

    async fn pong(&mut self) -> Result<(), Trouble> {
        self.write(Message::Text("3".into())).await
    }

    async fn close(mut self) {
        if self.socket.close(None).await.is_ok() {
            // The server's answer ends the stream.
            while let Some(Ok(_)) = self.socket.next().await {}
        }
    }
}

/// Waits for the next message with content.
async fn next(socket: &mut WebSocketStream<Box<dyn Stream>>) -> Result<Message, Trouble> {
    loop {
        match socket.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => return Ok(message),
            // The WebSocket library answers pings of the WebSocket itself.
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(trouble(error)),
            None => return Err(Trouble::Transient("the server closed the connection".into())),
        }
    }
}

fn request(target: &Target) -> Result<Request<()>, Trouble> {
    let uri = format!("ws://{}{}", target.authority(), target.request("websocket", None));
    let mut request = Request::get(uri)
        .header(header::HOST, target.authority())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::USER_AGENT, super::http::USER_AGENT);
    if let Some(authorization) = target.authorization() {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    request.body(()).map_err(|error| Trouble::Unsendable(error.to_string()))
}

fn trouble(error: Error) -> Trouble {
    match error {
        Error::Http(response) => {
            refusal(response.status(), &Bytes::from(response.into_body().unwrap_or_default()))
        }
        Error::ConnectionClosed | Error::AlreadyClosed => {
            Trouble::Transient("the server closed the connection".into())
        }
        Error::Protocol(error) => Trouble::Transient(without_os_code(&error)),
        Error::Capacity(error) => Trouble::Protocol(error.to_string()),
        other => Trouble::Transient(without_os_code(&other)),
    }
}
