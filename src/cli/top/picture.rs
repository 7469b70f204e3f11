//! A snapshot of the observer for display.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::view::Sort;
use crate::cli::observer::{Database, Link, NodeView, Shared};
use crate::cli::traffic::{By, Counts, Row, SECONDS};
use crate::protocol::MessageKind;
use crate::safe_text;

/// The number of drawn seconds of a row.
const TREND: usize = 60;

/// The whole seconds that the rates cover.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) enum Window {
    /// The last seconds, up to this number.
    Last(usize),
    /// All seconds from this one on, or one second if there is none.
    Since(u64),
}

/// A snapshot of the observer.
pub(in crate::cli) struct Picture {
    pub(super) time: Timestamp,
    pub(super) server: String,
    pub(super) namespaces: Vec<String>,
    /// The current second, which is not over yet.
    pub(in crate::cli) second: u64,
    /// The number of whole seconds that the rates cover. It is 0 at the start.
    pub(super) seconds: usize,
    pub(super) link: Link,
    /// The messages of these seconds.
    pub(in crate::cli) recent: Counts,
    /// Events and bytes of each of the last seconds, the oldest first.
    pub(super) events: Vec<u64>,
    pub(super) bytes: Vec<u64>,
    pub(in crate::cli) nodes: Vec<NodeView>,
    pub(super) sockets: Option<usize>,
    pub(super) sockets_age: Option<Duration>,
    pub(super) database: Database,
    pub(in crate::cli) by: By,
    /// Unsorted.
    pub(in crate::cli) rows: Vec<Ranked>,
    pub(in crate::cli) other: Ranked,
}

/// A row of a ranking.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli) struct Ranked {
    pub(in crate::cli) namespace: String,
    /// `None` for a broadcast to all sockets, and for an event without a name.
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) per_second: f64,
    pub(in crate::cli) bytes_per_second: f64,
    /// The messages and bytes in ten minutes.
    pub(in crate::cli) messages: u64,
    pub(in crate::cli) bytes: u64,
    /// The messages of the last seconds, the oldest first.
    pub(in crate::cli) trend: Vec<u64>,
}

impl Ranked {
    fn of(row: &Row, second: u64, seconds: usize) -> Self {
        let (recent, all) = (row.recent(second, seconds), row.recent(second, SECONDS));
        Self {
            namespace: safe_text::line(row.namespace()).into_owned(),
            name: row.safe_name(),
            per_second: rate(recent.messages, seconds),
            bytes_per_second: rate(recent.bytes, seconds),
            messages: all.messages,
            bytes: all.bytes,
            trend: row.history(second, TREND).collect(),
        }
    }

    /// The row as JSON, with the messages of each of the last seconds.
    pub(in crate::cli) fn with_trend(&self) -> Value {
        let mut object = self.object();
        object["trend"] = json!(self.trend);
        object
    }

    fn object(&self) -> Value {
        json!({
            "namespace": self.namespace,
            "name": self.name,
            "perSecond": hundredths(self.per_second),
            "bytesPerSecond": hundredths(self.bytes_per_second),
            "count": self.messages,
            "bytes": self.bytes,
        })
    }
}

impl Picture {
    /// Takes a snapshot. Rates cover the window, as far as the counters reach back.
    pub(in crate::cli) fn take(shared: &Shared, by: By, window: Window) -> Self {
        let traffic = shared.traffic();
        let second = shared.second();
        let seconds = match window {
            Window::Last(seconds) => seconds,
            Window::Since(first) => {
                usize::try_from(second.saturating_sub(first)).unwrap_or(usize::MAX).max(1)
            }
        };
        let seconds = seconds.min(usize::try_from(second).unwrap_or(usize::MAX)).min(SECONDS);
        let recent = traffic.before(second, seconds).fold(Counts::default(), |sum, one| sum.plus(&one));
        let (events, bytes) = traffic.before(second, SECONDS).map(|one| (one.events(), one.bytes())).unzip();
        let ranking = traffic.ranking(by);
        let rows = ranking.rows().map(|row| Ranked::of(row, second, seconds));
        let rows: Vec<_> = rows.filter(|row| row.messages > 0 || row.trend.iter().any(|n| *n > 0)).collect();
        let other = Ranked::of(ranking.other(), second, seconds);
        drop(traffic);
        let mut picture = Self {
            time: Timestamp::now(),
            server: shared.server.clone(),
            namespaces: shared
                .namespaces()
                .iter()
                .map(|nsp| safe_text::line(nsp.as_str()).into_owned())
                .collect(),
            second,
            seconds,
            link: shared.link(),
            recent,
            events,
            bytes,
            nodes: Vec::new(),
            sockets: None,
            sockets_age: None,
            database: shared.database(),
            by,
            rows,
            other,
        };
        picture.refresh(shared);
        picture
    }

    /// Updates the parts about servers, sockets and Postgres.
    pub(super) fn refresh(&mut self, shared: &Shared) {
        self.link = shared.link();
        self.database = shared.database();
        let inventory = shared.inventory();
        self.nodes = shared.nodes();
        self.sockets = inventory.as_ref().map(|inventory| inventory.total);
        self.sockets_age = inventory.map(|inventory| inventory.age());
    }

    /// The rate of a count per second.
    pub(in crate::cli) fn per_second(&self, count: u64) -> f64 {
        rate(count, self.seconds)
    }

    /// The rows that match the filter, sorted.
    pub(in crate::cli) fn sorted(&self, sort: Sort, is_reversed: bool, filter: &str) -> Vec<&Ranked> {
        let filter = filter.to_lowercase();
        let is_shown = |row: &&Ranked| {
            filter.is_empty()
                || row.name.as_ref().is_some_and(|name| name.to_lowercase().contains(&filter))
                || row.namespace.to_lowercase().contains(&filter)
        };
        let mut rows: Vec<_> = self.rows.iter().filter(is_shown).collect();
        rows.sort_by(|a, b| {
            let order = match sort {
                Sort::Rate => b.per_second.total_cmp(&a.per_second),
                Sort::Bytes => b.bytes_per_second.total_cmp(&a.bytes_per_second),
                Sort::Count => b.messages.cmp(&a.messages),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            let order = order.then_with(|| b.messages.cmp(&a.messages).then(a.name.cmp(&b.name)));
            match sort {
                Sort::Name => (&a.name, &a.namespace).cmp(&(&b.name, &b.namespace)),
                _ => order.then_with(|| a.namespace.cmp(&b.namespace)),
            }
        });
        if is_reversed {
            rows.reverse();
        }
        rows
    }

    /// The snapshot as JSON, for programs.
    pub(in crate::cli) fn object(&self, sort: Sort, limit: usize) -> Value {
        let types: serde_json::Map<_, _> = MessageKind::ALL
            .iter()
            .map(|kind| (kind.name().to_owned(), json!(self.recent.of_kind(*kind))))
            .collect();
        let rows = self.sorted(sort, false, "");
        let of = |count| hundredths(self.per_second(count));
        json!({
            "time": format!("{:.3}", self.time),
            "namespaces": self.namespaces,
            "intervalMs": self.seconds * 1000,
            "connected": self.link.lost.is_none(),
            "nodes": self.nodes.len(),
            "sockets": self.sockets,
            "eventsPerSecond": of(self.recent.events()),
            "messagesPerSecond": of(self.recent.messages()),
            "acksPerSecond": of(self.recent.acks()),
            "inlineBytesPerSecond": of(self.recent.inline_bytes),
            "attachmentBytesPerSecond": of(self.recent.attachment_bytes),
            "missed": self.recent.missed,
            "types": types,
            "attachments": self.database.table.map(|table| json!({
                "rows": table.rows,
                "bytes": table.bytes,
                "isEstimate": table.is_estimate,
                "diskBytes": table.disk_bytes,
                "oldestAgeMs": table.oldest.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            })),
            "queueUsage": self.database.queue_usage,
            "commitsPerSecond": self.database.commits_per_second.map(hundredths),
            "walBytesPerSecond": self.database.wal_per_second.map(hundredths),
            "by": self.by.name(),
            "rows": rows.iter().take(limit).map(|row| row.object()).collect::<Vec<_>>(),
            "moreRows": rows.len().saturating_sub(limit),
            "other": { "perSecond": hundredths(self.other.per_second), "bytesPerSecond": hundredths(self.other.bytes_per_second), "count": self.other.messages, "bytes": self.other.bytes },
        })
    }
}

fn rate(count: u64, seconds: usize) -> f64 {
    count as f64 / seconds.max(1) as f64
}

/// Rounds to two decimals.
fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
