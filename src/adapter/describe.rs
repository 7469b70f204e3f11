//! A socket of this server, as Node's `fetchSockets` shows it.

use std::net::SocketAddr;

use http::{HeaderMap, Uri, header};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use socketioxide::adapter::Adapter;
use socketioxide::extract::SocketRef;

use crate::protocol::{Object, Value};

/// What an application keeps with a socket, for other servers to see: put it into `socket.extensions`.
#[derive(Debug, Clone, Default)]
pub struct SocketData(pub Value);

/// How a client came: put it into the extensions of its HTTP request, by a layer in front of socketioxide. Without it,
/// `fetchSockets` shows neither address nor time.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether it came by TLS.
    pub secure: bool,
    /// When its request arrived.
    pub since: Timestamp,
}

/// The handshake and the data of a socket of which nothing is known.
pub(super) fn nothing_known() -> (Value, Value) {
    (Value::Object(Object::new()), Value::Object(Object::new()))
}

/// The handshake and the data of a socket.
pub(super) fn socket<A: Adapter>(socket: &SocketRef<A>) -> (Value, Value) {
    let request = socket.req_parts();
    let connection = request.extensions.get::<Connection>();
    let (_, no_data) = nothing_known();
    let data = socket.extensions.get::<SocketData>().map_or(no_data, |SocketData(data)| data);
    let handshake = Object::from([
        ("headers".into(), headers(&request.headers)),
        ("time".into(), connection.map_or(Value::Null, |c| time(c.since).into())),
        ("address".into(), connection.map_or(Value::Null, |c| c.peer.ip().to_string().into())),
        ("xdomain".into(), request.headers.contains_key(header::ORIGIN).into()),
        ("secure".into(), connection.is_some_and(|c| c.secure).into()),
        ("issued".into(), connection.map_or(Value::Null, |c| c.since.as_millisecond().into())),
        ("url".into(), request.uri.to_string().into()),
        ("query".into(), query(&request.uri)),
        ("auth".into(), Value::Object(Object::new())),
    ]);
    (Value::Object(handshake), data)
}

/// As `Date.prototype.toString` writes it on a server that runs in UTC.
fn time(time: Timestamp) -> String {
    time.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)").to_string()
}

fn headers(headers: &HeaderMap) -> Value {
    let mut object = Object::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match object.entry(name.as_str().to_owned()).or_insert(Value::Null) {
            // Node joins what is there twice.
            Value::String(before) => *before = format!("{before}, {value}"),
            first => *first = value.into(),
        }
    }
    Value::Object(object)
}

fn query(uri: &Uri) -> Value {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), Value::from(decode(value)))
    });
    Value::Object(pairs.collect())
}
