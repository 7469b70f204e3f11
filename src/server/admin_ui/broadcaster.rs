//! The task that publishes events to the Admin UIs. It owns the subscription to the namespace of the UI.
//!
//! In: broadcasts of instrumented servers, and ticks. Out: broadcasts. A broadcast that could not be published is retried
//! at the next tick.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use socketioxide::TransportType;
use socketioxide::socket::DisconnectReason;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::AdminUi;
use super::audience::{Broadcast, UiAudience, UiConnected, Watching};
use super::departures::{Departures, node_reason};
use super::documents::{self, Counts, Identity};
use super::ui_state::{Change, ChangeKind, ConnectedSocket, Snapshot, UiState};
use crate::adapter::{describe_socket, transport_name};
use crate::cluster::{Cluster, Content, Event, Subscription};
use crate::protocol::{Body, BroadcastOptions, EventArgs, Header, Message, MessageKind, Namespace, Uid};
use crate::server::ClusterIo;
use crate::server::quotas::Quotas;
use crate::server::shared_io::SharedIo;
use crate::server::throttle::Throttle;
use crate::server::traffic::Traffic;
use crate::{Error, Result};

/// The interval of the statistics, as in Node.
const STATS_EVERY: Duration = Duration::from_secs(2);

/// The interval of the changes. No changes are sent for one interval after a UI has connected: it will receive the list of
/// all sockets, and would discard earlier changes.
const CHANGES_EVERY: Duration = Duration::from_secs(1);

/// The time after a reconnect in which no changes are sent. A Node server listens again up to 3 s after a reconnect,
/// and misses the messages before that.
const HOLD_AFTER_RECONNECT: Duration = Duration::from_secs(5);

/// The maximum number of changes in one tick.
const MAX_CHANGES: usize = 1000;

/// The maximum number of changes at a shutdown.
const MAX_DEPARTURES: usize = 5000;

/// The deadline for the publication of events.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// The data sources of the task.
pub(in crate::server) struct Sources {
    pub(in crate::server) io: SharedIo,
    /// The namespaces that are hosted by name.
    pub(in crate::server) hosted: HashSet<String>,
    pub(in crate::server) quotas: Arc<Quotas>,
    pub(in crate::server) traffic: Arc<Traffic>,
    pub(in crate::server) departures: Arc<Departures>,
}

/// Starts the task. Dropping the handle ends it. After `closing` is cancelled, the task publishes that all sockets
/// leave, and ends.
///
/// # Errors
/// Those of [`Cluster::subscribe`].
pub(in crate::server) async fn start(
    cluster: Cluster,
    AdminUi { namespace, server_id }: AdminUi,
    sources: Sources,
    closing: CancellationToken,
) -> Result<AbortOnDropHandle<()>> {
    let heard = cluster.subscribe([namespace.clone()], is_relevant).await?;
    let hostname = whoami::hostname().unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot find the name of this host");
        "localhost".into()
    });
    let pid = std::process::id();
    let server_id = server_id.unwrap_or_else(|| format!("{hostname}#{pid}"));
    let now = Instant::now();
    let broadcaster = Broadcaster {
        cluster,
        namespace,
        sources,
        identity: Identity { server_id, hostname, pid },
        started: now,
        audience: UiAudience::default(),
        watching: Watching::Nothing,
        shown: UiState::default(),
        stats_at: now,
        changes_at: now,
        changes_published_at: now,
        held_until: now,
        throttle: Throttle::default(),
    };
    Ok(AbortOnDropHandle::new(tokio::spawn(broadcaster.run(heard, closing))))
}

/// Ignores emitters, since other pgio servers publish to this namespace as emitters as well.
fn is_relevant(header: Option<&Header>) -> bool {
    header.is_some_and(|header| {
        matches!(header.kind, MessageKind::Broadcast | MessageKind::AdapterClose) && !header.uid.is_emitter()
    })
}

struct Broadcaster {
    cluster: Cluster,
    namespace: Namespace,
    sources: Sources,
    identity: Identity,
    started: Instant,
    audience: UiAudience,
    watching: Watching,
    shown: UiState,
    stats_at: Instant,
    changes_at: Instant,
    changes_published_at: Instant,
    /// No changes are published before this time.
    held_until: Instant,
    throttle: Throttle,
}

impl Broadcaster {
    async fn run(mut self, mut heard: Subscription, closing: CancellationToken) {
        loop {
            let due = match self.watching {
                Watching::Nothing => None,
                Watching::Servers => Some(self.stats_at),
                Watching::Sockets => Some(self.stats_at.min(self.changes_at)),
            };
            tokio::select! {
                biased;
                () = closing.cancelled() => return self.publish_departures().await,
                // The tick comes before the broadcasts (`biased`), since a flood of broadcasts would delay it.
                () = sleep_until(due.unwrap_or(self.started)), if due.is_some() => self.tick().await,
                event = heard.next() => match event {
                    Some(event) => self.on_broadcast(event).await,
                    None => return,
                },
            }
        }
    }

    async fn on_broadcast(&mut self, event: Event) {
        let now = Instant::now();
        let mut arrival = None;
        match event {
            Event::Message(received) => {
                let Content::Message(message) = &received.content else { return };
                match &message.body {
                    Body::Broadcast { event, .. } => {
                        let Some(heard) = Broadcast::of(event, self.namespace.as_str()) else { return };
                        arrival = self.audience.on_broadcast(now.into_std(), &message.uid, heard);
                    }
                    Body::AdapterClose => self.audience.leave(&message.uid),
                    _ => return,
                }
            }
            Event::Lost(_) | Event::Missed(_) => {
                self.audience.forget();
                self.shown.mark_uncertain();
                // The state of the UIs is kept, since they are most likely still connected.
                self.watching = Watching::Nothing;
                self.sources.departures.keep(false);
                return;
            }
            Event::Restored(_) => {
                self.held_until = now + HOLD_AFTER_RECONNECT;
                return;
            }
            Event::Stalled | Event::Resumed(_) => return,
        }
        let before = self.watching;
        self.watch(now);
        match arrival {
            Some(UiConnected::Now { namespaces }) => {
                if before == Watching::Sockets {
                    // Not for each of many UIs that connect at once, or seem to.
                    if self.held_until <= now && self.changes_published_at + CHANGES_EVERY <= now {
                        self.publish_changes().await;
                    }
                    self.shown.mark_uncertain_except(&namespaces);
                } else if let Some(io) = self.sources.io.get() {
                    self.shown = UiState::given(snapshot(&io), &namespaces);
                }
                self.changes_at = (now + CHANGES_EVERY).max(self.held_until);
            }
            Some(UiConnected::Before) => {
                self.shown.mark_uncertain();
                self.changes_at = now.max(self.held_until);
            }
            None => {}
        }
    }

    /// Updates the watched data after a change of the audience.
    fn watch(&mut self, now: Instant) {
        let before = std::mem::replace(&mut self.watching, self.audience.watching(now.into_std()));
        if before == self.watching {
            return;
        }
        tracing::debug!(watching = ?self.watching, "the Admin UIs that are connected show something else");
        if before == Watching::Nothing {
            // Discards the traffic before this moment.
            self.sources.traffic.take();
            self.stats_at = now;
        }
        let shows_sockets = self.watching == Watching::Sockets;
        self.sources.departures.keep(shows_sockets);
        if shows_sockets {
            self.changes_at = now.max(self.held_until);
        } else {
            self.shown.clear();
        }
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        self.watch(now);
        if self.watching == Watching::Sockets && self.changes_at <= now {
            self.changes_at = now + CHANGES_EVERY;
            self.publish_changes().await;
        }
        if self.watching > Watching::Nothing && self.stats_at <= now {
            self.stats_at = now + STATS_EVERY;
            self.publish_stats(now).await;
        }
    }

    async fn publish_stats(&mut self, now: Instant) {
        let Some(io) = self.sources.io.get() else { return };
        let counts = counts(&io, self.sources.quotas.clients_now(), &self.sources.hosted);
        drop(io);
        let (uptime, counted) = (now - self.started, self.sources.traffic.take());
        let stats = documents::server_stats(&self.identity, uptime, counts, counted, SystemTime::now());
        self.publish(vec![((), stats)], |_, ()| {}).await;
    }

    async fn publish_changes(&mut self) {
        self.changes_published_at = Instant::now();
        let Some(io) = self.sources.io.get() else { return };
        let changes = self.shown.changes(&snapshot(&io), MAX_CHANGES);
        let share_headers = self.cluster.options().share_headers;
        let described = |change: &Change| {
            let socket = io.of(change.nsp.as_str())?.get_socket(change.sid)?;
            Some(describe_socket(&socket, share_headers))
        };
        let now = SystemTime::now();
        let event = |change: Change| {
            let Change { nsp, sid, what } = &change;
            let reason = match what {
                ChangeKind::Disconnected => self.sources.departures.reason(nsp, *sid),
                _ => "",
            };
            let event = documents::change(nsp, *sid, what, reason, now, || described(&change))?;
            Some((change, event))
        };
        let events: Vec<_> = changes.into_iter().filter_map(event).collect();
        drop(io);
        self.publish(events, Self::record_published).await;
    }

    /// Publishes to the UIs that all sockets of this server disconnect.
    async fn publish_departures(&mut self) {
        if self.watching < Watching::Sockets {
            return;
        }
        let (now, reason) = (SystemTime::now(), node_reason(DisconnectReason::ClosingServer));
        let event = |change: Change| {
            let Change { nsp, sid, what } = &change;
            let event = documents::change(nsp, *sid, what, reason, now, || None)?;
            Some((change, event))
        };
        let changes = self.shown.changes(&Snapshot::new(), MAX_DEPARTURES);
        self.publish(changes.into_iter().filter_map(event).collect(), Self::record_published).await;
    }

    fn record_published(&mut self, change: Change) {
        if change.what == ChangeKind::Disconnected {
            self.sources.departures.forget(&change.nsp, change.sid);
        }
        self.shown.record_published(change);
    }

    /// Publishes events in order. Calls `committed` for each event that Postgres has committed.
    async fn publish<T>(&mut self, events: Vec<(T, EventArgs)>, mut committed: impl FnMut(&mut Self, T)) {
        if events.is_empty() {
            return;
        }
        let cluster = self.cluster.clone();
        let namespace = self.namespace.clone();
        let publishing = async {
            let mut receipts = Vec::with_capacity(events.len());
            for (subject, event) in events {
                let opts = BroadcastOptions::default();
                let body = Body::Broadcast { opts, event, request_id: None };
                let message = Message { uid: Uid::emitter(), nsp: namespace.clone(), body };
                receipts.push((subject, cluster.enqueue(&message).await?));
            }
            for (subject, receipt) in receipts {
                receipt.await?;
                committed(self, subject);
            }
            Ok::<_, Error>(())
        };
        let late = || Error::ConnectionLost(format!("no answer within {} s", PUBLISH_TIMEOUT.as_secs()));
        let outcome = timeout(PUBLISH_TIMEOUT, publishing).await.unwrap_or_else(|_| Err(late()));
        if let Err(error) = outcome {
            let message = "cannot tell the Admin UI";
            if let Some(suppressed) = self.throttle.allow(message) {
                tracing::warn!(%error, suppressed, "{message}");
            }
        }
    }
}

/// The sockets that are connected.
fn snapshot(io: &ClusterIo) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for nsp in io.nsps() {
        let name = nsp.ns_path().to_owned();
        let sockets = nsp.sockets().into_iter().filter(|socket| socket.connected());
        let sockets = sockets.map(|socket| {
            let own = socket.id.as_str();
            let rooms = socket.rooms().into_iter().filter(|room| room != own).map(|room| room.into_owned());
            (
                socket.id,
                ConnectedSocket {
                    transport: transport_name(socket.transport_type()),
                    rooms: rooms.collect(),
                },
            )
        });
        snapshot.insert(name, sockets.collect());
    }
    snapshot
}

/// Counts the clients and the sockets. Skips an empty namespace unless it is hosted by name.
fn counts(io: &ClusterIo, clients: usize, hosted: &HashSet<String>) -> Counts {
    let mut polling = HashSet::new();
    let mut namespaces = Vec::new();
    for nsp in io.nsps() {
        let name = nsp.ns_path().to_owned();
        let sockets = nsp.sockets();
        if !sockets.is_empty() || hosted.contains(&name) {
            namespaces.push((name, sockets.len()));
        }
        let polls = sockets.iter().filter(|socket| socket.transport_type() == TransportType::Polling);
        polling.extend(polls.map(|socket| socket.id));
    }
    Counts { clients, polling: polling.len(), namespaces }
}
