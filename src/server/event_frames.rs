//! The websocket frames of packets (RFC 6455), as tungstenite writes them for engineioxide.

use bytes::{BufMut, Bytes, BytesMut};
use socketioxide_core::Value as CoreValue;

/// The maximum size of a frame's head without a mask.
const MAX_HEAD: usize = 10;

/// The type of a message in Engine.IO. It precedes texts, and not binary messages.
const MESSAGE: &[u8] = b"4";

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// The frames of packets that are encoded for clients: of each one its text and its attachments, or the packet in msgpack.
pub(super) fn frames(packets: &[CoreValue]) -> Bytes {
    let mut frames = BytesMut::with_capacity(packets.iter().map(max_bytes).sum());
    for packet in packets {
        match packet {
            CoreValue::Str(text, binaries) => {
                put_frame(&mut frames, TEXT, [MESSAGE, text.as_bytes()]);
                binaries.iter().flatten().for_each(|bytes| put_frame(&mut frames, BINARY, [bytes]));
            }
            CoreValue::Bytes(bytes) => put_frame(&mut frames, BINARY, [bytes]),
        }
    }
    frames.freeze()
}

/// The maximum size of a packet's frames.
fn max_bytes(packet: &CoreValue) -> usize {
    match packet {
        CoreValue::Str(text, binaries) => {
            let binaries: usize = binaries.iter().flatten().map(|bytes| MAX_HEAD + bytes.len()).sum();
            MAX_HEAD + MESSAGE.len() + text.len() + binaries
        }
        CoreValue::Bytes(bytes) => MAX_HEAD + bytes.len(),
    }
}

/// Adds a frame that is a whole message. Frames of a server have no mask.
fn put_frame<const N: usize>(frames: &mut BytesMut, opcode: u8, content: [&[u8]; N]) {
    const LAST: u8 = 0x80;
    frames.put_u8(LAST | opcode);
    let length: usize = content.iter().map(|part| part.len()).sum();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => frames.put_u8(length),
        (_, Ok(length)) => {
            frames.put_u8(126);
            frames.put_u16(length);
        }
        _ => {
            frames.put_u8(127);
            frames.put_u64(length as u64);
        }
    }
    content.iter().for_each(|part| frames.put_slice(part));
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::{Bytes as Binary, Message};

    use super::*;

    /// The frames that tungstenite writes for these messages.
    async fn of_tungstenite(messages: Vec<Message>) -> Vec<u8> {
        let (server, mut client) = duplex(1 << 20);
        let mut websocket = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        for message in messages {
            websocket.feed(message).await.unwrap();
        }
        websocket.flush().await.unwrap();
        drop(websocket);
        let mut frames = Vec::new();
        client.read_to_end(&mut frames).await.unwrap();
        frames
    }

    #[tokio::test]
    async fn the_frames_are_those_of_tungstenite() {
        for length in [0, 1, 123, 124, 125, 126, 65_533, 65_534, 65_535, 65_536, 70_000] {
            let text = format!("2{}", "x".repeat(length));
            let bytes = Bytes::from(vec![7; length]);
            let texts = vec![Message::text(format!("4{text}"))];
            assert_eq!(frames(&[CoreValue::Str(text.into(), None)]), of_tungstenite(texts).await, "{length}");
            let binary = vec![Message::Binary(Binary::from(bytes.to_vec()))];
            assert_eq!(frames(&[CoreValue::Bytes(bytes)]), of_tungstenite(binary).await, "{length}");
        }
        let attachments = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![1; 300])];
        let messages = [Message::text("453-[\"e\"]")].into_iter();
        let messages = messages.chain(attachments.iter().map(|bytes| Message::Binary(bytes.to_vec().into())));
        let packet = CoreValue::Str("53-[\"e\"]".into(), Some(VecDeque::from(attachments.clone())));
        let next = CoreValue::Str("2[]".into(), None);
        let messages = messages.chain([Message::text("42[]")]);
        assert_eq!(frames(&[packet, next]), of_tungstenite(messages.collect()).await);
    }

    #[tokio::test]
    async fn a_client_reads_them() {
        let packet =
            CoreValue::Str("51-[\"é\"]".into(), Some(VecDeque::from([Bytes::from_static(&[0, 255])])));
        let (mut server, client) = duplex(1 << 10);
        let mut websocket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        tokio::io::AsyncWriteExt::write_all(&mut server, &frames(&[packet])).await.unwrap();
        assert_eq!(websocket.next().await.unwrap().unwrap(), Message::text("451-[\"é\"]"));
        assert_eq!(websocket.next().await.unwrap().unwrap(), Message::binary(vec![0, 255]));
    }
}
