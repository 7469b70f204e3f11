//! Serves a router of pages for operators on a separate address, for browsers that keep connections open.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::accept::{INSPECTION_TIMEOUT, accept_all, http};
use super::connection_slots::{ConnectionSlot, ConnectionSlots};

/// The maximum number of connections. A browser keeps up to six.
const CONNECTIONS: usize = 128;

/// The deadline of the last response of a connection.
const LAST_RESPONSE: Duration = Duration::from_secs(2);

/// Serves a router on a separate address, without TLS. Ends soon after `closing` is cancelled.
pub(crate) async fn serve_pages(listener: TcpListener, app: Router, closing: CancellationToken) {
    let slots = ConnectionSlots::new(CONNECTIONS);
    let serve_one = |stream, peer: SocketAddr| {
        serve_page_connection(stream, peer, app.clone(), slots.acquire(peer.ip()), closing.clone())
    };
    accept_all(listener, closing.clone(), serve_one).await;
}

async fn serve_page_connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    slot: ConnectionSlot,
    closing: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut app = app.clone();
        async move {
            std::future::poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut app, context)).await?;
            let response: Response = app.call(request.map(Body::new)).await?;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut http = http();
    http.header_read_timeout(INSPECTION_TIMEOUT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        // A request that has arrived is answered first.
        biased;
        outcome = connection.as_mut() => Some(outcome),
        // A newer connection has evicted this one.
        () = slot.evicted() => return,
        () = closing.cancelled() => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            match timeout(LAST_RESPONSE, connection).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, %peer, "connection failed");
    }
}
