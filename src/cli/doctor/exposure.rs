//! Checks the exposure of a Socket.IO server from outside: tokens, origin check, metrics. The checks send no secret.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::Finding;

/// The timeout of one check.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of bytes that a check reads of an answer.
const ANSWER_BYTES: usize = 64 << 10;

/// An origin that no server allows explicitly.
const FOREIGN_ORIGIN: &str = "https://elsewhere.invalid";

/// The address of a Socket.IO endpoint.
#[derive(Debug, Clone)]
pub(super) struct Url {
    is_secure: bool,
    host: String,
    port: u16,
    path: String,
}

/// Parses `http://host:port`, with the path of the Socket.IO endpoint if it is not `/socket.io`.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let wrong = || "not an address such as http://127.0.0.1:3000".to_owned();
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let is_secure = match scheme {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => return Err(wrong()),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && !['@', '?', '#'].contains(&c));
    let authority: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    if !is_plain(authority.as_str()) || !is_plain(path) {
        return Err(wrong());
    }
    let path = match path.trim_end_matches('/') {
        "" => "/socket.io/".into(),
        path => format!("/{path}/"),
    };
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    Ok(Url { is_secure, host, port, path })
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// The response of a server to a client without a token.
#[derive(Debug, PartialEq, Eq)]
enum Reception {
    /// The server connected the client.
    Admitted,
    /// The server opened the websocket, then refused the client or closed the connection.
    Refused,
    /// The server did not open the websocket. Holds the status line of the response.
    NotOpened(String),
}

/// Checks the access control of a server, with one finding for each check.
pub(super) async fn check(url: &Url) -> Vec<Finding> {
    let foreign = match url.connect_without_token(FOREIGN_ORIGIN).await {
        Ok(reception) => reception,
        Err(reason) => {
            let advice = "start the server, or correct the address";
            return vec![Finding::fail("exposure", format!("cannot reach {url}: {reason}"), advice)];
        }
    };
    let is_any_origin = !matches!(foreign, Reception::NotOpened(_));
    let reception = match is_any_origin {
        true => Ok(foreign),
        false => url.connect_without_token(&url.to_string()).await,
    };
    let needs_token = reception == Ok(Reception::Refused);
    let mut findings = Vec::new();
    findings.push(match reception {
        Ok(Reception::Admitted) => Finding::warn(
            "tokens",
            format!("{url} connects clients without a token"),
            "--jwt-key-file or --auth-token-file; in Node a middleware",
        ),
        Ok(Reception::Refused) => Finding::ok("tokens", format!("{url} refuses clients without a token")),
        Ok(Reception::NotOpened(line)) => {
            Finding::warn("tokens", format!("{url} opens no websocket: {line}"), "see the server's log")
        }
        Err(reason) => Finding::warn("tokens", format!("{url}: {reason}"), "see the server's log"),
    });
    findings.push(match is_any_origin {
        true if needs_token => {
            Finding::ok("origins", format!("{url} requires a token from pages of every origin"))
        }
        true => Finding::warn(
            "origins",
            format!("{url} accepts websockets of pages of every origin"),
            "--origin, or a proxy that checks the Origin header; or require a token",
        ),
        false => Finding::ok("origins", format!("{url} refuses websockets of pages of other origins")),
    });
    findings.push(match url.shows_metrics().await {
        Ok(false) => Finding::ok("metrics", format!("{url} does not serve /metrics")),
        Ok(true) => Finding::warn(
            "metrics",
            format!("{url} serves /metrics to every client"),
            "--admin-listen, or a proxy that forwards the Socket.IO path only",
        ),
        Err(reason) => Finding::warn("metrics", format!("{url}: {reason}"), "see the server's log"),
    });
    findings
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Url {
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| crate::error::without_os_code(&error))?;
        if !self.is_secure {
            return Ok(Box::new(stream));
        }
        // The checks send no secret, so they need no valid certificate.
        let connector = native_tls::TlsConnector::builder()
            .danger_accept_invalid_certs(true)
            .danger_accept_invalid_hostnames(true)
            .build()
            .map_err(|error| error.to_string())?;
        let connector = tokio_native_tls::TlsConnector::from(connector);
        Ok(Box::new(connector.connect(&self.host, stream).await.map_err(|error| error.to_string())?))
    }

    async fn shows_metrics(&self) -> Result<bool, String> {
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.authority());
        let ask = async {
            let mut stream = self.connect().await?;
            stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
            let mut answer = Vec::new();
            // If the connection breaks, the bytes that arrived before count.
            stream.take(ANSWER_BYTES as u64).read_to_end(&mut answer).await.ok();
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = timeout(TIMEOUT, ask).await.unwrap_or_else(|_| Err(no_answer()))?;
        Ok(answer.starts_with("HTTP/1.1 200") && answer.contains("\n# TYPE "))
    }

    /// Connects as a client without a token, with this `Origin` header.
    async fn connect_without_token(&self, origin: &str) -> Result<Reception, String> {
        let attempt = async {
            let mut stream = self.connect().await?;
            self.connect_on(&mut *stream, origin).await.map_err(|error| crate::error::without_os_code(&error))
        };
        timeout(TIMEOUT, attempt).await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn connect_on(&self, stream: &mut dyn Stream, origin: &str) -> std::io::Result<Reception> {
        let request = format!(
            "GET {}?EIO=4&transport=websocket HTTP/1.1\r\nhost: {}\r\norigin: {origin}\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: cGdpbyBkb2N0b3IgY2FtZQ==\r\n\r\n",
            self.path,
            self.authority(),
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < ANSWER_BYTES {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let line = head.lines().next().unwrap_or_default();
        if line.split(' ').nth(1) != Some("101") {
            return Ok(Reception::NotOpened(line.to_owned()));
        }
        // A websocket frame with a CONNECT packet for the main namespace. The mask is zero, so the payload is
        // unchanged.
        stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'4', b'0']).await?;
        loop {
            match frame(stream).await {
                Ok(text) if text.starts_with(b"40") => return Ok(Reception::Admitted),
                Ok(text) if text.starts_with(b"44") => return Ok(Reception::Refused),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(Reception::Refused);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn no_answer() -> String {
    format!("no answer within {TIMEOUT:?}")
}

/// Reads the payload of the next frame of a server.
async fn frame(stream: &mut dyn Stream) -> std::io::Result<Vec<u8>> {
    let (kind, length) = (stream.read_u8().await?, stream.read_u8().await? & 0x7f);
    let length = match length {
        126 => usize::from(stream.read_u16().await?),
        127 => usize::MAX,
        length => usize::from(length),
    };
    let is_end = kind & 0x0f == 8;
    if is_end || length > ANSWER_BYTES {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, url, path) in [
            ("http://localhost:3000", "http://localhost:3000", "/socket.io/"),
            ("localhost:3000", "http://localhost:3000", "/socket.io/"),
            ("https://example.com/", "https://example.com:443", "/socket.io/"),
            ("ws://[::1]:3000/chat", "http://[::1]:3000", "/chat/"),
        ] {
            let parsed = parse_url(text).unwrap();
            assert_eq!((parsed.to_string().as_str(), parsed.path.as_str()), (url, path));
        }
        for text in ["", "local host", "ftp://a", "http://", "http://a b", "http://a/b\r\nc", "http://u@a"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }
}
