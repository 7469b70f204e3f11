//! HTTP beside Socket.IO: `/healthz`, `/readyz`, `/metrics`, CORS, and the count of refused requests.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, Method, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::loopback::LoopbackHealth;
use super::metrics::Metrics;
use super::options::CorsOrigins;
use super::readiness::{Observed, Readiness};
use super::shared_io::SharedIo;
use super::traffic::Traffic;
use crate::adapter::PostgresAdapterCtr;

/// The state behind these routes.
pub(super) struct Inspection {
    pub(super) io: SharedIo,
    pub(super) adapter: PostgresAdapterCtr,
    pub(super) loopback: LoopbackHealth,
    pub(super) metrics: Metrics,
    pub(super) traffic: Arc<Traffic>,
    pub(super) closing: CancellationToken,
}

/// `/healthz`, `/readyz` and `/metrics`.
pub(super) fn routes(inspection: Inspection) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(inspection))
}

async fn ready(State(inspection): State<Arc<Inspection>>) -> (StatusCode, &'static str) {
    let readiness = Readiness::of(Observed {
        is_closing: inspection.closing.is_cancelled(),
        is_listening: inspection.adapter.is_listening(),
        loopback: inspection.loopback.get(),
    });
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, readiness.text())
}

async fn metrics(State(inspection): State<Arc<Inspection>>) -> impl IntoResponse {
    inspection.traffic.publish();
    let text = inspection.metrics.render(inspection.io.get().as_ref(), &inspection.adapter);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Counts the requests that are answered with an error status.
pub(super) fn count_refusals(app: Router) -> Router {
    app.layer(middleware::from_fn(async |request, next: Next| -> Response {
        let response = next.run(request).await;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let status = status.as_u16().to_string();
            metrics::counter!("pgio_requests_refused_total", "status" => status).increment(1);
        }
        response
    }))
}

/// Forbids caching of the responses of the Socket.IO endpoint, as Node does. A cached poll would return old packets.
pub(super) fn forbid_caching(app: Router, path: String) -> Router {
    app.layer(middleware::from_fn(move |request: Request, next: Next| {
        let is_socket_io = request.uri().path().starts_with(&path);
        async move {
            let mut response = next.run(request).await;
            if is_socket_io {
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            response
        }
    }))
}

/// Adds the CORS headers that let pages of other origins connect.
pub(super) fn allow_origins(app: Router, origins: CorsOrigins) -> Router {
    let cors = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request());
    match origins {
        CorsOrigins::None => app,
        CorsOrigins::Any => app.layer(cors.allow_origin(tower_http::cors::Any)),
        CorsOrigins::These(origins) => {
            app.layer(cors.allow_origin(AllowOrigin::list(origins)).allow_credentials(true))
        }
    }
}
