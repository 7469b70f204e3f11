//! The metrics of the process, in the text format of Prometheus.

use std::collections::HashSet;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::ClusterIo;
use crate::adapter::PostgresAdapterCtr;
use crate::{Error, Result};

/// The upper bounds of the histogram buckets, in seconds.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Every counter. Each is exported at zero from the start, so that Prometheus sees the first increment.
const COUNTERS: [(&str, &str); 23] = [
    ("pgio_connections_total", "Clients that connected to a namespace."),
    ("pgio_connections_refused_total", "Clients that were refused, by reason."),
    ("pgio_disconnections_total", "Clients that left a namespace, by reason."),
    (
        "pgio_clients_cut_off_total",
        "Clients that the server disconnected, by reason: too_slow, too_fast, unadmitted, incomplete, malformed, ...",
    ),
    ("pgio_slow_clients_total", "Packets that did not fit into the buffer of a slow client."),
    ("pgio_packets_lost_total", "Packets that were dropped for a slow client that was not disconnected."),
    ("pgio_events_received_total", "Events received from clients."),
    ("pgio_events_refused_total", "Events of clients that were refused: not allowed, or malformed."),
    ("pgio_events_sent_total", "Events sent to clients, one for each client."),
    (
        "pgio_events_written_directly_total",
        "Events written to the sockets of idle clients without a queue; a part of pgio_events_sent_total.",
    ),
    ("pgio_volatile_dropped_total", "Volatile events that were dropped for clients that did not keep up."),
    ("pgio_relay_errors_total", "Events of clients that could not be relayed to other servers."),
    ("pgio_bytes_received_total", "Bytes received from clients, HTTP included, TLS excluded."),
    ("pgio_bytes_sent_total", "Bytes sent to clients, HTTP included, TLS excluded."),
    ("pgio_requests_refused_total", "HTTP requests answered with an error, by status."),
    ("pgio_messages_published_total", "Messages published to other servers, by type."),
    ("pgio_messages_received_total", "Messages received from other servers, by type."),
    ("pgio_messages_malformed_total", "Notifications that are not a valid message."),
    ("pgio_messages_missed_total", "Messages of other servers that were dropped because a queue was full."),
    (
        "pgio_answers_dropped_total",
        "Requests of other servers that were not answered, since too many were in progress.",
    ),
    ("pgio_publish_errors_total", "Messages that could not be published."),
    ("pgio_attachments_missing_total", "Messages whose attachment was not found."),
    ("pgio_attachments_deleted_total", "Rows of the attachment table that this server has cleaned up."),
];
/// The counters with a label, which have no series before the first increment.
const LABELLED: [&str; 6] = [
    "pgio_connections_refused_total",
    "pgio_disconnections_total",
    "pgio_clients_cut_off_total",
    "pgio_requests_refused_total",
    "pgio_messages_published_total",
    "pgio_messages_received_total",
];

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Starts to record. This can be done once in a process.
    ///
    /// # Errors
    /// [`Error::Setting`] if another recorder is installed already.
    pub fn install() -> Result<Self> {
        let failed = |reason: String| Error::Setting { setting: "metrics".into(), reason };
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .map_err(|error| failed(error.to_string()))?;
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| failed(error.to_string()))?;
        describe();
        Ok(Self(handle))
    }

    /// Drops the samples that were not scraped, so that they do not accumulate.
    pub(super) fn run_upkeep(&self) {
        self.0.run_upkeep();
    }

    /// The text for Prometheus.
    pub(super) fn render(&self, io: Option<&ClusterIo>, adapter: &PostgresAdapterCtr) -> String {
        let (mut all, mut websockets) = (HashSet::new(), HashSet::new());
        let nsps = io.map(ClusterIo::nsps).unwrap_or_default();
        metrics::gauge!("pgio_namespaces").set(nsps.len() as f64);
        for nsp in nsps {
            for socket in nsp.sockets() {
                all.insert(socket.id);
                if socket.transport_type() == socketioxide::TransportType::Websocket {
                    websockets.insert(socket.id);
                }
            }
        }
        let polling = all.len() - websockets.len();
        metrics::gauge!("pgio_connections", "transport" => "websocket").set(websockets.len() as f64);
        metrics::gauge!("pgio_connections", "transport" => "polling").set(polling as f64);
        let up = if adapter.is_listening() { 1.0 } else { 0.0 };
        metrics::gauge!("pgio_listener_up").set(up);
        let channels = adapter.cluster().channels_listening();
        metrics::gauge!("pgio_channels_listening").set(channels as f64);
        self.0.render()
    }
}

fn describe() {
    for (name, help) in COUNTERS {
        metrics::describe_counter!(name, help);
        if !LABELLED.contains(&name) {
            metrics::counter!(name).increment(0);
        }
    }
    metrics::describe_gauge!("pgio_connections", "Connected clients, by transport.");
    metrics::describe_gauge!("pgio_namespaces", "Namespaces of this server.");
    metrics::describe_gauge!("pgio_build_info", "1, with the version of pgio.");
    metrics::describe_gauge!(
        "pgio_listener_up",
        "1 while the server receives notifications, 0 while it is not connected to Postgres."
    );
    metrics::describe_gauge!(
        "pgio_channels_listening",
        "Channels that the listening session listens to: one for each namespace, and those of the loopback probe and of discovery."
    );
    metrics::describe_gauge!(
        "pgio_lag_seconds",
        "Round trip of the last loopback probe through Postgres; while a probe is unanswered, its age."
    );
    metrics::describe_histogram!("pgio_publish_seconds", "Time from a message to its commit.");
    metrics::describe_histogram!(
        "pgio_delivery_seconds",
        "Time to hand a message of another server to the sockets of idle clients and to the queues of the others."
    );
    let version = env!("CARGO_PKG_VERSION");
    metrics::gauge!("pgio_build_info", "version" => version).set(1.0);
}
