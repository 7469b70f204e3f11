//! Live traffic for viewers: a short text for each message that a viewer wants, and a count of the skipped messages.
//!
//! Each viewer has a bounded queue and a budget of messages per second. A message beyond either limit is counted and
//! not shown. So neither a slow viewer nor a flood holds up the counting of all traffic.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::lock;
use crate::cli::timestamp;
use crate::cli::traffic::size;
use crate::cluster::{Content, Received};
use crate::protocol::{Body, EventArgs, Message};
use crate::safe_text;

/// The maximum number of viewers.
const VIEWERS: usize = 16;

/// The capacity of a viewer's queue, in messages. Each message has less than 2 KB.
const QUEUE: usize = 256;

/// The maximum number of messages that a viewer is shown per second. Nobody can read more.
const BUDGET: u32 = 100;

/// The maximum number of shown rooms of a message.
const ROOMS: usize = 8;

/// The maximum number of shown bytes: of a name, and of the arguments.
const NAME_BYTES: usize = 80;
const TEXT_BYTES: usize = 240;

/// Selects the messages for a viewer.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Filter {
    /// Part of the event, a room, the namespace, the sender or the type, in lower case. An empty text selects all
    /// messages.
    pub(in crate::cli) text: String,
    /// Whether to show heartbeats.
    pub(in crate::cli) heartbeats: bool,
}

impl Filter {
    fn wants(&self, received: &Received) -> bool {
        let Some(header) = received.content.header() else { return self.text.is_empty() };
        if header.kind.is_heartbeat() && !self.heartbeats {
            return false;
        }
        if self.text.is_empty() {
            return true;
        }
        let has = |text: &str| text.to_lowercase().contains(&self.text);
        let in_header = has(header.nsp.as_str()) || has(header.uid.as_str()) || has(header.kind.name());
        in_header
            || match &received.content {
                Content::Message(Message { body, .. }) => {
                    let event = event_of(body).and_then(|event| event.event().ok());
                    let rooms = body.options().map(|opts| opts.rooms.as_slice()).unwrap_or_default();
                    event.is_some_and(|event| has(&event)) || rooms.iter().any(|room| has(room))
                }
                _ => false,
            }
    }
}

/// The viewers of an observer.
#[derive(Default)]
pub(super) struct Live {
    viewers: Mutex<Vec<Viewer>>,
    /// The number of viewers. A message thus costs next to nothing while there are no viewers.
    count: AtomicUsize,
    next: AtomicU64,
}

struct Viewer {
    id: u64,
    filter: Filter,
    lines: mpsc::Sender<Arc<str>>,
    skipped: Arc<AtomicU64>,
    second: u64,
    shown: u32,
}

/// The subscription of a viewer. Dropping it ends the subscription.
pub(in crate::cli) struct Watching {
    live: Arc<Live>,
    id: u64,
    pub(in crate::cli) lines: mpsc::Receiver<Arc<str>>,
    skipped: Arc<AtomicU64>,
}

impl Watching {
    /// The number of skipped messages so far.
    pub(in crate::cli) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut viewers = lock(&self.live.viewers);
        viewers.retain(|viewer| viewer.id != self.id);
        self.live.count.store(viewers.len(), Ordering::Relaxed);
    }
}

impl Live {
    /// Adds a viewer. Returns `None` if there are too many viewers.
    pub(super) fn watch(self: &Arc<Self>, filter: Filter) -> Option<Watching> {
        let mut viewers = lock(&self.viewers);
        if viewers.len() >= VIEWERS {
            return None;
        }
        let (sender, lines) = mpsc::channel(QUEUE);
        let (id, skipped) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(AtomicU64::new(0)));
        viewers.push(Viewer { id, filter, lines: sender, skipped: skipped.clone(), second: 0, shown: 0 });
        self.count.store(viewers.len(), Ordering::Relaxed);
        Some(Watching { live: self.clone(), id, lines, skipped })
    }

    /// Ends the subscriptions of all viewers.
    pub(super) fn close(&self) {
        lock(&self.viewers).clear();
        self.count.store(0, Ordering::Relaxed);
    }

    /// Queues a message for every viewer that wants it.
    pub(super) fn show(&self, second: u64, received: &Received) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut line: Option<Arc<str>> = None;
        for viewer in lock(&self.viewers).iter_mut().filter(|viewer| viewer.filter.wants(received)) {
            if viewer.second != second {
                (viewer.second, viewer.shown) = (second, 0);
            }
            let is_sent = viewer.shown < BUDGET && {
                let line = line.get_or_insert_with(|| object(received).to_string().into());
                viewer.lines.try_send(line.clone()).is_ok()
            };
            match is_sent {
                true => viewer.shown += 1,
                false => drop(viewer.skipped.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}

fn event_of(body: &Body) -> Option<&EventArgs> {
    match body {
        Body::Broadcast { event, .. } | Body::ServerSideEmit { event, .. } => Some(event),
        _ => None,
    }
}

/// The summary of a message, as JSON.
fn object(received: &Received) -> Value {
    let cut = |text: &str| safe_text::cut(text, NAME_BYTES).into_owned();
    let header = received.content.header();
    let mut object = json!({
        "time": format!("{:.3}", timestamp::of(received.time)),
        "namespace": header.as_ref().map(|header| cut(header.nsp.as_str())),
        "uid": header.as_ref().map(|header| cut(header.uid.as_str())),
        "type": header.as_ref().map_or("malformed", |header| header.kind.name()),
        "bytes": size(received),
        "attachment": received.attachment.map(|attachment| attachment.id.to_string()),
    });
    let mut add = |key: &str, value: Value| object[key] = value;
    match &received.content {
        Content::Message(Message { body, .. }) => {
            if let Some(event) = event_of(body) {
                add("event", json!(event.event().ok().map(|name| cut(&name))));
                // The event of an attachment may be large. Its size says enough.
                add("text", json!(event.as_json().map(|text| safe_text::cut(text, TEXT_BYTES))));
            }
            if let Some(opts) = body.options() {
                let rooms: Vec<_> = opts.rooms.iter().take(ROOMS).map(|room| cut(room)).collect();
                add("rooms", json!(rooms));
                add("moreRooms", json!(opts.rooms.len().saturating_sub(ROOMS)));
            }
            match body {
                Body::SocketsJoin { rooms, .. } | Body::SocketsLeave { rooms, .. } => {
                    let rooms: Vec<_> = rooms.iter().take(ROOMS).map(|room| cut(room)).collect();
                    add("text", json!(rooms.join(", ")));
                }
                Body::FetchSocketsResponse { sockets, .. } => {
                    add("text", json!(format!("{} sockets", sockets.len())));
                }
                _ => {}
            }
        }
        other => add("error", json!(safe_text::cut(&other.failure(), TEXT_BYTES))),
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::traffic::tests::{broadcast, received};

    fn watch(live: &Arc<Live>, text: &str) -> Watching {
        live.watch(Filter { text: text.into(), heartbeats: false }).unwrap()
    }

    fn events(watching: &mut Watching) -> Vec<String> {
        std::iter::from_fn(|| watching.lines.try_recv().ok())
            .map(|line| serde_json::from_str::<Value>(&line).unwrap()["event"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn each_viewer_sees_what_it_wants() {
        let live = Arc::new(Live::default());
        let (mut all, mut some) = (watch(&live, ""), watch(&live, "room7"));
        live.show(0, &received("a", broadcast("one", &["ROOM7"]), None));
        live.show(0, &received("a", broadcast("two", &[]), None));
        live.show(0, &received("a", Body::Heartbeat, None));
        assert_eq!(events(&mut all), ["one", "two"]);
        assert_eq!(events(&mut some), ["one"]);
        drop((all, some));
        assert_eq!(live.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let live = Arc::new(Live::default());
        let mut viewer = watch(&live, "");
        for second in 0..10 {
            (0..1000).for_each(|_| live.show(second, &received("a", broadcast("e", &[]), None)));
        }
        assert_eq!(events(&mut viewer).len(), QUEUE);
        assert_eq!(viewer.skipped(), 10_000 - QUEUE as u64);
        live.show(10, &received("a", broadcast("later", &[]), None));
        assert_eq!(events(&mut viewer), ["later"]);
        let others: Vec<_> = (1..VIEWERS).map(|_| watch(&live, "")).collect();
        assert!(live.watch(Filter::default()).is_none());
        drop(others);
        assert!(live.watch(Filter::default()).is_some());
    }

    #[test]
    fn a_hostile_message_is_short_and_escaped() {
        let rooms: Vec<_> = (0..1000).map(|i| format!("{i}{}", "<b>\u{1b}".repeat(100))).collect();
        let rooms: Vec<_> = rooms.iter().map(String::as_str).collect();
        let line = object(&received("\u{202e}", broadcast(&"\n".repeat(5000), &rooms), None)).to_string();
        assert!(line.len() < 2000 && !line.contains(['\u{1b}', '\u{202e}', '\n']), "{}: {line}", line.len());
    }
}
