//! Checks the exposure of a Socket.IO server from outside: tokens, origin check, metrics. The checks send no secret.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::finding::Finding;
use crate::cli::socket::{self, Certificates, Stream, Target};

/// The timeout of one check.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of bytes that a check reads of an answer.
const ANSWER_BYTES: usize = 64 << 10;

/// An origin that no server allows explicitly.
const FOREIGN_ORIGIN: &str = "https://elsewhere.invalid";

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
pub(super) async fn check(target: &Target) -> Vec<Finding> {
    let foreign = match connect_without_token(target, FOREIGN_ORIGIN).await {
        Ok(reception) => reception,
        Err(reason) => {
            let advice = "start the server, or correct the address";
            return vec![Finding::fail("exposure", format!("cannot reach {target}: {reason}"), advice)];
        }
    };
    let is_any_origin = !matches!(foreign, Reception::NotOpened(_));
    let reception = match is_any_origin {
        true => Ok(foreign),
        false => connect_without_token(target, &target.origin()).await,
    };
    let needs_token = reception == Ok(Reception::Refused);
    let mut findings = Vec::new();
    findings.push(match reception {
        Ok(Reception::Admitted) => Finding::warn(
            "tokens",
            format!("{target} connects clients without a token"),
            "--jwt-key-file or --auth-token-file; in Node a middleware",
        ),
        Ok(Reception::Refused) => Finding::ok("tokens", format!("{target} refuses clients without a token")),
        Ok(Reception::NotOpened(line)) => {
            Finding::warn("tokens", format!("{target} opens no websocket: {line}"), "see the server's log")
        }
        Err(reason) => Finding::warn("tokens", format!("{target}: {reason}"), "see the server's log"),
    });
    findings.push(match is_any_origin {
        true if needs_token => {
            Finding::ok("origins", format!("{target} requires a token from pages of every origin"))
        }
        true => Finding::warn(
            "origins",
            format!("{target} accepts websockets of pages of every origin"),
            "--origin, or a proxy that checks the Origin header; or require a token",
        ),
        false => Finding::ok("origins", format!("{target} refuses websockets of pages of other origins")),
    });
    findings.push(match shows_metrics(target).await {
        Ok(false) => Finding::ok("metrics", format!("{target} does not serve /metrics")),
        Ok(true) => Finding::warn(
            "metrics",
            format!("{target} serves /metrics to every client"),
            "--admin-listen, or a proxy that forwards the Socket.IO path only",
        ),
        Err(reason) => Finding::warn("metrics", format!("{target}: {reason}"), "see the server's log"),
    });
    findings
}

/// Connects. The checks send no secret, so they need no valid certificate.
async fn connect(target: &Target) -> Result<Box<dyn Stream>, String> {
    socket::connect(target, Certificates::Unchecked).await.map_err(|trouble| trouble.to_string())
}

async fn shows_metrics(target: &Target) -> Result<bool, String> {
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", target.authority());
    let ask = async {
        let mut stream = connect(target).await?;
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
async fn connect_without_token(target: &Target, origin: &str) -> Result<Reception, String> {
    let attempt = async {
        let mut stream = connect(target).await?;
        connect_on(target, &mut *stream, origin).await.map_err(|error| crate::error::without_os_code(&error))
    };
    timeout(TIMEOUT, attempt).await.unwrap_or_else(|_| Err(no_answer()))
}

async fn connect_on(target: &Target, stream: &mut dyn Stream, origin: &str) -> std::io::Result<Reception> {
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\norigin: {origin}\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: cGdpbyBkb2N0b3IgY2FtZQ==\r\n\r\n",
        target.request("websocket", None),
        target.authority(),
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
