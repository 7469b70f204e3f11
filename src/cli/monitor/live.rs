//! `/api/live`: live traffic as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode, Uri, header};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::State;
use super::api::{Watched, parameter};
use crate::cli::observer::{Filter, Watching};

/// The interval at which a viewer gets at least a count of skipped messages or a comment. The writes detect a dead
/// viewer.
const TICK: Duration = Duration::from_secs(1);

/// The maximum size of a filter, in bytes.
const FILTER_BYTES: usize = 200;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/api/live", get(live))
}

async fn live(
    Extract(state): Extract<Arc<State>>,
    Extension(shared): Watched,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let text = parameter(&uri, "search").unwrap_or_default().to_lowercase();
    if text.len() > FILTER_BYTES {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let heartbeats = parameter(&uri, "heartbeats").is_some_and(|value| value == "1");
    let Some(watching) = shared.watch(Filter { text, heartbeats }) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many viewers\n").into_response();
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let viewer = Viewer { watching, ticks, told: 0, state, headers };
    let frames = stream::unfold(viewer, async |mut viewer| {
        let frame = viewer.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(frame)), viewer))
    });
    // The second header keeps proxies from buffering the stream.
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

/// A viewer, and the state that it knows.
struct Viewer {
    watching: Watching,
    ticks: Interval,
    /// The number of skipped messages that was last sent to the viewer.
    told: u64,
    state: Arc<State>,
    /// The headers of its request.
    headers: HeaderMap,
}

impl Viewer {
    /// The next event of the stream, or `None` at the end.
    async fn next(&mut self) -> Option<String> {
        tokio::select! {
            line = self.watching.lines.recv() => Some(format!("data: {}\n\n", line?)),
            _ = self.ticks.tick() => {
                // Its session may have ended, or its token may no longer be listed.
                if !self.state.access.allows(&self.headers) {
                    return None;
                }
                let skipped = self.watching.skipped();
                match skipped == self.told {
                    true => Some(":\n\n".into()),
                    false => {
                        self.told = skipped;
                        Some(format!("event: skipped\ndata: {skipped}\n\n"))
                    }
                }
            }
            () = self.state.closing.cancelled() => None,
        }
    }
}
