//! `/api/*`: the state of the observer as JSON. Every list is paginated.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use clap::ValueEnum;
use http::{Uri, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::State;
use crate::cli::observer::{NodeView, RoomMembers, Shared, SocketView};
use crate::cli::top::picture::{Picture, Window};
use crate::cli::top::view::Sort;
use crate::cli::traffic::{By, SECONDS};
use crate::safe_text;

/// The window of the rates, in seconds. Rates of a shorter window would flicker.
const WINDOW: usize = 5;

/// The maximum and the default number of items of a page.
const PAGE: usize = 200;
const USUAL_PAGE: usize = 25;

/// The state of the observer, an argument of every route of the API.
pub(super) type Watched = Extension<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/api/overview", get(overview))
        .route("/api/history", get(history))
        .route("/api/rates", get(rates))
        .route("/api/nodes", get(nodes))
        .route("/api/rooms", get(rooms))
        .route("/api/sockets", get(sockets))
        .route("/api/doctor", get(doctor))
}

/// A parameter of a query, decoded.
pub(super) fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<Cow<'a, str>> {
    form_value(uri.query()?, name)
}

/// A value of a form, decoded.
pub(super) fn form_value<'a>(form: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    match value.contains('+') {
        true => {
            Some(Cow::Owned(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned()))
        }
        false => Some(percent_decode_str(value).decode_utf8_lossy()),
    }
}

/// A JSON response.
fn answer(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// The requested part of a list.
struct Page {
    offset: usize,
    limit: usize,
    /// The search text, in lower case.
    search: String,
}

impl Page {
    fn of(uri: &Uri) -> Self {
        let number = |name| parameter(uri, name).and_then(|value| value.parse::<usize>().ok());
        Self {
            offset: number("offset").unwrap_or_default(),
            limit: number("limit").unwrap_or(USUAL_PAGE).min(PAGE),
            search: parameter(uri, "search").unwrap_or_default().to_lowercase(),
        }
    }

    fn has(&self, text: &str) -> bool {
        self.search.is_empty() || text.to_lowercase().contains(&self.search)
    }

    /// The items of the page, and the number of items that match the search.
    fn cut<'a, T>(
        &self,
        items: &'a [T],
        is_found: impl Fn(&T) -> bool,
        show: impl Fn(&'a T) -> Value,
    ) -> (Vec<Value>, usize) {
        let found = items.iter().filter(|item| is_found(item));
        let (mut shown, mut count) = (Vec::new(), 0);
        for item in found {
            if count >= self.offset && shown.len() < self.limit {
                shown.push(show(item));
            }
            count += 1;
        }
        (shown, count)
    }
}

async fn overview(Extract(state): Extract<Arc<State>>, Extension(shared): Watched) -> Response {
    let shared = &shared;
    let picture = Picture::take(shared, By::Event, Window::Last(WINDOW));
    let mut object = picture.object(Sort::Rate, 0);
    let inventory = shared.inventory();
    let link = shared.link();
    let total = *shared.traffic().total();
    for key in ["by", "rows", "moreRows", "other", "types"] {
        if let Some(entries) = object.as_object_mut() {
            entries.shift_remove(key);
        }
    }
    object["database"] = json!(safe_text::line(&shared.server));
    object["version"] = json!(env!("CARGO_PKG_VERSION"));
    object["uptimeSeconds"] = json!(shared.started().elapsed().as_secs());
    object["lost"] = json!(link.lost.map(|lost| safe_text::line(&lost).into_owned()));
    object["problem"] = json!(link.problem.map(|problem| safe_text::line(&problem).into_owned()));
    object["interruptions"] = json!(link.interruptions);
    object["rooms"] = json!(inventory.as_ref().map(|inventory| inventory.rooms_total));
    object["socketsAgeSeconds"] = json!(inventory.map(|inventory| inventory.age().as_secs()));
    object["asksForSockets"] = json!(state.has_sockets);
    object["missedInAll"] = json!(total.missed);
    object["needsToken"] = json!(state.access.needs_token());
    answer(&object)
}

async fn history(Extension(shared): Watched) -> Response {
    let traffic = shared.traffic();
    let second = shared.second();
    let counts: Vec<_> = traffic.before(second, SECONDS).collect();
    drop(traffic);
    let gauges = shared.gauges(second, SECONDS);
    let of = |read: fn(&crate::cli::traffic::Counts) -> u64| counts.iter().map(read).collect::<Vec<_>>();
    let whole = |number: f32| number.round() as u64;
    answer(&json!({
        "seconds": counts.len(),
        "events": of(|second| second.events()),
        "acks": of(|second| second.acks()),
        "messages": of(|second| second.messages()),
        "inlineBytes": of(|second| second.inline_bytes),
        "attachmentBytes": of(|second| second.attachment_bytes),
        "nodes": gauges.iter().map(|second| second.nodes).collect::<Vec<_>>(),
        "sockets": gauges.iter().map(|second| second.sockets).collect::<Vec<_>>(),
        "commits": gauges.iter().map(|second| whole(second.commits)).collect::<Vec<_>>(),
        "walBytes": gauges.iter().map(|second| whole(second.wal_bytes)).collect::<Vec<_>>(),
    }))
}

async fn rates(Extension(shared): Watched, uri: Uri) -> Response {
    let by = parameter(&uri, "by").and_then(|by| By::from_str(&by, true).ok()).unwrap_or_default();
    let sort = parameter(&uri, "sort").and_then(|sort| Sort::from_str(&sort, true).ok()).unwrap_or_default();
    let page = Page::of(&uri);
    let picture = Picture::take(&shared, by, Window::Last(WINDOW));
    let rows = picture.sorted(sort, false, &page.search);
    let shown = rows.iter().skip(page.offset).take(page.limit).map(|row| row.with_trend());
    answer(&json!({
        "by": by.name(),
        "matching": rows.len(),
        "rows": shown.collect::<Vec<_>>(),
        "other": picture.other.with_trend(),
    }))
}

async fn nodes(Extension(shared): Watched, uri: Uri) -> Response {
    let page = Page::of(&uri);
    let nodes = shared.nodes();
    let now = Instant::now();
    let address = |node: &NodeView| node.client.as_ref().and_then(|client| client.address.clone());
    let application = |node: &NodeView| node.client.as_ref().and_then(|client| client.application.clone());
    let is_found = |node: &NodeView| {
        page.has(node.name.uid.as_str())
            || page.has(node.name.nsp.as_str())
            || [address(node), application(node)].into_iter().flatten().any(|text| page.has(&text))
    };
    let show = |node: &NodeView| {
        json!({
            "uid": safe_text::cut(node.name.uid.as_str(), 64),
            "namespace": safe_text::line(node.name.nsp.as_str()),
            "rttMs": node.round_trip.map(|time| (time.as_secs_f64() * 1e4).round() / 10.0),
            "lastSeenSeconds": now.saturating_duration_since(node.last_heard).as_secs(),
            "sockets": node.sockets,
            "address": address(node),
            "application": application(node).map(|name| safe_text::cut(&name, 64).into_owned()),
        })
    };
    let (shown, matching) = page.cut(&nodes, is_found, show);
    answer(&json!({ "total": nodes.len(), "matching": matching, "nodes": shown }))
}

async fn rooms(Extension(shared): Watched, uri: Uri) -> Response {
    let page = Page::of(&uri);
    let inventory = shared.inventory();
    let rooms = inventory.as_ref().map(|inventory| inventory.rooms.as_slice()).unwrap_or_default();
    let show = |room: &RoomMembers| {
        json!({
            "room": room.room,
            "namespace": safe_text::line(room.nsp.as_str()),
            "sockets": room.sockets,
            "nodes": room.nodes,
        })
    };
    let (shown, matching) = page.cut(rooms, |room| page.has(&room.room), show);
    let total = inventory.as_ref().map_or(0, |inventory| inventory.rooms_total);
    answer(&json!({ "total": total, "matching": matching, "rooms": shown }))
}

async fn sockets(Extension(shared): Watched, uri: Uri) -> Response {
    let page = Page::of(&uri);
    let (room, node) = (parameter(&uri, "room"), parameter(&uri, "node"));
    let inventory = shared.inventory();
    let sockets = inventory.as_ref().map(|inventory| inventory.sockets.as_slice()).unwrap_or_default();
    let is_found = |socket: &SocketView| {
        room.as_ref().is_none_or(|room| socket.rooms.iter().any(|one| **one == **room))
            && node.as_ref().is_none_or(|node| socket.node.as_str() == node)
            && (page.has(&socket.id)
                || page.has(socket.node.as_str())
                || socket.address.as_deref().is_some_and(|address| page.has(address))
                || socket.rooms.iter().any(|room| page.has(room))
                || page.has(&socket.data))
    };
    let show = |socket: &SocketView| {
        json!({
            "id": socket.id,
            "node": safe_text::cut(socket.node.as_str(), 64),
            "namespace": safe_text::line(socket.nsp.as_str()),
            "rooms": socket.rooms.iter().take(20).collect::<Vec<_>>(),
            "roomsTotal": socket.rooms.len(),
            "address": socket.address,
            "transport": socket.transport,
            "connectedAt": socket.connected_at.map(|time| format!("{time:.3}")),
            "data": socket.data,
        })
    };
    let (shown, matching) = page.cut(sockets, is_found, show);
    let total = inventory.as_ref().map_or(0, |inventory| inventory.total);
    answer(&json!({ "total": total, "matching": matching, "sockets": shown }))
}

async fn doctor(Extract(state): Extract<Arc<State>>, uri: Uri) -> Response {
    let is_fresh_wanted = parameter(&uri, "fresh").is_some_and(|value| value == "1");
    answer(&state.doctor.findings(is_fresh_wanted).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let uri: Uri = "/api/rooms?search=a%2Fb+c&offset=3&limit=1000000&empty=".parse().unwrap();
        assert_eq!(parameter(&uri, "search").unwrap(), "a/b c");
        assert_eq!((parameter(&uri, "empty").unwrap(), parameter(&uri, "none")), ("".into(), None));
        let page = Page::of(&uri);
        assert_eq!((page.offset, page.limit), (3, PAGE));
    }

    #[test]
    fn a_page_of_many_is_found_and_counted() {
        let items: Vec<_> = (0..10_000).map(|i| format!("socket{i}")).collect();
        let uri: Uri = "/?search=T99&offset=100&limit=5".parse().unwrap();
        let page = Page::of(&uri);
        let (shown, count) = page.cut(&items, |item| page.has(item), |item| json!(item));
        assert_eq!((shown.len(), count), (5, 111));
        assert_eq!(shown[0], "socket9989");
    }
}
