//! Peeks at the first bytes of a new connection to see what it requests. The bytes stay in the kernel, so a waiting
//! connection takes no memory for its request.

use tokio::io;
use tokio::net::TcpStream;

use super::sessions;

/// The number of bytes that are peeked at.
const BYTES: usize = 512;

/// The paths of the pages for operators.
pub(super) const INSPECTION_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The first request of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstRequest {
    /// A page for operators.
    Inspection,
    /// A request of the session with this secret id.
    Session(crate::adapter::Sid),
    /// Any other request, or an incomplete one.
    Other,
}

/// Waits for the first bytes, and peeks at them. `None` if the client closes the connection.
pub(super) async fn peek(stream: &TcpStream) -> io::Result<Option<FirstRequest>> {
    let mut bytes = [0; BYTES];
    let count = stream.peek(&mut bytes).await?;
    Ok((count > 0).then(|| first_request(bytes.get(..count).unwrap_or_default())))
}

fn first_request(bytes: &[u8]) -> FirstRequest {
    let line = bytes.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next());
    // Without a third word the target may be incomplete.
    let Some(target) = target.filter(|_| words.next().is_some()) else { return FirstRequest::Other };
    let path = target.split('?').next().unwrap_or_default();
    if matches!(method, Some("GET" | "HEAD")) && INSPECTION_PATHS.contains(&path) {
        return FirstRequest::Inspection;
    }
    let sid = target.parse().ok().and_then(|uri| sessions::id_in(&uri)?.parse().ok());
    sid.map_or(FirstRequest::Other, FirstRequest::Session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_of_a_connection_is_classified() {
        let of = |text: &str| first_request(text.as_bytes());
        for text in
            ["GET /healthz HTTP/1.1\r\nhost: a\r\n", "HEAD /readyz?x=1 HTTP/1.0", "GET /metrics HTTP/1.1\r\n"]
        {
            assert_eq!(of(text), FirstRequest::Inspection, "{text}");
        }
        for text in [
            "",
            "GET /health",
            "GET /healthz",
            "POST /healthz HTTP/1.1",
            "GET /healthz/x HTTP/1.1",
            "\u{16}\u{3}",
        ] {
            assert_eq!(of(text), FirstRequest::Other, "{text}");
        }
        let sid = crate::adapter::Sid::new();
        let post = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\n");
        assert_eq!(of(&post), FirstRequest::Session(sid));
        assert_eq!(of("GET /socket.io/?EIO=4&transport=polling&sid=short HTTP/1.1\r\n"), FirstRequest::Other);
    }
}
