//! Observes a cluster from outside: an observer is not a member of the cluster, and no server counts it.
//!
//! Owns the subscription that counts all traffic, the requests to the servers, and a session for the statistics of
//! Postgres. Each has its own task. The results are in [`Shared`]. Readers may read it as often as they like, and do
//! not hold up the counting.

mod database;
mod inventory;
mod live;
mod nodes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::exit::Failure;
use super::namespaces::Newcomers;
use super::traffic::{Ring, Traffic};
use crate::cluster::{Cluster, Event, GrowingSubscription};
use crate::postgres::Settings;
use crate::{Error, Namespace};

pub(super) use database::Database;
pub(super) use inventory::{Inventory, RoomMembers, SocketView};
pub(super) use live::{Filter, Watching};
pub(super) use nodes::NodeView;

/// The number of messages that are counted before readers get their turn.
const BATCH: usize = 4096;

/// The timeout of the loopback probe.
const LOOPBACK: Duration = Duration::from_secs(3);

/// The options of an observer.
pub(super) struct Watched {
    pub(super) namespaces: Vec<Namespace>,
    /// The namespaces that are found later.
    pub(super) newcomers: Newcomers,
    /// Whether to request the sockets of the servers. Each server then lists all of its sockets.
    pub(super) sockets: bool,
    /// Whether the observer fails if no notification arrives at all, not even its own.
    pub(super) fails_without_loopback: bool,
}

/// The gauges of one second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Gauges {
    pub(super) nodes: u32,
    pub(super) sockets: u32,
    /// Commits per second.
    pub(super) commits: f32,
    /// Bytes of WAL per second.
    pub(super) wal_bytes: f32,
}

/// The reason while Postgres keeps the connection open and does not answer.
pub(super) const STALLED: &str = "Postgres does not answer";

/// The state of the connection to Postgres.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    /// The reason why nothing arrives, while the connection is lost or Postgres does not answer on it.
    pub(super) lost: Option<String>,
    /// The number of times that the connection was lost.
    pub(super) interruptions: u64,
    /// The error of the last request to the servers, if it failed.
    pub(super) problem: Option<String>,
}

impl Link {
    /// The current error, if there is one.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.lost.as_deref().or(self.problem.as_deref())
    }
}

/// The state of an observer.
pub(super) struct Shared {
    started: Instant,
    /// The identity of the database, without secrets.
    pub(super) server: String,
    namespaces: watch::Sender<Vec<Namespace>>,
    traffic: Mutex<Traffic>,
    live: Arc<live::Live>,
    gauges: Mutex<Ring<Gauges>>,
    link: Mutex<Link>,
    nodes: Mutex<nodes::Nodes>,
    inventory: watch::Sender<Option<Arc<Inventory>>>,
    database: Mutex<Database>,
}

/// A running observer. Dropping it stops the observer.
pub(super) struct Observer {
    pub(super) shared: Arc<Shared>,
    tasks: JoinSet<Result<(), Failure>>,
}

impl Observer {
    /// Starts the observer. All messages are counted from now on.
    pub(super) async fn start(
        cluster: &Cluster,
        settings: Settings,
        watched: Watched,
    ) -> Result<Self, Failure> {
        let Watched { namespaces, newcomers, sockets, fails_without_loopback } = watched;
        let server = cluster.server_identity().await?;
        let database = database::Sampler::connect(settings, cluster.options()).await?;
        let heard = GrowingSubscription::start(cluster, &namespaces, |_| true).await?;
        let asking = nodes::NodePoller::start(cluster, &namespaces).await?;
        let shared = Arc::new(Shared {
            started: Instant::now(),
            server,
            namespaces: watch::Sender::new(namespaces),
            traffic: Mutex::new(Traffic::new()),
            live: Arc::default(),
            gauges: Mutex::new(Ring::new()),
            link: Mutex::default(),
            nodes: Mutex::default(),
            inventory: watch::Sender::new(None),
            database: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(count(shared.clone(), heard));
        tasks.spawn(asking.run(shared.clone()));
        tasks.spawn(database.run(shared.clone()));
        tasks.spawn(take_newcomers(shared.clone(), newcomers));
        tasks.spawn(check_loopback(shared.clone(), cluster.clone(), fails_without_loopback));
        if sockets {
            tasks.spawn(inventory::run(shared.clone(), cluster.clone()));
        }
        Ok(Self { shared, tasks })
    }

    /// Whether the observer cannot continue.
    pub(super) fn has_failed(&mut self) -> bool {
        self.tasks.try_join_next().is_some()
    }

    /// Resolves when the observer cannot continue.
    pub(super) async fn failed(&mut self) -> Failure {
        match self.tasks.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Ok(Ok(()))) | None => Error::Closed.into(),
            Some(Err(error)) => Failure::Other(format!("the observer has failed: {error}")),
        }
    }
}

/// Reports that notifications are not delivered, as through a pooler in transaction mode, if the observer's own
/// notification does not arrive.
async fn check_loopback(
    shared: Arc<Shared>,
    cluster: Cluster,
    fails_without_loopback: bool,
) -> Result<(), Failure> {
    tokio::time::sleep(LOOPBACK).await;
    match cluster.ensure_loopback(LOOPBACK) {
        Err(error) if fails_without_loopback => return Err(error.into()),
        Err(error) => shared.asked(Err(error)),
        Ok(()) => {}
    }
    // The end of a task would end the observer.
    std::future::pending().await
}

impl Drop for Observer {
    /// Viewers would otherwise wait for messages that no longer arrive.
    fn drop(&mut self) {
        self.shared.live.close();
    }
}

/// Adds the namespaces that are found later.
async fn take_newcomers(shared: Arc<Shared>, mut newcomers: Newcomers) -> Result<(), Failure> {
    loop {
        let found = newcomers.next().await;
        // This notifies readers each time, since their last attempt to subscribe may have failed.
        shared.namespaces.send_modify(|known| {
            known.extend(found);
            known.sort();
            known.dedup();
        });
    }
}

/// Counts the messages of the subscription.
async fn count(shared: Arc<Shared>, mut heard: GrowingSubscription) -> Result<(), Failure> {
    let mut namespaces = shared.namespaces.subscribe();
    loop {
        let first = tokio::select! {
            first = heard.next() => match first {
                Some(first) => first,
                None => return Ok(()),
            },
            Ok(()) = namespaces.changed() => {
                let all = namespaces.borrow_and_update().clone();
                if let Err(error) = heard.add(&all).await {
                    tracing::debug!(%error, "cannot subscribe to more namespaces yet; retrying");
                }
                continue;
            }
        };
        {
            let mut traffic = shared.traffic();
            let second = shared.second();
            shared.take(&mut traffic, second, first);
            for _ in 0..BATCH {
                let Some(event) = heard.try_next() else { break };
                shared.take(&mut traffic, second, event);
            }
        }
        tokio::task::yield_now().await;
    }
}

impl Shared {
    /// The current second, counted from 0.
    pub(super) fn second(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// The start time of the observer.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The observed namespaces, sorted.
    pub(super) fn namespaces(&self) -> Vec<Namespace> {
        self.namespaces.borrow().clone()
    }

    /// The counters. Counting waits while the guard is held.
    pub(super) fn traffic(&self) -> MutexGuard<'_, Traffic> {
        lock(&self.traffic)
    }

    /// The gauges of the seconds before this second, the oldest first.
    pub(super) fn gauges(&self, second: u64, seconds: usize) -> Vec<Gauges> {
        lock(&self.gauges).before(second, seconds).collect()
    }

    /// Adds a viewer of live traffic. Returns `None` if there are too many viewers.
    pub(super) fn watch(&self, filter: Filter) -> Option<Watching> {
        self.live.watch(filter)
    }

    pub(super) fn link(&self) -> Link {
        lock(&self.link).clone()
    }

    /// The servers, sorted by namespace and uid.
    pub(super) fn nodes(&self) -> Vec<NodeView> {
        lock(&self.nodes).view(self.inventory().as_deref())
    }

    /// The sockets, as the servers last listed them, or `None` before the first answers.
    pub(super) fn inventory(&self) -> Option<Arc<Inventory>> {
        self.inventory.borrow().clone()
    }

    /// Waits until the servers have listed their sockets once, or until the timeout.
    pub(super) async fn wait_for_inventory(&self, within: Duration) {
        let mut inventory = self.inventory.subscribe();
        // After the timeout there is no inventory.
        tokio::time::timeout(within, inventory.wait_for(Option::is_some)).await.ok();
    }

    /// Statistics of Postgres.
    pub(super) fn database(&self) -> Database {
        *lock(&self.database)
    }

    fn take(&self, traffic: &mut Traffic, second: u64, event: Event) {
        match event {
            Event::Message(received) => {
                traffic.count(second, &received);
                self.live.show(second, &received);
            }
            Event::Missed(count) => traffic.miss(second, count),
            Event::Lost(error) => {
                let mut link = lock(&self.link);
                link.interruptions += 1;
                link.lost = Some(error.to_string());
            }
            Event::Stalled => lock(&self.link).lost = Some(STALLED.to_owned()),
            Event::Restored(_) | Event::Resumed(_) => lock(&self.link).lost = None,
        }
    }

    /// Records the outcome of a request to the servers. The subscription itself reports a lost connection to Postgres.
    fn asked(&self, outcome: crate::Result<()>) {
        let problem = match outcome {
            Ok(()) => None,
            Err(error) if error.is_disconnected() && !matches!(error, Error::NotificationsNotDelivered) => {
                return;
            }
            Err(error) => Some(error.to_string()),
        };
        let mut link = lock(&self.link);
        if let Some(problem) = problem.as_ref().filter(|_| link.problem != problem) {
            tracing::warn!(problem, "cannot ask the servers");
        }
        link.problem = problem;
    }

    /// Stores the gauges of this second.
    fn measure(&self) {
        let nodes = lock(&self.nodes).len();
        let sockets = self.inventory().map_or(0, |inventory| inventory.total);
        let Database { commits_per_second, wal_per_second, .. } = self.database();
        *lock(&self.gauges).at(self.second()) = Gauges {
            nodes: u32::try_from(nodes).unwrap_or(u32::MAX),
            sockets: u32::try_from(sockets).unwrap_or(u32::MAX),
            commits: commits_per_second.unwrap_or_default() as f32,
            wal_bytes: wal_per_second.unwrap_or_default() as f32,
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
