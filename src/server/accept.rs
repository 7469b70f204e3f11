//! The accept loop. It owns the listening socket and turns each TCP connection into HTTP requests for the router.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_native_tls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::compact_head;
use super::disconnect::UpgradedConnections;
use super::wire::{ConnectionHandle, Wire};
use crate::adapter::Connection;

/// The deadline of a TLS handshake, and of the head of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after an `accept` that failed because the system lacks resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a server share.
pub(super) struct Acceptor {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) app: Router,
    pub(super) upgraded: Arc<UpgradedConnections>,
    /// Cancelled at the start of a shutdown: no new connection is accepted, and no new request on the open ones.
    pub(super) closing: CancellationToken,
    /// Cancelled at the end of a shutdown: every connection is closed.
    pub(super) abort_all: CancellationToken,
    /// Tracks the open connections, upgraded ones included.
    pub(super) wires: TaskTracker,
}

/// Accepts connections until `closing` is cancelled, then waits until each has sent its last response.
pub(super) async fn serve(listener: TcpListener, acceptor: Arc<Acceptor>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(connections.spawn(handshake(stream, peer, acceptor.clone()))),
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

async fn handshake(stream: TcpStream, peer: SocketAddr, acceptor: Arc<Acceptor>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
    }
    match &acceptor.tls {
        None => serve_connection(stream, peer, false, &acceptor).await,
        Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve_connection(stream, peer, true, &acceptor).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
        },
    }
}

/// Whether a request opens a new Engine.IO session.
fn opens_session<B>(request: &Request<B>) -> bool {
    request.uri().query().is_none_or(|query| query.split('&').all(|pair| !pair.starts_with("sid=")))
}

/// Serves HTTP on a connection until the connection ends or becomes a websocket.
async fn serve_connection<S>(stream: S, peer: SocketAddr, secure: bool, acceptor: &Acceptor)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = Arc::new(ConnectionHandle {
        peer,
        abort: acceptor.abort_all.child_token(),
        session: OnceLock::new(),
    });
    let wire = Wire::new(stream, handle.clone(), acceptor.upgraded.clone(), acceptor.wires.token());
    let service = service_fn(|mut request: Request<Incoming>| {
        if opens_session(&request) {
            compact_head::copy_out_of_buffer(&mut request);
        }
        acceptor.upgraded.register(&request, &handle);
        let extensions = request.extensions_mut();
        extensions.insert(Connection { peer, secure, since: Timestamp::now() });
        extensions.insert(handle.clone());
        let mut app = acceptor.app.clone();
        async move {
            poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut app, context)).await?;
            app.call(request.map(Body::new)).await
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_TIMEOUT);
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
