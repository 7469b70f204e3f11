//! Which servers are live: asked seldom, and listened to all the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Inventory, Shared, lock};
use crate::cli::exit::Failure;
use crate::cluster::{Cluster, NodeEvent, NodeMonitor, NodeName};
use crate::{Namespace, Result};

/// How often the servers are asked to say that they are there. Each answers with a heartbeat, which is a commit.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// How often to look which servers are live.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A later heartbeat is no answer, but that of a server that started meanwhile.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(4);

/// How long asking may take while Postgres does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server in one namespace.
#[derive(Debug, Clone)]
struct Node {
    name: NodeName,
    since: Instant,
    last_heard: Instant,
}

/// The servers that are live.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    live: Vec<Node>,
    round_trips: HashMap<NodeName, Duration>,
}

/// A server in one namespace, with all that is known of it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct NodeView {
    pub(in crate::cli) name: NodeName,
    pub(in crate::cli) round_trip: Option<Duration>,
    pub(in crate::cli) last_heard: Instant,
    /// How many sockets it last listed; `None` if it was not asked, or did not answer.
    pub(in crate::cli) sockets: Option<usize>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn view(&self, inventory: Option<&Inventory>) -> Vec<NodeView> {
        let view = |node: &Node| NodeView {
            name: node.name.clone(),
            round_trip: self.round_trips.get(&node.name).copied(),
            last_heard: node.last_heard,
            sockets: inventory.and_then(|inventory| inventory.sockets_of(&node.name, node.since)),
        };
        self.live.iter().map(view).collect()
    }

    /// Takes in which servers are live.
    fn look(&mut self, heard: Vec<(NodeName, Instant)>) {
        let since: HashMap<_, _> = self.live.drain(..).map(|node| (node.name, node.since)).collect();
        let known = |(name, last_heard): (NodeName, Instant)| {
            let since = since.get(&name).copied().unwrap_or(last_heard);
            Node { name, since, last_heard }
        };
        self.live = heard.into_iter().map(known).collect();
        self.live.sort_by(|a, b| a.name.cmp(&b.name));
        self.round_trips.retain(|name, _| self.live.iter().any(|node| node.name == *name));
    }
}

/// Asks, and listens to the answers.
pub(super) struct Asking {
    monitor: NodeMonitor,
}

impl Asking {
    pub(super) async fn start(cluster: &Cluster, namespaces: &[Namespace]) -> Result<Self> {
        Ok(Self { monitor: NodeMonitor::listen(cluster, namespaces).await? })
    }

    pub(super) async fn run(self, shared: Arc<Shared>) -> Result<(), Failure> {
        let Self { mut monitor } = self;
        let (mut asking, mut looking) = (interval(ASK_EVERY), interval(LOOK_EVERY));
        asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut namespaces = shared.namespaces.subscribe();
        loop {
            tokio::select! {
                event = monitor.next() => match event {
                    Some(NodeEvent::Answered { node: name, round_trip, .. }) => {
                        if round_trip < LONGEST_ROUND_TRIP {
                            lock(&shared.nodes).round_trips.insert(name, round_trip);
                        }
                        // The first answers are shown at once.
                        look(&monitor, &shared).await;
                    }
                    Some(NodeEvent::Restored(_)) => asking.reset_immediately(),
                    Some(_) => {}
                    None => return Ok(()),
                },
                Ok(()) = namespaces.changed() => {
                    let all = namespaces.borrow_and_update().clone();
                    match monitor.add(&all).await {
                        Ok(new) if new.is_empty() => {}
                        Ok(_) => asking.reset_immediately(),
                        Err(error) => tracing::debug!(%error, "cannot subscribe to more namespaces yet; retrying"),
                    }
                }
                _ = asking.tick() => {
                    if shared.link().lost.is_none() {
                        ask(&mut monitor, &shared).await;
                    }
                }
                _ = looking.tick() => {
                    look(&monitor, &shared).await;
                    shared.measure();
                }
            }
        }
    }
}

/// Sees which servers are live. A process that is too busy to tell is asked again soon.
async fn look(monitor: &NodeMonitor, shared: &Shared) {
    match monitor.heard().await {
        Ok(heard) => lock(&shared.nodes).look(heard),
        Err(error) => tracing::debug!(%error, "which servers are live is not known"),
    }
}

/// Asks which servers are there.
async fn ask(monitor: &mut NodeMonitor, shared: &Shared) {
    // Without an answer in time Postgres is away, which the subscription says.
    if let Ok(outcome) = timeout(PATIENCE, monitor.ask(false)).await {
        shared.asked(outcome);
    }
}
