//! The front controller: checks each HTTP request before it reaches socketioxide. It enforces the limits of connections,
//! sessions and memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tower_service::Service;

use super::addresses::{AddressKey, TrustedProxies};
use super::client_buffers::ClientBuffers;
use super::client_connection::{self, ClientConnection};
use super::client_stream::UNADMITTED_BYTES;
use super::compact_head;
use super::connection_handle::ConnectionHandle;
use super::disconnect::{Disconnector, Reason, UpgradedConnections};
use super::origins::OriginRule;
use super::packet_limit::PacketCount;
use super::poll_response;
use super::quotas::{Address, BodyCount, Quotas, Refused};
use super::sessions::{self, Session, Sessions};
use super::throttle::Throttle;
use super::websocket::{MESSAGE_TIMEOUT, Websocket};
use crate::adapter::{Connection, Sid};

/// The deadline of a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a handshake response. Real ones are shorter.
const OPEN_BYTES: usize = 4096;

/// The state that all requests of a server share.
pub(super) struct Front {
    pub(super) app: Router,
    /// The path of the Socket.IO endpoint.
    pub(super) path: String,
    pub(super) origins: OriginRule,
    pub(super) proxies: TrustedProxies,
    /// Gives a websocket to socketioxide.
    pub(super) websockets: Websockets,
    /// Tracks the websockets that are being opened.
    pub(super) open: TaskTracker,
    pub(super) quotas: Arc<Quotas>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) buffers: Arc<ClientBuffers>,
    pub(super) upgraded: Arc<UpgradedConnections>,
    pub(super) disconnector: Disconnector,
    pub(super) throttle: Throttle,
    /// The largest body, in bytes.
    pub(super) max_payload: usize,
    /// The maximum bytes that a client may post without a poll.
    pub(super) client_buffer: usize,
}

/// Takes the stream of a websocket and the head of its request. The stream is in a box, since the task that engineioxide
/// starts for a websocket has room for several streams.
pub(super) type Websockets = Arc<dyn Fn(Box<Websocket<ClientConnection>>, Request<()>) + Send + Sync>;

/// The connection of a request.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) handle: Arc<ConnectionHandle>,
    pub(super) secure: bool,
}

/// The client of a session, in the extensions of its first request. There are few extensions, since socketioxide keeps
/// them for as long as the client is connected.
#[derive(Clone)]
pub(super) struct Client {
    /// The connection of the first request.
    pub(super) handle: Arc<ConnectionHandle>,
    pub(super) session: Arc<Session>,
}

/// A response of the front controller itself.
type Refusal = Response;

impl Front {
    /// Answers a request.
    pub(super) async fn respond(&self, link: &Link, request: Request<Incoming>) -> Response {
        link.handle.set_polling(None);
        let mut response = if is_below(request.uri().path(), &self.path) {
            let (Ok(response) | Err(response)) = self.socket_io(link, request).await;
            response
        } else {
            self.call(request.map(Body::new)).await
        };
        close_without_session(link, &mut response);
        response
    }

    async fn socket_io(&self, link: &Link, mut request: Request<Incoming>) -> Result<Response, Refusal> {
        let peer = link.handle.peer;
        let is_proxy = self.proxies.contains(peer.ip());
        if !self.origins.allows(request.headers(), is_proxy) {
            return Err(self.refuse_origin(&request));
        }
        let client = self.proxies.client(peer.ip(), request.headers());
        let address = if is_proxy { SocketAddr::new(client, 0) } else { peer };
        let extensions = request.extensions_mut();
        extensions.insert(Connection { peer: address, secure: link.secure, since: SystemTime::now() });
        let is_upgrade = is_websocket(&request).ok_or_else(|| status(StatusCode::BAD_REQUEST))?;
        let key = AddressKey::of(client);
        match sessions::id_in(request.uri()).map(str::parse::<Sid>) {
            // A preflight request, or a method that opens no session.
            None if request.method() != Method::GET => Ok(self.call(request.map(|_| Body::empty())).await),
            None => self.open(link, request, key, is_upgrade).await,
            Some(Ok(secret)) => {
                let session = self.sessions.get(secret).ok_or_else(unknown_session)?;
                let public = session.public_id().ok_or_else(unknown_session)?;
                link.handle.belong_to(&session);
                *request.uri_mut() = sessions::with_id(request.uri(), public).ok_or_else(unknown_session)?;
                self.of_session(link, request, key, &session, public, is_upgrade).await
            }
            Some(Err(_)) => Err(unknown_session()),
        }
    }

    /// A request that opens a session.
    async fn open(
        &self,
        link: &Link,
        mut request: Request<Incoming>,
        key: AddressKey,
        is_upgrade: bool,
    ) -> Result<Response, Refusal> {
        let address = self.quotas.address(key);
        let refuse = |refused| self.refuse(refused, link.handle.peer);
        let count = self.quotas.client(&address).map_err(refuse)?;
        // The first handshake of a connection uses the permit for which the connection has waited.
        let handshake = match link.handle.take_handshake() {
            Some(handshake) => handshake,
            None => self.quotas.handshake(&address).await.map_err(refuse)?,
        };
        let session = self.sessions.open(handshake, count);
        let client = Client { handle: link.handle.clone(), session: session.clone() };
        request.extensions_mut().insert(client);
        if is_upgrade {
            return Ok(self.upgrade(link, request, address, &session, None).await);
        }
        compact_head::copy_out_of_buffer(&mut request);
        let response = self.call(request.map(|_| Body::empty())).await;
        if response.status() != StatusCode::OK {
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        let open = to_bytes(body, OPEN_BYTES)
            .await
            .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
        let replaced = sessions::replace_id(&open, |public| self.sessions.register(&session, public));
        let replaced = replaced.ok_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(replaced.len()));
        Ok(Response::from_parts(parts, Body::from(replaced)))
    }

    /// A request of a session that polls.
    async fn of_session(
        &self,
        link: &Link,
        request: Request<Incoming>,
        key: AddressKey,
        session: &Arc<Session>,
        public: Sid,
        is_upgrade: bool,
    ) -> Result<Response, Refusal> {
        if is_upgrade {
            let address = self.quotas.address(key);
            return Ok(self.upgrade(link, request, address, session, Some(public)).await);
        }
        link.handle.set_polling(Some(public));
        match *request.method() {
            Method::GET => {
                let poll = session.poll();
                let (head, _) = request.into_parts();
                let call = || self.call(Request::from_parts(head.clone(), Body::empty()));
                let response = poll_response::poll_all(call, self.client_buffer).await;
                drop(poll);
                let response = response.map_err(IntoResponse::into_response)?;
                Ok(poll_response::counted(response, self.buffers.clone(), public))
            }
            Method::POST => {
                let limit = if session.is_admitted() {
                    self.max_payload
                } else {
                    self.max_payload.min(UNADMITTED_BYTES)
                };
                let address = self.quotas.address(key);
                let mut count = self.quotas.body(&address);
                let (head, body) = request.into_parts();
                let body = match read(body, limit, &mut count).await {
                    Ok(body) => body,
                    Err(status) => {
                        self.disconnector.close_polling(public);
                        return Err(self.refuse_body(status));
                    }
                };
                if !session.post(body.len(), self.client_buffer) {
                    self.disconnector.disconnect_session(public, link.handle.peer, Reason::TooSlow);
                    return Err(status(StatusCode::TOO_MANY_REQUESTS));
                }
                if !self.make_room(session, &address, &body, public, link.handle.peer).await {
                    self.disconnector.disconnect_session(public, link.handle.peer, Reason::Incomplete);
                    return Err(self.refuse_body(StatusCode::SERVICE_UNAVAILABLE));
                }
                Ok(self.call(Request::from_parts(head, Body::from(body))).await)
            }
            _ => Ok(self.call(request.map(|_| Body::empty())).await),
        }
    }

    /// Waits for quota for an incomplete event that a client posts. Returns false after a timeout.
    async fn make_room(
        &self,
        session: &Session,
        address: &Arc<Address>,
        packets: &[u8],
        public: Sid,
        peer: SocketAddr,
    ) -> bool {
        let Some(bytes) = session.posted_event().and_then(|mut event| event.read(packets)) else {
            return true;
        };
        let Some(room) = self.quotas.incomplete(address, bytes).await else { return false };
        let disconnector = self.disconnector.clone();
        let deadline = || {
            AbortOnDropHandle::new(tokio::spawn(async move {
                sleep(MESSAGE_TIMEOUT).await;
                disconnector.disconnect_session(public, peer, Reason::Incomplete);
            }))
        };
        if let Some(mut event) = session.posted_event() {
            event.grant(bytes, room, deadline);
        }
        true
    }

    /// Answers a request for a websocket. `polling` is the session that upgrades, if there is one.
    async fn upgrade(
        &self,
        link: &Link,
        mut request: Request<Incoming>,
        address: Arc<Address>,
        session: &Arc<Session>,
        polling: Option<Sid>,
    ) -> Response {
        let claim = match polling.map(|_| session.begin_upgrade()) {
            Some(None) => return status(StatusCode::BAD_REQUEST),
            claim => claim.flatten(),
        };
        // This takes the upgrade out of the request, so that socketioxide only answers it.
        let upgraded = hyper::upgrade::on(&mut request);
        let (head, _) = request.into_parts();
        let response = self.call(Request::from_parts(head.clone(), Body::empty())).await;
        // A connection that was refused may carry another client next.
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        link.handle.upgrade(session);
        if let Some(sid) = polling {
            session.buffer_in(&self.buffers, sid);
            self.upgraded.register(sid, &link.handle);
        }
        let (websockets, quotas, disconnector) =
            (self.websockets.clone(), self.quotas.clone(), self.disconnector.clone());
        let (sent, session) = (self.buffers.frames(), session.clone());
        let mut head = Request::from_parts(head, ());
        compact_head::copy_out_of_buffer(&mut head);
        // socketioxide does not close a session whose upgrade fails.
        let at_end = polling.map(|sid| -> Box<dyn FnOnce() + Send> {
            Box::new(move || {
                drop(claim);
                disconnector.close_polling(sid);
            })
        });
        self.open.spawn(async move {
            match upgraded.await.map_err(io::Error::other).and_then(client_connection::of_upgraded) {
                Ok(connection) => {
                    let stream = Websocket::new(connection, quotas, address, sent, session, at_end);
                    websockets(Box::new(stream), head);
                }
                Err(error) => tracing::debug!(%error, "websocket upgrade failed"),
            }
        });
        response
    }

    async fn call(&self, mut request: Request<Body>) -> Response {
        // Only `upgrade` makes a websocket of a connection, as the limits of a client need its stream.
        request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
        let mut app = self.app.clone();
        let ready =
            std::future::poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut app, context)).await;
        match ready {
            Ok(()) => app.call(request).await.unwrap_or_else(|never| match never {}),
            Err(never) => match never {},
        }
    }

    fn refuse(&self, refused: Refused, peer: SocketAddr) -> Response {
        self.count_refusal(refused, peer);
        status(match refused {
            Refused::Rate => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        })
    }

    /// Reports a refused client in the log and in a metric.
    pub(super) fn count_refusal(&self, refused: Refused, peer: SocketAddr) {
        metrics::counter!("pgio_connections_refused_total", "reason" => refused.reason()).increment(1);
        if let Some(suppressed) = self.throttle.allow(refused.reason()) {
            tracing::warn!(%peer, reason = refused.reason(), suppressed, "refusing clients");
        }
    }

    fn refuse_origin<B>(&self, request: &Request<B>) -> Response {
        metrics::counter!("pgio_connections_refused_total", "reason" => "origin").increment(1);
        if let Some(suppressed) = self.throttle.allow("origin") {
            let short = |name| {
                let value =
                    request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
                value.unwrap_or_default().chars().take(100).collect::<String>()
            };
            tracing::warn!(
                origin = ?short(header::ORIGIN), host = ?short(header::HOST), allowed = %self.origins, suppressed,
                "origin check: refusing a page of another origin"
            );
        }
        status(StatusCode::FORBIDDEN)
    }

    fn refuse_body(&self, code: StatusCode) -> Response {
        if let Some(suppressed) = self.throttle.allow(code.as_str()) {
            tracing::info!(status = code.as_u16(), suppressed, "refusing a request body");
        }
        let mut response = status(code);
        // The rest of the body is not read.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// Closes a connection that still counts as a handshake: it could keep its permit with one request after the other. Its
/// request is complete, so others get the permit while the client reads the response. The limit of the connections of its
/// address still counts it.
fn close_without_session(link: &Link, response: &mut Response) {
    if link.handle.take_handshake().is_some() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Reads a body of up to `limit` bytes.
async fn read(mut body: Incoming, limit: usize, count: &mut BodyCount) -> Result<Bytes, StatusCode> {
    if body.size_hint().lower() > limit as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let whole = async {
        let mut bytes = BytesMut::new();
        let mut packets = PacketCount::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
            if bytes.len() + data.len() > limit || !packets.add(&data) {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            if !count.add(data.len()) {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    timeout(BODY_TIMEOUT, whole).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
}

/// Whether a path is that of the endpoint, or below it. `/socket.io-admin` is not below `/socket.io`.
fn is_below(path: &str, endpoint: &str) -> bool {
    path.strip_prefix(endpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a request asks for a websocket; `None` for a request whose transport engineioxide could read differently, since
/// it takes `transport=websocket=` for a websocket as well.
fn is_websocket<B>(request: &Request<B>) -> Option<bool> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    let mut transports = pairs.filter_map(|pair| pair.strip_prefix("transport="));
    let has_upgrade = request.headers().contains_key(header::UPGRADE);
    match (transports.next(), transports.next()) {
        (Some("websocket"), None) => has_upgrade.then_some(true),
        // engineioxide refuses a request without a transport.
        (Some("polling") | None, None) => Some(false),
        _ => None,
    }
}

/// Node's response for an unknown session.
fn unknown_session() -> Response {
    let mut response = status(StatusCode::BAD_REQUEST);
    *response.body_mut() = Body::from(r#"{"code":"1","message":"Session ID unknown"}"#);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn status(code: StatusCode) -> Response {
    metrics::counter!("pgio_requests_refused_total", "status" => code.as_u16().to_string()).increment(1);
    let mut response = code.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::task::unconstrained;
    use tokio_util::sync::CancellationToken;

    use super::super::connection_handle::ConnectionPermit;
    use super::super::quotas::{Limits, MAX_HANDSHAKES_OF_ADDRESS};
    use super::*;

    /// The client may take any time to read the response.
    #[tokio::test]
    async fn a_connection_without_a_session_counts_as_a_handshake_until_its_response() {
        let quotas = Quotas::new(Limits { clients: 1, clients_of_address: 1 });
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let address = quotas.address(AddressKey::of(peer.ip()));
        let mut handshakes = Vec::new();
        for _ in 0..MAX_HANDSHAKES_OF_ADDRESS {
            handshakes.push(quotas.handshake(&address).await.unwrap());
        }
        let permit = ConnectionPermit::Handshake(handshakes.pop().unwrap());
        let handle = Arc::new(ConnectionHandle::new(peer, CancellationToken::new(), permit));
        let link = Link { handle, secure: false };
        // tokio's budget for the current task would make any handshake wait.
        let may_begin = || unconstrained(quotas.handshake(&address)).now_or_never().is_some();
        assert!(!may_begin());
        let mut response = StatusCode::OK.into_response();
        close_without_session(&link, &mut response);
        assert_eq!(response.headers()[header::CONNECTION], "close");
        assert!(may_begin());
    }

    #[test]
    fn only_what_is_below_the_path_is_socket_io() {
        for (path, is) in [
            ("/socket.io", true),
            ("/socket.io/", true),
            ("/socket.io/x", true),
            ("/socket.io-admin", false),
            ("/healthz", false),
        ] {
            assert_eq!(is_below(path, "/socket.io"), is, "{path}");
        }
    }

    #[test]
    fn a_websocket_has_header_and_transport() {
        let request = |uri: &str| Request::get(uri).header("upgrade", "websocket").body(()).unwrap();
        for (query, is) in [
            ("EIO=4&transport=websocket", Some(true)),
            ("EIO=4&transport=polling", Some(false)),
            ("EIO=4", Some(false)),
            // Other ways to write it, which engineioxide accepts.
            ("EIO=4&transport=websocket=", None),
            ("EIO=4&transport=websocket&transport=polling", None),
            ("EIO=4&transport=polling&transport=websocket", None),
        ] {
            assert_eq!(is_websocket(&request(&format!("/socket.io/?{query}"))), is, "{query}");
        }
        assert_eq!(is_websocket(&Request::get("/?transport=websocket").body(()).unwrap()), None);
    }
}
