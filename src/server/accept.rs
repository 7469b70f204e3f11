//! The accept loop: from a TCP connection to HTTP requests.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use http::Request;
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

use super::cutting::Upgrades;
use super::detach;
use super::wire::{Line, Wire};
use crate::adapter::Connection;

/// How long a TLS handshake or the head of a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when the system has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Entrance {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) app: Router,
    pub(super) upgrades: Arc<Upgrades>,
    /// No new connections, and no new requests on those that are there.
    pub(super) closing: CancellationToken,
    /// The end of all connections.
    pub(super) cut: CancellationToken,
    /// Knows which wires are there, upgraded ones as well.
    pub(super) wires: TaskTracker,
}

/// Serves connections until told to stop, and then until each has had its last answer.
pub(super) async fn serve(listener: TcpListener, entrance: Arc<Entrance>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(connections.spawn(meet(stream, peer, entrance.clone()))),
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = entrance.closing.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "no connection can be accepted");
        sleep(PAUSE).await;
    }
}

async fn meet(stream: TcpStream, peer: SocketAddr, entrance: Arc<Entrance>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "small packets may be late");
    }
    match &entrance.tls {
        None => talk(stream, peer, false, &entrance).await,
        Some(tls) => match timeout(PATIENCE, tls.accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, peer, true, &entrance).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS"),
            Err(_) => tracing::debug!(%peer, "TLS took too long"),
        },
    }
}

/// Whether a client has no session yet, or means to open another one.
fn opens_session<B>(request: &Request<B>) -> bool {
    request.uri().query().is_none_or(|query| query.split('&').all(|pair| !pair.starts_with("sid=")))
}

/// Serves HTTP on a connection, until it ends or becomes a websocket.
async fn talk<S>(stream: S, peer: SocketAddr, secure: bool, entrance: &Entrance)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let line = Arc::new(Line { peer, cut: entrance.cut.child_token(), upgraded: OnceLock::new() });
    let wire = Wire::new(stream, line.clone(), entrance.upgrades.clone(), entrance.wires.token());
    let service = service_fn(|mut request: Request<Incoming>| {
        if opens_session(&request) {
            detach::from_buffer(&mut request);
        }
        entrance.upgrades.see(&request, &line);
        let extensions = request.extensions_mut();
        extensions.insert(Connection { peer, secure, since: SystemTime::now() });
        extensions.insert(line.clone());
        let mut app = entrance.app.clone();
        async move {
            poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut app, context)).await?;
            app.call(request.map(Body::new)).await
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(wire), service).with_upgrades());
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = entrance.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, %peer, "a connection broke");
    }
}
