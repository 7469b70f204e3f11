//! The response to a poll. It takes every packet that waits for the client, as in Node, and the packets count for the client's
//! buffer until they are written to its connection.
//!
//! engineioxide keeps a packet that exceeds its limit for a response, and loses it if the client upgrades next
//! (docs/upstream.md). So the server polls again until nothing is left.

use std::future::Future;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::response::Parts;
use http::{HeaderValue, StatusCode, header};

use super::client_buffers::ClientBuffers;
use super::sent_packets::SEPARATOR;
use crate::adapter::Sid;

/// The response while the session upgrades (Engine.IO protocol 4).
const NOOP: &[u8] = b"6";

/// Polls with `call` until no more packets wait, or until they have `limit` bytes.
pub(super) async fn poll_all<F>(call: impl Fn() -> F, limit: usize) -> Result<(Parts, Bytes), StatusCode>
where
    F: Future<Output = Response>,
{
    let (mut head, data) = whole(call().await).await?;
    if !has_packets(&head, &data) {
        return Ok((head, data));
    }
    let mut all = BytesMut::from(data);
    while all.len() < limit {
        // A poll without a packet waits; dropping it loses nothing.
        let Some((rest, more)) = call().then(whole).now_or_never().transpose()? else { break };
        if !has_packets(&rest, &more) {
            break;
        }
        all.extend_from_slice(&[SEPARATOR]);
        all.extend_from_slice(&more);
    }
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(all.len()));
    Ok((head, all.freeze()))
}

/// Whether a response has packets. One of a session that ended, or is upgrading, has none.
fn has_packets(head: &Parts, data: &[u8]) -> bool {
    head.status == StatusCode::OK && !data.is_empty() && data != NOOP
}

/// The head and the whole body of a response.
async fn whole(response: Response) -> Result<(Parts, Bytes), StatusCode> {
    let (head, body) = response.into_parts();
    let data = to_bytes(body, usize::MAX).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((head, data))
}

/// The response, whose packets count for the client until they are written.
pub(super) fn counted((head, data): (Parts, Bytes), buffers: Arc<ClientBuffers>, sid: Sid) -> Response {
    Response::from_parts(head, Body::from(Bytes::from_owner(Counted { data, buffers, sid })))
}

/// The packets of a poll, on their way to the client.
struct Counted {
    data: Bytes,
    buffers: Arc<ClientBuffers>,
    sid: Sid,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.buffers.polled(self.sid, &self.data);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;

    use super::*;

    async fn polled(responses: &[(u16, &str)], limit: usize) -> (StatusCode, String) {
        let responses = RefCell::new(responses.iter());
        let call = || {
            let next = responses.borrow_mut().next().map(|(status, body)| {
                Response::builder().status(*status).body(Body::from(body.to_string())).unwrap()
            });
            async {
                match next {
                    Some(response) => response,
                    None => pending().await,
                }
            }
        };
        let (head, data) = poll_all(call, limit).await.unwrap();
        if let Some(length) = head.headers.get(header::CONTENT_LENGTH) {
            assert_eq!(length.to_str().unwrap(), data.len().to_string());
        }
        (head.status, String::from_utf8(data.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_response_has_all_packets_that_wait() {
        let ok = |text: &str| (StatusCode::OK, text.to_owned());
        assert_eq!(polled(&[(200, "2")], 100).await, ok("2"));
        assert_eq!(polled(&[(200, "42[1]"), (200, "42[2]\x1e2")], 100).await, ok("42[1]\x1e42[2]\x1e2"));
        assert_eq!(polled(&[(200, "42[1]"), (200, "42[2]"), (200, "2")], 8).await, ok("42[1]\x1e42[2]"));
        // The session upgrades, or ends, before or after the first response.
        for end in [(200, "6"), (200, ""), (400, "unknown session")] {
            let status = StatusCode::from_u16(end.0).unwrap();
            assert_eq!(polled(&[end, (200, "2")], 100).await, (status, end.1.to_owned()));
            assert_eq!(polled(&[(200, "42[1]"), end, (200, "2")], 100).await, ok("42[1]"));
        }
    }
}
