//! The options of a server.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

use super::addresses::AddressRange;
use super::admin_ui::AdminUi;
use super::answers::Answers;
use super::auth::Authentication;
use super::origins::OriginPattern;
use super::rules::ClientRules;
use crate::protocol::Namespace;
use crate::setters::setters;
use crate::{Error, Result};

/// The minimum size of a client's buffer, in bytes.
pub(super) const MIN_CLIENT_BUFFER: u64 = 1 << 16;

/// The options of a [`Server`](super::Server). An option that Node's Socket.IO has as well has the same default.
///
/// ```
/// use pgio::server::{Hosted, ServerOptions};
///
/// let options = ServerOptions::default().listen("127.0.0.1:0").namespaces([Hosted::new("/org/{id}")]);
/// assert_eq!(options.path, "/socket.io");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// `host:port` to listen on; port 0 takes a free one. Default: `0.0.0.0:3000`.
    pub listen: String,
    /// The namespaces to host. Default: the main one.
    pub namespaces: Vec<Hosted>,
    /// The path of the Socket.IO endpoint. Default: `/socket.io`.
    pub path: String,
    /// The encoding of packets between the server and its clients. Default: JSON.
    pub parser: Parser,
    /// The transports that clients may use. Default: both.
    pub transports: Transports,
    /// The origins whose pages may connect by polling (CORS). Default: only the server's own origin.
    pub cors: CorsOrigins,
    /// The interval of the pings that the server sends to each client. Default: 25 s.
    pub ping_interval: Duration,
    /// The time a client has to answer a ping before it is disconnected. Default: 20 s.
    pub ping_timeout: Duration,
    /// The largest message of a client, in bytes. Default: 1,000,000.
    pub max_payload: u64,
    /// The maximum bytes of events that are queued for a client, and of its events that are queued for the relay. A
    /// client above it is disconnected. An event counts 256 bytes more than its content. Default: 16,000,000; the
    /// minimum is 65,536.
    pub client_buffer: u64,
    /// `host:port` for `/healthz`, `/readyz` and `/metrics`, without TLS. If it is set, `listen` does not serve them.
    /// Default: none.
    pub admin_listen: Option<String>,
    /// The origins whose pages may connect, by websocket and by polling. Default: an empty list, which allows the pages
    /// of the server's own host and of the `cors` origins. It allows all pages if `cors` allows every origin or if a
    /// token is required.
    pub origins: Vec<OriginPattern>,
    /// The proxies whose `X-Forwarded-For` header the server trusts for the address of a client.
    /// Default: none.
    pub trusted_proxies: Vec<AddressRange>,
    /// The maximum number of connected clients. Default: 65,536.
    pub max_clients: usize,
    /// The maximum number of connected clients of one address; the first 64 bits of an IPv6 address count. An address
    /// may begin as many handshakes at once, and 200 more each second. Default: 10,000.
    pub max_clients_per_address: usize,
    /// The deadline for a client to connect to a namespace after its handshake. Default: 5 s.
    pub connect_timeout: Duration,
    /// The maximum number of rooms that a client may join by itself. Default: 1,000.
    pub max_rooms_per_client: usize,
    /// The rate limit for the events of a client, in events per second. The burst is five seconds' worth. Events above
    /// the limit are refused, and a client that goes on is disconnected. Default: 1,000.
    pub client_rate: u32,
    /// The rate limit for the events of a client, in bytes per second. The burst is five seconds' worth, and at least
    /// `max_payload`. Default: 4,000,000.
    pub client_bytes: u64,
    /// The maximum number of namespaces that patterns create on this server. A client that requests another one is
    /// refused. Each namespace costs a LISTEN and heartbeats to all servers. Default: 10,000.
    pub max_namespaces: usize,
    /// The maximum number of namespaces that a client may join over its connection. A namespace that the client has
    /// left counts for another 20 s. Default: 100.
    pub max_namespaces_per_client: usize,
    /// The files for TLS. Default: none, which means plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Which clients may connect. Default: every client.
    pub authentication: Authentication,
    /// Whether a client is disconnected when its token expires, or when its token or the key of its token is no longer
    /// listed. Default: true.
    pub disconnect_expired: bool,
    /// The permissions of clients. Default: receive events and acknowledge them.
    pub rules: ClientRules,
    /// The response to `serverSideEmitWithAck` of other servers. Default: the uid and version of this server.
    pub answers: Answers,
    /// The settings for the Admin UI of Node servers, which cost traffic while a UI is connected. Default: none, so
    /// that the UI does not show the server.
    pub admin_ui: Option<AdminUi>,
    /// The deadline of a graceful shutdown. Default: 5 s.
    pub grace: Duration,
}

setters!(ServerOptions {
    listen: impl Into<String>,
    namespaces: impl Into<Vec<Hosted>>,
    path: impl Into<String>,
    parser: Parser,
    transports: Transports,
    cors: CorsOrigins,
    ping_interval: Duration,
    ping_timeout: Duration,
    max_payload: u64,
    client_buffer: u64,
    admin_listen: impl Into<Option<String>>,
    origins: impl Into<Vec<OriginPattern>>,
    trusted_proxies: impl Into<Vec<AddressRange>>,
    max_clients: usize,
    max_clients_per_address: usize,
    connect_timeout: Duration,
    max_rooms_per_client: usize,
    client_rate: u32,
    client_bytes: u64,
    max_namespaces: usize,
    max_namespaces_per_client: usize,
    tls: impl Into<Option<TlsFiles>>,
    authentication: Authentication,
    disconnect_expired: bool,
    rules: ClientRules,
    answers: Answers,
    admin_ui: impl Into<Option<AdminUi>>,
    grace: Duration,
});

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:3000".into(),
            namespaces: vec![Hosted::One(Namespace::default())],
            path: "/socket.io".into(),
            parser: Parser::Default,
            transports: Transports::Both,
            cors: CorsOrigins::None,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: 1_000_000,
            client_buffer: 16_000_000,
            admin_listen: None,
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            max_clients: 65_536,
            max_clients_per_address: 10_000,
            connect_timeout: Duration::from_secs(5),
            max_rooms_per_client: 1000,
            client_rate: 1000,
            client_bytes: 4_000_000,
            max_namespaces: 10_000,
            max_namespaces_per_client: 100,
            tls: None,
            authentication: Authentication::Anyone,
            disconnect_expired: true,
            rules: ClientRules::default(),
            answers: Answers::Identity,
            admin_ui: None,
            grace: Duration::from_secs(5),
        }
    }
}

/// A namespace to host, or a pattern of namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosted {
    /// This namespace, from the start.
    One(Namespace),
    /// Every namespace that matches the pattern (`/org/{id}`), from the moment the first client connects to it.
    Pattern(String),
}

impl Hosted {
    /// Reads a name, or a pattern if there are braces in it. The leading slash may be omitted.
    pub fn new(name: &str) -> Self {
        let nsp = Namespace::new(name);
        if nsp.as_str().contains(['{', '}']) { Self::Pattern(nsp.to_string()) } else { Self::One(nsp) }
    }

    /// The name of a namespace that exists from the start.
    pub(crate) fn name(&self) -> Option<&Namespace> {
        match self {
            Self::One(nsp) => Some(nsp),
            Self::Pattern(_) => None,
        }
    }
}

/// The encoding of packets between the server and its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parser {
    /// JSON with binary attachments, the default of `socket.io-client`.
    #[default]
    Default,
    /// `socket.io-msgpack-parser`.
    Msgpack,
}

/// The transports that clients may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transports {
    /// Both, with the upgrade from polling to websocket.
    #[default]
    Both,
    /// Websocket only.
    Websocket,
    /// Long polling only.
    Polling,
}

/// The origins whose pages may read the responses to polling. Browsers do not apply CORS to websockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CorsOrigins {
    /// Only the server's own origin.
    #[default]
    None,
    /// Every origin, without cookies.
    Any,
    /// These origins, with cookies.
    These(Vec<HeaderValue>),
}

impl CorsOrigins {
    /// Reads origins such as `https://app.example.com`; `*` stands for every origin.
    ///
    /// # Errors
    /// [`Error::Setting`] for a text that is not an origin.
    pub fn parse<S: AsRef<str>>(origins: &[S]) -> Result<Self> {
        if origins.is_empty() {
            return Ok(Self::None);
        }
        if origins.iter().any(|origin| origin.as_ref() == "*") {
            return Ok(Self::Any);
        }
        origins.iter().map(|origin| parse_origin(origin.as_ref())).collect::<Result<_>>().map(Self::These)
    }
}

fn parse_origin(text: &str) -> Result<HeaderValue> {
    let wrong = || Error::Setting {
        setting: "cors".into(),
        reason: format!("{text:?} is not an origin such as https://app.example.com, nor *"),
    };
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    // A URI without a path gets the path `/`.
    let is_origin = uri.scheme().is_some() && uri.authority().is_some() && !text.ends_with('/');
    let has_no_more = uri.path() == "/" && uri.query().is_none();
    if is_origin && has_no_more { HeaderValue::from_str(text).map_err(|_| wrong()) } else { Err(wrong()) }
}

/// The files for TLS 1.2 and 1.3, in PEM. The server reads them again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The server's certificate, followed by the intermediate certificates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of the authorities that sign the certificates of clients. If there are any, a client needs a
    /// certificate. Default: none.
    pub client_authorities: Option<PathBuf>,
}

impl TlsFiles {
    /// The files of the server. Clients need no certificate.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into(), client_authorities: None }
    }

    /// Requires a certificate of each client that an authority in this file has signed.
    #[must_use]
    pub fn client_authorities(self, path: impl Into<PathBuf>) -> Self {
        Self { client_authorities: Some(path.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let these = CorsOrigins::parse(&["https://a.example", "http://localhost:8080"]).unwrap();
        assert!(matches!(these, CorsOrigins::These(list) if list.len() == 2));
        assert_eq!(CorsOrigins::parse(&["https://a.example", "*"]).unwrap(), CorsOrigins::Any);
        assert_eq!(CorsOrigins::parse::<&str>(&[]).unwrap(), CorsOrigins::None);
        for bad in ["a.example", "https://a.example/", "https://a.example/path", "", "https://"] {
            assert!(CorsOrigins::parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_have_braces() {
        assert_eq!(Hosted::new("admin"), Hosted::One(Namespace::new("/admin")));
        assert_eq!(Hosted::new("org/{id}"), Hosted::Pattern("/org/{id}".into()));
    }
}
