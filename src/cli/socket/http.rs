//! Sends HTTP requests, each on its own connection. So no server can close a connection between two requests.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;

use super::{MAX_MESSAGE_BYTES, Target, Trouble, stream};
use crate::error::without_os_code;
use crate::safe_text;

pub(super) const USER_AGENT: &str = concat!("pgio/", env!("CARGO_PKG_VERSION"));

/// Sends a polling request of Engine.IO, and reads the response.
pub(super) async fn request(
    target: &Target,
    sid: Option<&str>,
    cookies: &str,
    body: Option<String>,
) -> Result<(HeaderMap, Bytes), Trouble> {
    let stream = stream::connect(target, stream::Certificates::Checked).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(away)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder()
        .method(method)
        .uri(target.request("polling", sid))
        .header(header::HOST, target.authority())
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, USER_AGENT);
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "text/plain;charset=UTF-8");
    }
    if !cookies.is_empty() {
        request = request.header(header::COOKIE, cookies);
    }
    if let Some(authorization) = target.authorization() {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let body = Full::new(Bytes::from(body.unwrap_or_default()));
    let request = request.body(body).map_err(|error| Trouble::Unsendable(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(away)?;
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, MAX_MESSAGE_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Trouble::Protocol(format!("an answer of more than {MAX_MESSAGE_BYTES} bytes")));
        }
        Err(error) => return Err(Trouble::Transient(without_os_code(&error))),
    };
    if head.status != StatusCode::OK {
        return Err(refusal(head.status, &body));
    }
    Ok((head.headers, body))
}

/// The trouble of a response that is not a success, with the reason that Engine.IO gives in JSON.
pub(super) fn refusal(status: StatusCode, body: &Bytes) -> Trouble {
    #[derive(Deserialize)]
    struct Reason {
        message: String,
    }
    let text = match serde_json::from_slice::<Reason>(body) {
        Ok(Reason { message }) => format!("HTTP {}: {}", status.as_u16(), safe_text::quoted(&message)),
        Err(_) => format!("HTTP {status}"),
    };
    Trouble::Transient(text)
}

fn away(error: hyper::Error) -> Trouble {
    match std::error::Error::source(&error) {
        Some(source) => Trouble::Transient(without_os_code(&source)),
        None => Trouble::Transient(without_os_code(&error)),
    }
}
