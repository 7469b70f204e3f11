//! A socket of this server, as Node's `fetchSockets` shows it.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, Uri, header};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use socketioxide::adapter::Adapter;
use socketioxide::extract::SocketRef;

use crate::protocol::{Date, Object, Value};

/// The data of a socket, as other servers see it in `fetchSockets`: put it into `socket.extensions`.
#[derive(Debug, Clone, Default)]
pub struct SocketData(pub Value);

/// The connection of a client. A layer in front of socketioxide inserts it into the extensions of the HTTP request. Without
/// it, `fetchSockets` shows neither address nor time.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Connection {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether it uses TLS.
    pub secure: bool,
    /// When its request arrived.
    pub since: SystemTime,
}

impl Connection {
    /// A connection without TLS, from now on.
    pub fn new(peer: SocketAddr) -> Self {
        Self { peer, secure: false, since: SystemTime::now() }
    }

    /// The same, by TLS.
    pub fn secure(self) -> Self {
        Self { secure: true, ..self }
    }
}

/// The handshake and the data of an unknown socket. It has all keys, since the Admin UI of Node reads them without a check.
pub(super) fn unknown_socket() -> (Value, Value) {
    let empty = || Value::Object(Object::new());
    let handshake = Handshake {
        headers: empty(),
        connection: None,
        cross_origin: false,
        url: String::new(),
        query: empty(),
    };
    (handshake.into_value(), empty())
}

/// The parts of a handshake that may be unknown.
struct Handshake {
    headers: Value,
    connection: Option<Connection>,
    cross_origin: bool,
    url: String,
    query: Value,
}

impl Handshake {
    fn into_value(self) -> Value {
        let Self { headers, connection, cross_origin, url, query } = self;
        Value::Object(Object::from([
            ("headers".into(), headers),
            ("time".into(), connection.map_or(Value::Null, |c| time(c.since).into())),
            ("address".into(), connection.map_or(Value::Null, |c| c.peer.ip().to_string().into())),
            ("xdomain".into(), cross_origin.into()),
            ("secure".into(), connection.is_some_and(|c| c.secure).into()),
            ("issued".into(), connection.map_or(Value::Null, |c| Date::from(c.since).as_millis().into())),
            ("url".into(), url.into()),
            ("query".into(), query),
            ("auth".into(), Value::Object(Object::new())),
        ]))
    }
}

/// The maximum number of shown headers, and of shown parameters of the query. Each takes much more memory than in the request.
const MAX_ENTRIES: usize = 64;

/// The maximum bytes of the shown headers, of the shown parameters, and of the shown URL. A client chooses them, and every
/// answer to `fetchSockets` has those of all clients.
const MAX_BYTES: usize = 4096;

/// The entries from the first one on, up to both limits. An entry that is too long is left out.
struct Limited {
    entries: usize,
    bytes: usize,
}

impl Limited {
    fn new() -> Self {
        Self { entries: MAX_ENTRIES, bytes: MAX_BYTES }
    }

    /// Whether an entry with a name and a value of these lengths is shown.
    fn admits(&mut self, bytes: usize) -> bool {
        let is_admitted = self.entries > 0 && bytes <= self.bytes;
        if is_admitted {
            self.entries -= 1;
            self.bytes -= bytes;
        }
        is_admitted
    }
}

/// The headers with secrets of a client. Every role that may listen on the database can read a response to `fetchSockets`,
/// and the response stays in the attachment table until the cleanup.
const SECRET: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// The handshake and the data of a socket; with the secret headers only if `share_headers` is set.
pub(crate) fn socket<A: Adapter>(socket: &SocketRef<A>, share_headers: bool) -> (Value, Value) {
    let request = socket.req_parts();
    let data = socket.extensions.get::<SocketData>().map(|SocketData(data)| data);
    let handshake = Handshake {
        headers: headers(&request.headers, share_headers),
        connection: request.extensions.get::<Connection>().copied(),
        cross_origin: request.headers.contains_key(header::ORIGIN),
        url: url(&request.uri),
        query: query(&request.uri),
    };
    (handshake.into_value(), data.unwrap_or_else(|| Value::Object(Object::new())))
}

/// The handshake of a client with this request and an unknown connection.
#[cfg(feature = "server")]
pub(crate) fn handshake_of(headers_of_request: &HeaderMap, uri: &Uri) -> Value {
    let handshake = Handshake {
        headers: headers(headers_of_request, false),
        connection: None,
        cross_origin: headers_of_request.contains_key(header::ORIGIN),
        url: url(uri),
        query: query(uri),
    };
    handshake.into_value()
}

/// The format of `Date.prototype.toString` on a server in UTC.
fn time(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default();
    time.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)").to_string()
}

fn headers(headers: &HeaderMap, share_all: bool) -> Value {
    let mut object = Object::new();
    let mut limited = Limited::new();
    let shown = headers.iter().filter(|(name, _)| share_all || !SECRET.contains(name));
    for (name, value) in shown.filter(|(name, value)| limited.admits(name.as_str().len() + value.len())) {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match object.entry(name.as_str().to_owned()).or_insert(Value::Null) {
            // Node joins repeated headers.
            Value::String(before) => *before = format!("{before}, {value}"),
            first => *first = value.into(),
        }
    }
    Value::Object(object)
}

/// The URL, cut at the limit.
fn url(uri: &Uri) -> String {
    let mut url = uri.to_string();
    url.truncate(url.floor_char_boundary(MAX_BYTES));
    url
}

fn query(uri: &Uri) -> Value {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut limited = Limited::new();
    let pairs = pairs.filter(|pair| limited.admits(pair.len()));
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), Value::from(decode(value)))
    });
    Value::Object(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_make_its_handshake_large() {
        let many: String = (0..4000).map(|number| format!("&k{number}")).collect();
        let uri: Uri = format!("/socket.io/?EIO=4&token=t{many}").parse().unwrap();
        let shown = handshake_of(&HeaderMap::new(), &uri);
        let query = shown.get("query").unwrap().as_object().unwrap();
        assert_eq!((query.len(), query.get("token")), (MAX_ENTRIES, Some(&Value::from("t"))));
        assert_eq!(shown.get("url").unwrap().as_str().unwrap().len(), MAX_BYTES);
        let mut headers = HeaderMap::new();
        headers.insert("large", "x".repeat(MAX_BYTES).parse().unwrap());
        headers.insert("small", "x".parse().unwrap());
        let shown = super::headers(&headers, true);
        assert_eq!(shown.as_object().unwrap().len(), 1);
    }
}
