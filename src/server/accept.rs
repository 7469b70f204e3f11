//! The accept loop. It owns the listening socket and turns each TCP connection into HTTP requests.
//!
//! An accepted connection waits, with its bytes in the kernel, until it has sent its first bytes and the limit of
//! handshakes admits it. Requests of operators do not wait.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::addresses::AddressKey;
use super::client_stream::{ClientStream, ClientStreams};
use super::connection_handle::{ConnectionHandle, ConnectionPermit};
use super::connection_slots::{ConnectionSlot, ConnectionSlots};
use super::descriptors::Descriptors;
use super::first_bytes::{self, FirstRequest, INSPECTION_PATHS};
use super::front::{Front, Link};
use super::tls::TlsAcceptor;

/// The deadline of the first byte of a connection, of a TLS handshake, and of the head of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The deadline of the head of an operator's request.
pub(super) const INSPECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after an `accept` that failed because the system lacks resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The largest head of a request, in bytes. A longer head gets status 431.
const MAX_HEAD: usize = 16 << 10;

/// The state that all connections of a server share.
pub(super) struct Acceptor {
    pub(super) tls: Option<Arc<TlsAcceptor>>,
    pub(super) front: Front,
    /// The pages for operators. `None` if another address serves them.
    pub(super) inspection: Option<Router>,
    pub(super) slots: ConnectionSlots,
    pub(super) wires: ClientStreams,
    pub(super) descriptors: Descriptors,
    /// Cancelled at the start of a shutdown: no new connection is accepted, and no new request on the open ones.
    pub(super) closing: CancellationToken,
    /// Cancelled at the end of a shutdown: every connection is closed, at its next read or write that has to wait.
    pub(super) abort_all: CancellationToken,
    /// Tracks the open connections, upgraded ones included.
    pub(super) open: TaskTracker,
}

/// Accepts connections until `closing` is cancelled, then waits until each has sent its last response.
pub(super) async fn serve(listener: TcpListener, acceptor: Arc<Acceptor>) {
    let closing = acceptor.closing.clone();
    let serve_one = |stream: TcpStream, peer| {
        let entry = acceptor.entry(&stream, peer);
        serve_client(stream, peer, entry, acceptor.clone())
    };
    accept_all(listener, closing, serve_one).await;
}

/// Serves the pages for operators on an address of their own, without TLS.
pub(super) async fn serve_admin(listener: TcpListener, app: Router, closing: CancellationToken) {
    let slots = ConnectionSlots::default();
    let inspector = Arc::new(Inspector { app, closing: closing.clone() });
    let serve_one = |stream, peer: SocketAddr| {
        let (inspector, slot) = (inspector.clone(), slots.acquire(peer.ip()));
        async move { inspector.serve(stream, peer, slot, || StatusCode::NOT_FOUND).await }
    };
    accept_all(listener, closing, serve_one).await;
}

pub(super) async fn accept_all<F>(
    listener: TcpListener,
    closing: CancellationToken,
    serve_one: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
                    }
                    connections.spawn(serve_one(stream, peer));
                }
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = closing.cancelled() => break,
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

/// What a connection may request, as far as that is known when it is accepted.
enum Entry {
    /// Any request: file descriptors are left.
    Any,
    /// Only requests for the pages of operators: the rest of the file descriptors is reserved.
    Inspect(ConnectionSlot),
    /// No request, since another address serves the pages for operators.
    None,
}

/// The permission of a new connection.
enum Admission {
    /// Any request.
    Open(ConnectionPermit),
    /// Only requests for the pages of operators.
    Inspect(ConnectionSlot),
    /// No request: the connection is closed.
    None,
}

async fn serve_client(stream: TcpStream, peer: SocketAddr, entry: Entry, acceptor: Arc<Acceptor>) {
    let address = acceptor.front.quotas.address(AddressKey::of(peer.ip()));
    let is_proxy = acceptor.front.proxies.contains(peer.ip());
    let _count = match acceptor.front.quotas.connection(&address) {
        Ok(count) => Some(count),
        Err(_) if is_proxy || !matches!(entry, Entry::Any) => None,
        Err(refused) => return acceptor.front.count_refusal(refused, peer),
    };
    let admission = async {
        match entry {
            Entry::Any => {}
            Entry::Inspect(slot) => return Admission::Inspect(slot),
            Entry::None => {
                acceptor.refuse_descriptors(peer);
                return Admission::None;
            }
        }
        let first = match acceptor.tls {
            None => match timeout(HANDSHAKE_TIMEOUT, first_bytes::peek(&stream)).await {
                Ok(Ok(Some(first))) => first,
                Ok(Ok(None)) | Ok(Err(_)) | Err(_) => return Admission::None,
            },
            Some(_) => FirstRequest::Other,
        };
        let claim = match first {
            FirstRequest::Inspection if acceptor.inspection.is_some() => {
                return Admission::Inspect(acceptor.slots.acquire(peer.ip()));
            }
            FirstRequest::Session(sid) => {
                acceptor.front.sessions.get(sid).and_then(|session| session.claim())
            }
            _ => None,
        };
        match claim {
            Some(claim) => Admission::Open(ConnectionPermit::SessionConnection { _claim: claim }),
            // The limit of handshakes applies to the addresses behind the proxy, not to the proxy.
            None if is_proxy => Admission::Open(ConnectionPermit::None),
            None => match acceptor.front.quotas.handshake(&address).await {
                Ok(handshake) => Admission::Open(ConnectionPermit::Handshake(handshake)),
                Err(refused) => {
                    acceptor.front.count_refusal(refused, peer);
                    Admission::None
                }
            },
        }
    };
    let admission = tokio::select! {
        admission = admission => admission,
        () = acceptor.closing.cancelled() => return,
    };
    // Boxed, so that a waiting connection takes little memory.
    match admission {
        Admission::Open(permit) => Box::pin(handshake_tls(stream, peer, permit, &acceptor)).await,
        Admission::Inspect(slot) => Box::pin(inspect_tls(stream, peer, slot, &acceptor)).await,
        Admission::None => {}
    }
}

async fn handshake_tls(stream: TcpStream, peer: SocketAddr, permit: ConnectionPermit, acceptor: &Acceptor) {
    match &acceptor.tls {
        None => serve_connection(stream, peer, false, permit, acceptor).await,
        Some(tls) => {
            if let Some(stream) = accept_tls(tls, stream, peer).await {
                serve_connection(stream, peer, true, permit, acceptor).await;
            }
        }
    }
}

async fn inspect_tls(stream: TcpStream, peer: SocketAddr, slot: ConnectionSlot, acceptor: &Acceptor) {
    let Some(app) = acceptor.inspection.clone() else { return };
    let inspector = Inspector { app, closing: acceptor.closing.clone() };
    let refuse = || {
        acceptor.refuse_descriptors(peer);
        StatusCode::SERVICE_UNAVAILABLE
    };
    match &acceptor.tls {
        None => inspector.serve(stream, peer, slot, refuse).await,
        Some(tls) => {
            let stream = tokio::select! {
                biased;
                stream = accept_tls(tls, stream, peer) => stream,
                () = slot.evicted() => None,
            };
            if let Some(stream) = stream {
                inspector.serve(stream, peer, slot, refuse).await;
            }
        }
    }
}

async fn accept_tls(tls: &TlsAcceptor, stream: TcpStream, peer: SocketAddr) -> Option<super::tls::TlsStream> {
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
    }
    None
}

/// Answers the requests of operators.
struct Inspector {
    app: Router,
    closing: CancellationToken,
}

impl Inspector {
    /// Answers one request. `refuse` returns the status for a request of any other path.
    async fn serve<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        slot: ConnectionSlot,
        refuse: impl Fn() -> StatusCode,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let mut app = self.app.clone();
            let is_inspection = INSPECTION_PATHS.contains(&request.uri().path());
            let refused = (!is_inspection).then(&refuse);
            async move {
                if let Some(status) = refused {
                    return Ok(status.into_response());
                }
                std::future::poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut app, context))
                    .await?;
                let response: Response = app.call(request.map(Body::new)).await?;
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let mut http = http();
        http.header_read_timeout(INSPECTION_TIMEOUT).keep_alive(false);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut is_closing = false;
        loop {
            tokio::select! {
                // A request that has arrived is answered even if the connection was evicted before this task ran.
                biased;
                outcome = connection.as_mut() => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, %peer, "connection failed");
                    }
                    return;
                }
                () = slot.evicted() => {
                    tracing::debug!(%peer, "evicted by a newer connection");
                    return;
                }
                () = self.closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

pub(super) fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_TIMEOUT);
    // The buffer has to hold the head and the bytes of the previous request.
    http.max_header_size(MAX_HEAD).max_buf_size(2 * MAX_HEAD);
    // hyper keeps each body as it is until it is written. Without this, hyper copies the body on a connection with TLS. The
    // packets of a poll would then count as written, and the connection would keep the memory of its largest response.
    http.writev(true);
    http
}

/// Serves HTTP on a connection until the connection ends or becomes a websocket.
async fn serve_connection<S>(
    stream: S,
    peer: SocketAddr,
    secure: bool,
    permit: ConnectionPermit,
    acceptor: &Acceptor,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = Arc::new(ConnectionHandle::new(peer, acceptor.abort_all.child_token(), permit));
    let wire = ClientStream::new(stream, handle.clone(), acceptor.wires.clone(), acceptor.open.token());
    let link = Link { handle, secure };
    let service = service_fn(|request: Request<Incoming>| {
        let link = link.clone();
        async move { Ok::<_, std::convert::Infallible>(acceptor.front.respond(&link, request).await) }
    });
    let mut connection = pin!(http().serve_connection(TokioIo::new(wire), service).with_upgrades());
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
    fn entry(&self, stream: &TcpStream, peer: SocketAddr) -> Entry {
        match (self.descriptors.are_scarce(stream), &self.inspection) {
            (false, _) => Entry::Any,
            (true, Some(_)) => Entry::Inspect(self.slots.acquire(peer.ip())),
            (true, None) => Entry::None,
        }
    }

    fn refuse_descriptors(&self, peer: SocketAddr) {
        metrics::counter!("pgio_connections_refused_total", "reason" => "no_descriptors").increment(1);
        let message = "refusing new clients: too few file descriptors are left";
        if let Some(suppressed) = self.front.throttle.allow(message) {
            tracing::warn!(%peer, suppressed, "{message}");
        }
    }
}
