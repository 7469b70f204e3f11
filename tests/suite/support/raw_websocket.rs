//! A websocket without a client library: it sends and reads only on request of the test.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::small_buffers;

const PATIENCE: Duration = Duration::from_secs(30);

const KEY: &str = "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

/// A websocket of Socket.IO, without the library.
pub struct RawWebsocket(TcpStream);

impl RawWebsocket {
    /// Opens a websocket. Reads only the response of the handshake.
    pub async fn open(address: &str) -> RawWebsocket {
        Self::try_open(address).await.expect("the server opens a websocket")
    }

    /// Opens a websocket, if the server does not refuse.
    pub async fn try_open(address: &str) -> Option<RawWebsocket> {
        Self::try_open_with(address, &format!("host: {address}\r\n")).await
    }

    /// Opens a websocket with these headers, if the server does not refuse.
    pub async fn try_open_with(address: &str, headers: &str) -> Option<RawWebsocket> {
        Self::try_request(address, "", headers).await
    }

    /// Upgrades the session with this id, if the server does not refuse.
    pub async fn try_upgrade(address: &str, sid: &str) -> Option<RawWebsocket> {
        Self::try_request(address, &format!("&sid={sid}"), "host: pgio\r\n").await
    }

    /// Opens a websocket on a connection that was refused an upgrade of the session with this id before, as a proxy that
    /// reuses its connections may do.
    pub async fn open_after_refusal(address: &str, sid: &str) -> RawWebsocket {
        let mut socket = RawWebsocket(TcpStream::connect(address).await.unwrap());
        let refused = format!("&sid={sid}");
        assert!(!socket.request(&refused, "host: pgio\r\n", &[]).await.unwrap());
        let key = format!("host: {address}\r\n{KEY}");
        assert!(socket.request("", &key, &[]).await.unwrap(), "the connection goes on");
        socket
    }

    async fn try_request(address: &str, query: &str, headers: &str) -> Option<RawWebsocket> {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::try_request_on(stream, query, headers).await
    }

    async fn try_request_on(stream: TcpStream, query: &str, headers: &str) -> Option<RawWebsocket> {
        let mut socket = RawWebsocket(stream);
        socket.request(query, &format!("{headers}{KEY}"), &[]).await?.then_some(socket)
    }

    /// Opens a websocket, and sends a text with the request, before the response.
    pub async fn open_with_text(address: &str, text: &str) -> RawWebsocket {
        let mut socket = RawWebsocket(TcpStream::connect(address).await.unwrap());
        let (headers, text) = (format!("host: {address}\r\n{KEY}"), frame(1, text.as_bytes()));
        assert!(socket.request("", &headers, &text).await.unwrap());
        socket
    }

    /// Requests a websocket, and sends bytes with the request. Returns whether it is open, or `None` if the server closes the connection.
    async fn request(&mut self, query: &str, headers: &str, early: &[u8]) -> Option<bool> {
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\n{headers}connection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n"
        );
        self.0.write_all(&[request.as_bytes(), early].concat()).await.ok()?;
        let status = self.status_line().await;
        let head = self.read_through_head().await?;
        let length = head.to_lowercase().split("content-length: ").nth(1).map(str::to_owned);
        let length = length.and_then(|rest| rest.split('\r').next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).await.ok()?;
        Some(status.starts_with("HTTP/1.1 101 "))
    }

    async fn read_through_head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(timeout(PATIENCE, self.0.read_u8()).await.expect("it answers").ok()?.into());
        }
        Some(head)
    }

    /// Opens a websocket and connects to the main namespace.
    pub async fn connect(address: &str) -> RawWebsocket {
        RawWebsocket::open(address).await.connected().await
    }

    /// The same, on a connection with small buffers.
    pub async fn connect_with_small_buffers(address: &str) -> RawWebsocket {
        let stream = small_buffers::connect(address).await;
        let opened = Self::try_request_on(stream, "", &format!("host: {address}\r\n")).await;
        opened.expect("the server opens a websocket").connected().await
    }

    async fn connected(mut self) -> RawWebsocket {
        self.send("40").await;
        while !self.read_text().await.starts_with("40{\"sid\"") {}
        self
    }

    async fn status_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r") {
            match timeout(PATIENCE, self.0.read_u8()).await.expect("it answers") {
                Ok(byte) => line.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(line).unwrap()
    }

    /// Sends a text, if the server reads it within the timeout.
    pub async fn try_send(&mut self, text: &str) -> bool {
        timeout(Duration::from_secs(2), self.send(text)).await.is_ok()
    }

    /// Sends bytes, if the server reads them within the timeout.
    pub async fn try_send_binary(&mut self, bytes: &[u8]) -> bool {
        timeout(Duration::from_secs(2), self.send_frame(2, bytes)).await.is_ok()
    }

    /// Sends the first `bytes` bytes of an announced text, if the server reads them within the timeout.
    pub async fn try_send_part(&mut self, announced: u64, bytes: usize) -> bool {
        let mut frame = vec![0x81, 0x80 | 127];
        frame.extend(announced.to_be_bytes());
        // A mask of zeros.
        frame.extend([0; 4]);
        frame.extend(vec![b'x'; bytes]);
        timeout(Duration::from_secs(2), self.0.write_all(&frame)).await.is_ok_and(|written| written.is_ok())
    }

    /// Reads the next text that is not a ping.
    pub async fn read_text(&mut self) -> String {
        self.try_read_text().await.expect("the connection holds")
    }

    /// The same. `None` if the server closes the connection before.
    pub async fn try_read_text(&mut self) -> Option<String> {
        loop {
            let text = self.read_frame().await?;
            if text != "2" {
                return Some(text);
            }
        }
    }

    async fn read_frame(&mut self) -> Option<String> {
        let read = async {
            match self.0.read_u8().await? {
                0x81 => {}
                0x88 => return Ok(None),
                other => panic!("a whole text starts with 0x81, not with {other:#x}"),
            }
            let length = match self.0.read_u8().await? {
                126 => self.0.read_u16().await?.into(),
                127 => self.0.read_u64().await?,
                length => length.into(),
            };
            let mut text = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut text).await?;
            Ok::<_, std::io::Error>(Some(String::from_utf8(text).unwrap()))
        };
        timeout(PATIENCE, read).await.expect("it answers").ok().flatten()
    }

    /// Sends a text.
    pub async fn send(&mut self, text: &str) {
        self.send_frame(1, text.as_bytes()).await;
    }

    /// Sends bytes.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(2, bytes).await;
    }

    async fn send_frame(&mut self, opcode: u8, content: &[u8]) {
        // The server may close the connection during the write.
        self.0.write_all(&frame(opcode, content)).await.ok();
    }

    /// Reads until a text comes. Returns false if the server closes the connection before.
    pub async fn hears(&mut self, text: &str) -> bool {
        let mut read = Vec::new();
        while !read.ends_with(text.as_bytes()) {
            match timeout(PATIENCE, self.0.read_u8()).await.expect("it answers") {
                Ok(byte) => read.push(byte),
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads up to a byte. Returns all bytes, including that one. `None` if the server closes the connection before.
    pub async fn read_through(&mut self, end: u8) -> Option<Vec<u8>> {
        let mut read = Vec::new();
        while read.last() != Some(&end) {
            read.push(timeout(PATIENCE, self.0.read_u8()).await.expect("it answers").ok()?);
        }
        Some(read)
    }

    /// Reads until the server closes the connection. Returns the number of bytes.
    pub async fn read_to_end(&mut self) -> usize {
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        loop {
            match timeout(PATIENCE, self.0.read(&mut buffer)).await.expect("the server hangs up in time") {
                Ok(0) | Err(_) => return total,
                Ok(count) => total += count,
            }
        }
    }
}

fn frame(opcode: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(length) {
        Ok(length) if length < 126 => frame.push(0x80 | length as u8),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    // A mask of zeros.
    frame.extend([0; 4]);
    frame.extend(content);
    frame
}
