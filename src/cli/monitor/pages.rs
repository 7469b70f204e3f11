//! The web page, the login, and the headers of every response.

use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State as Extract};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::State;
use super::access::{Login, bearer, cookie, is_of_other_site};
use super::api::form_value;

const INDEX: &str = include_str!("web/index.html");
const LOGIN: &str = include_str!("web/login.html");
const SCRIPT: &str = include_str!("web/app.js");
const STYLE: &str = include_str!("web/app.css");
const ICON: &str = include_str!("web/icon.svg");

/// The message of the login page after a wrong token.
const WRONG: &str = "<p class=\"bad\" role=\"alert\">Wrong token: the token file does not list it.</p>";

/// The placeholder of the message in the login page.
const MESSAGE: &str = "<!-- message -->";

/// The maximum size of a login form, in bytes.
const FORM_BYTES: usize = 8192;

/// The content security policy: the page loads nothing from other origins, runs no inline script, and is in no frame of
/// another site.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every response.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds the page and the login to the routes. The page and the routes require access.
pub(super) fn with_pages(routes: Router<Arc<State>>, state: Arc<State>) -> Router {
    let inside = routes
        .layer(middleware::from_fn_with_state(state.clone(), watch))
        .route("/", get(async || html(INDEX.to_owned())))
        .route("/app.js", get(async || typed("text/javascript; charset=utf-8", SCRIPT)))
        .layer(middleware::from_fn_with_state(state.clone(), require_access));
    Router::new()
        .route("/app.css", get(async || typed("text/css; charset=utf-8", STYLE)))
        .route("/icon.svg", get(async || typed("image/svg+xml", ICON)))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .merge(inside)
        .layer(middleware::from_fn(add_headers))
        .with_state(state)
}

fn typed(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn html(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Adds the observer's state to a request.
async fn watch(Extract(state): Extract<Arc<State>>, mut request: Request, next: Next) -> Response {
    match state.watch.shared().await {
        Ok(shared) => {
            request.extensions_mut().insert(shared);
            next.run(request).await
        }
        Err(failure) => {
            tracing::warn!(%failure, "cannot observe the cluster");
            (StatusCode::SERVICE_UNAVAILABLE, "cannot observe the cluster; the log has the reason\n")
                .into_response()
        }
    }
}

async fn require_access(Extract(state): Extract<Arc<State>>, request: Request, next: Next) -> Response {
    // The page cannot read the response, but it could make the monitor work.
    if is_of_other_site(request.headers()) {
        return (StatusCode::FORBIDDEN, "requests of pages of other sites are not allowed\n").into_response();
    }
    if state.access.allows(request.headers()) {
        return next.run(request).await;
    }
    if !state.access.needs_token() {
        let text = "unknown Host header: use the IP address of the monitor, or localhost (protection from DNS rebinding)\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    if bearer(request.headers()).is_some() && !state.access.delay_wrong().await {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    match request.uri().path() {
        "/" => (StatusCode::UNAUTHORIZED, html(LOGIN.to_owned())).into_response(),
        _ => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, "a token is needed\n").into_response()
        }
    }
}

async fn log_in(Extract(state): Extract<Arc<State>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, FORM_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let form = String::from_utf8_lossy(&body);
    let token = form_value(&form, "token").unwrap_or_default();
    match state.access.log_in(token.trim()).await {
        Login::Session(id) => to_page(&cookie(Some(&id), &head.headers)),
        Login::Wrong => (StatusCode::UNAUTHORIZED, html(LOGIN.replace(MESSAGE, WRONG))).into_response(),
        Login::TooMany => StatusCode::TOO_MANY_REQUESTS.into_response(),
    }
}

async fn log_out(Extract(state): Extract<Arc<State>>, headers: HeaderMap) -> Response {
    state.access.log_out(&headers);
    to_page(&cookie(None, &headers))
}

/// Redirects to the page, and sets a cookie.
fn to_page(cookie: &str) -> Response {
    let headers = [(header::LOCATION, "/"), (header::SET_COOKIE, cookie)];
    (StatusCode::SEE_OTHER, headers).into_response()
}
