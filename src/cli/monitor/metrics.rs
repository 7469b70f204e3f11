//! `/metrics`: the cluster for Prometheus, with a bounded number of series.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header;

use super::State;
use super::api::Watched;
use crate::cli::observer::Shared;
use crate::protocol::MessageKind;

/// The label of all events without a counter of their own.
const OTHER: &str = "_other";

/// The maximum number of namespaces with their own series.
const NAMESPACES: usize = 200;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(Extension(shared): Watched) -> Response {
    let text = render(&shared);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The text of the metrics, under construction.
struct Text(String);

impl Text {
    /// Adds a metric: its name, type, help text and samples. Each sample has its labels.
    fn metric(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, f64)]) {
        if samples.is_empty() {
            return;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, "counter", help, &[(String::new(), value as f64)]);
    }

    /// Adds a gauge, unless its value is unknown.
    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        let samples: Vec<_> = value.map(|value| (String::new(), value)).into_iter().collect();
        self.metric(name, "gauge", help, &samples);
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}

fn render(shared: &Shared) -> String {
    let traffic = shared.traffic();
    let total = *traffic.total();
    let (events, other) = (traffic.event_names().sorted(), traffic.event_names().other());
    drop(traffic);
    let mut text = Text(String::new());
    let kinds: Vec<_> = MessageKind::ALL
        .iter()
        .map(|kind| (label("type", kind.name()), total.of_kind(*kind) as f64))
        .collect();
    text.metric(
        "pgio_cluster_messages_total",
        "counter",
        "Messages of servers and emitters, by type.",
        &kinds,
    );
    let mut by_event: BTreeMap<String, f64> = BTreeMap::new();
    for (name, count) in events {
        *by_event.entry(label("event", &name)).or_default() += count as f64;
    }
    *by_event.entry(label("event", OTHER)).or_default() += other as f64;
    let by_event: Vec<_> = by_event.into_iter().collect();
    text.metric(
        "pgio_cluster_events_total",
        "counter",
        "Events, by name: the first 50 names that came, and _other.",
        &by_event,
    );
    let bytes = [
        (label("in", "notification"), total.inline_bytes as f64),
        (label("in", "attachment"), total.attachment_bytes as f64),
    ];
    text.metric(
        "pgio_cluster_bytes_total",
        "counter",
        "Bytes of messages, inline and in attachments.",
        &bytes,
    );
    text.counter("pgio_cluster_attachments_total", "Messages that came as an attachment.", total.attachments);
    text.counter(
        "pgio_cluster_attachments_missing_total",
        "Messages whose attachment was gone.",
        total.missing,
    );
    text.counter(
        "pgio_cluster_messages_malformed_total",
        "Notifications that are not a valid message.",
        total.malformed,
    );
    text.counter(
        "pgio_cluster_messages_missed_total",
        "Messages that the monitor dropped uncounted, as it was too slow.",
        total.missed,
    );
    let (link, nodes, inventory, database) =
        (shared.link(), shared.nodes(), shared.inventory(), shared.database());
    text.gauge(
        "pgio_cluster_listener_up",
        "1 while the monitor receives notifications, 0 while it is not connected to Postgres.",
        Some(if link.lost.is_none() { 1.0 } else { 0.0 }),
    );
    text.counter(
        "pgio_cluster_interruptions_total",
        "How often the connection to Postgres was lost.",
        link.interruptions,
    );
    // While Postgres is unreachable it is not known which servers are live. Zero would look as if all of them had failed.
    let is_known = link.lost.is_none();
    let by_namespace = |count: &dyn Fn(&crate::Namespace) -> f64| -> Vec<_> {
        let namespaces = shared.namespaces();
        let shown = namespaces.iter().take(NAMESPACES).filter(|_| is_known);
        shown.map(|nsp| (label("namespace", nsp.as_str()), count(nsp))).collect()
    };
    let servers = by_namespace(&|nsp| nodes.iter().filter(|node| node.name.nsp == *nsp).count() as f64);
    text.metric("pgio_cluster_nodes", "gauge", "Servers that are live, by namespace.", &servers);
    if let Some(inventory) = inventory.filter(|_| is_known) {
        let sockets = by_namespace(&|nsp| {
            nodes.iter().filter(|node| node.name.nsp == *nsp).filter_map(|node| node.sockets).sum::<usize>()
                as f64
        });
        text.metric(
            "pgio_cluster_sockets",
            "gauge",
            "Sockets of live servers, as they last listed them.",
            &sockets,
        );
        text.gauge("pgio_cluster_rooms", "Rooms of these sockets.", Some(inventory.rooms_total as f64));
        text.gauge(
            "pgio_cluster_sockets_age_seconds",
            "The time since the servers were last asked for their sockets.",
            Some(inventory.age().as_secs_f64()),
        );
    }
    let table = database.table;
    text.gauge(
        "pgio_cluster_attachment_rows",
        "Rows of the attachment table.",
        table.map(|table| table.rows as f64),
    );
    text.gauge(
        "pgio_cluster_attachment_bytes",
        "Bytes of the messages in the attachment table.",
        table.map(|table| table.bytes as f64),
    );
    text.gauge(
        "pgio_cluster_attachment_disk_bytes",
        "Bytes that the attachment table takes on disk.",
        table.map(|table| table.disk_bytes as f64),
    );
    let oldest = table.map(|table| table.oldest.unwrap_or_default().as_secs_f64());
    text.gauge("pgio_cluster_attachment_oldest_seconds", "The age of the oldest row.", oldest);
    text.gauge(
        "pgio_cluster_queue_usage_ratio",
        "How full the notification queue of Postgres is, from 0 to 1.",
        database.queue_usage,
    );
    let activity = database.activity.unwrap_or_default();
    if let Some(commits) = activity.commits {
        text.counter("pgio_cluster_commits_total", "Commits in the database.", commits);
    }
    if let Some(bytes) = activity.wal_bytes {
        text.counter(
            "pgio_cluster_wal_bytes_total",
            "Bytes of WAL that the Postgres server has written.",
            bytes,
        );
    }
    let version = label("version", env!("CARGO_PKG_VERSION"));
    text.metric("pgio_build_info", "gauge", "1, with the version of pgio.", &[(version, 1.0)]);
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_hold_whatever_there_is() {
        assert_eq!(label("event", "a\"b\\c\nd"), r#"{event="a\"b\\c\nd"}"#);
    }
}
