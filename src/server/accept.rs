//! The accept loop. It owns the listening socket and turns each TCP connection into HTTP requests for the router.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_native_tls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::client_buffers::ClientBuffers;
use super::client_usage::ClientUsage;
use super::compact_head;
use super::descriptors::{Descriptors, Room};
use super::packet_limit::PacketLimit;
use super::throttle::Throttle;
use super::wire::{ConnectionHandle, Wire, Wires};
use crate::adapter::{Connection, Sid};

/// The deadline of a TLS handshake, and of the head of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after an `accept` that failed because the system lacks resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a server share.
pub(super) struct Acceptor {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) app: Router,
    /// The path of the Socket.IO endpoint.
    pub(super) path: String,
    pub(super) wires: Wires,
    pub(super) buffers: Arc<ClientBuffers>,
    pub(super) descriptors: Descriptors,
    pub(super) throttle: Throttle,
    /// Cancelled at the start of a shutdown: no new connection is accepted, and no new request on the open ones.
    pub(super) closing: CancellationToken,
    /// Cancelled at the end of a shutdown: every connection is closed.
    pub(super) abort_all: CancellationToken,
    /// Tracks the open connections, upgraded ones included.
    pub(super) open: TaskTracker,
}

/// Accepts connections until `closing` is cancelled, then waits until each has sent its last response.
pub(super) async fn serve(listener: TcpListener, acceptor: Arc<Acceptor>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match acceptor.descriptors.room(&stream) {
                    Room::None => acceptor.refuse(peer),
                    room => drop(connections.spawn(handshake(stream, peer, room, acceptor.clone()))),
                },
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = acceptor.closing.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "cannot accept connections");
        sleep(ACCEPT_PAUSE).await;
    }
}

async fn handshake(stream: TcpStream, peer: SocketAddr, room: Room, acceptor: Arc<Acceptor>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
    }
    match &acceptor.tls {
        None => serve_connection(stream, peer, false, room, &acceptor).await,
        Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve_connection(stream, peer, true, room, &acceptor).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
        },
    }
}

/// The session that a request belongs to. A request without one opens a session.
fn session_of<B>(request: &Request<B>) -> Option<&str> {
    request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))
}

/// Serves HTTP on a connection until the connection ends or becomes a websocket.
async fn serve_connection<S>(stream: S, peer: SocketAddr, secure: bool, room: Room, acceptor: &Acceptor)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = Arc::new(ConnectionHandle::new(peer, acceptor.abort_all.child_token()));
    let wire = Wire::new(stream, handle.clone(), acceptor.wires.clone(), acceptor.open.token());
    let service = service_fn(|mut request: Request<Incoming>| {
        let session = session_of(&request).map(str::parse::<Sid>);
        if session.is_none() {
            compact_head::copy_out_of_buffer(&mut request);
            request.extensions_mut().insert(Arc::<ClientUsage>::default());
        }
        let is_refused =
            room == Room::Scarce && session.is_none() && request.uri().path().starts_with(&acceptor.path);
        let sid = session.and_then(Result::ok);
        acceptor.note(&request, sid, &handle);
        let poll = sid.filter(|_| request.method() == Method::GET && !handle.is_websocket());
        let extensions = request.extensions_mut();
        extensions.insert(Connection { peer, secure, since: SystemTime::now() });
        extensions.insert(handle.clone());
        let mut app = acceptor.app.clone();
        async move {
            if is_refused {
                acceptor.refuse(peer);
                return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
            }
            poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut app, context)).await?;
            let response: Response = app.call(request.map(|body| Body::new(PacketLimit::new(body)))).await?;
            if let (Some(sid), Some(bytes)) = (poll, response.body().size_hint().exact()) {
                acceptor.buffers.sent(sid, usize::try_from(bytes).unwrap_or(usize::MAX));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_TIMEOUT).keep_alive(room == Room::Enough);
    let mut connection = pin!(http.serve_connection(TokioIo::new(wire), service).with_upgrades());
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = acceptor.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, %peer, "connection failed");
    }
}

impl Acceptor {
    /// Notes what a request does with its connection.
    fn note<B>(&self, request: &Request<B>, sid: Option<Sid>, handle: &Arc<ConnectionHandle>) {
        if !request.headers().contains_key(http::header::UPGRADE) {
            handle.set_polling(sid);
            return;
        }
        handle.upgrade();
        if let Some(sid) = sid {
            self.wires.upgraded.register(sid, handle);
            handle.buffer.get_or_init(|| self.buffers.of(sid));
        }
    }

    fn refuse(&self, peer: SocketAddr) {
        metrics::counter!("pgio_connections_refused_total", "reason" => "no_descriptors").increment(1);
        let message = "refusing new clients: too few file descriptors are left";
        if let Some(held_back) = self.throttle.pass(message) {
            tracing::warn!(%peer, held_back, "{message}");
        }
    }
}
