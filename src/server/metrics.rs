//! What there is to measure, as Prometheus reads it.

use std::collections::HashSet;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::ClusterIo;
use crate::adapter::PostgresAdapterCtr;
use crate::{Error, Result};

/// The bounds of the buckets for times, in seconds.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Every counter: there from the start, at zero, so that its first increment is seen as one.
const COUNTERS: [(&str, &str); 20] = [
    ("pgio_connections_total", "Clients that were let into a namespace."),
    ("pgio_connections_refused_total", "Clients that were not, by reason."),
    ("pgio_disconnections_total", "Clients that left a namespace, by reason."),
    (
        "pgio_clients_cut_off_total",
        "Clients whose connection was cut, by reason: too_slow, too_fast, namespace_gone.",
    ),
    ("pgio_slow_clients_total", "Packets that did not fit into the buffer of a slow client."),
    ("pgio_packets_lost_total", "Packets that slow clients missed without being found out."),
    ("pgio_events_received_total", "Events that clients have sent."),
    ("pgio_events_refused_total", "Those of them that the rules do not allow, or that made no sense."),
    ("pgio_events_sent_total", "Events that clients were sent."),
    ("pgio_relay_errors_total", "Events of clients that reached no other server."),
    ("pgio_bytes_received_total", "Bytes from clients, with HTTP around them, without TLS."),
    ("pgio_bytes_sent_total", "Bytes to clients, with HTTP around them, without TLS."),
    ("pgio_requests_refused_total", "HTTP requests that were answered with an error, by status."),
    ("pgio_messages_published_total", "Messages to other servers, by type."),
    ("pgio_messages_received_total", "Messages of other servers, by type."),
    ("pgio_messages_malformed_total", "Notifications that are no message."),
    (
        "pgio_messages_missed_total",
        "Messages of other servers that were dropped because there were too many at once.",
    ),
    ("pgio_publish_errors_total", "Messages that Postgres did not take."),
    ("pgio_attachments_missing_total", "Messages whose attachment was gone."),
    ("pgio_attachments_deleted_total", "Rows of the attachment table that this server has cleaned up."),
];
/// Those that only make sense with a label.
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
    /// Collects from now on; once in a process.
    ///
    /// # Errors
    /// [`Error::Setting`] where metrics are collected already.
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

    /// Keeps what was recorded from piling up where nobody asks for it.
    pub(super) fn tidy(&self) {
        self.0.run_upkeep();
    }

    /// The text for Prometheus.
    pub(super) fn render(&self, io: &ClusterIo, adapter: &PostgresAdapterCtr) -> String {
        let (mut all, mut websockets) = (HashSet::new(), HashSet::new());
        let nsps = io.nsps();
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
    metrics::describe_gauge!("pgio_connections", "Clients that are connected, by transport.");
    metrics::describe_gauge!("pgio_namespaces", "Namespaces that are hosted now.");
    metrics::describe_gauge!("pgio_build_info", "1, with the version of pgio.");
    metrics::describe_gauge!(
        "pgio_listener_up",
        "1 while other servers are heard, 0 while Postgres is away."
    );
    metrics::describe_gauge!(
        "pgio_lag_seconds",
        "How long a notification last took through Postgres and back; while one is missing, how long that is."
    );
    metrics::describe_histogram!("pgio_publish_seconds", "From a message to its commit.");
    metrics::describe_histogram!(
        "pgio_delivery_seconds",
        "From a message of another server to the buffers of the clients here."
    );
    let version = env!("CARGO_PKG_VERSION");
    metrics::gauge!("pgio_build_info", "version" => version).set(1.0);
}
