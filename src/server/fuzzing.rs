//! Entry points for the fuzz targets: the parsers of untrusted input. Not part of the public API.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use socketioxide_core::Value as CoreValue;

use super::auth::{Authentication, Credentials};
use super::compact_head;
use crate::adapter;
use crate::postgres::quote_identifier;
use crate::protocol::Value;

/// Reads the arguments of an event of a client: the text of its packet with its attachments, or the packet in msgpack.
pub fn args_of_client(text: Option<&str>, attachments: Vec<Vec<u8>>, msgpack: &[u8]) -> Option<Vec<Value>> {
    let attachments: VecDeque<_> = attachments.into_iter().map(Bytes::from).collect();
    let value = match text {
        Some(text) => {
            CoreValue::Str(text.to_owned().into(), (!attachments.is_empty()).then_some(attachments))
        }
        None => CoreValue::Bytes(Bytes::copy_from_slice(msgpack)),
    };
    adapter::args_of_client(value).ok()
}

/// Authenticates a client that sends this as `auth`. Returns whether the client may connect.
pub fn admits(authentication: &Authentication, auth: &[u8]) -> bool {
    authentication.admit(serde_json::from_slice::<Credentials>(auth).ok(), "/").is_ok()
}

/// An identifier, quoted as in `LISTEN`.
pub fn quoted(identifier: &str) -> String {
    quote_identifier(identifier)
}

/// Copies the head of a request, and returns its handshake as other servers see it. `None` if the head is not valid
/// HTTP.
pub fn handshake(target: &[u8], headers: &[(&[u8], &[u8])]) -> Option<Value> {
    let mut request = Request::get(std::str::from_utf8(target).ok()?).body(()).ok()?;
    for (name, value) in headers {
        let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        request.headers_mut().append(name, value);
    }
    compact_head::copy_out_of_buffer(&mut request);
    Some(adapter::handshake_of(request.headers(), request.uri()))
}

/// Whether this can be the path of the Socket.IO endpoint.
pub fn is_path(path: &str) -> bool {
    super::start::checked_path(path).is_ok()
}
