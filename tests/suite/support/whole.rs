//! A whole cluster: a server of each Node version and a pgio node, with a client on each.

use std::future::Future;
use std::time::Duration;

use super::mixed::{Mixed, mixed_with};
use super::node::Client;
use super::pgio::{self, Outcome};
use super::pgio_node::PgioNode;

pub struct Whole {
    pub mixed: Mixed,
    pub node: PgioNode,
    /// The client of the pgio node, in the main namespace.
    pub ours: Client,
}

/// Starts the cluster on a separate database with the attachment table. All servers have the namespaces `/` and
/// `/admin`.
pub async fn whole() -> Whole {
    let mixed = mixed_with(|options| options.namespace("/admin")).await;
    let before = mixed.server_counts().await;
    let node = PgioNode::start(mixed.url()).await;
    for (server, count) in mixed.servers.iter().zip(before) {
        server.wait_for_server_count("/", count + 1).await;
    }
    node.wait_for_server_count(4).await;
    let ours = node.client(mixed.servers[0].peer(), "/").await;
    Whole { mixed, node, ours }
}

impl Whole {
    pub fn url(&self) -> &str {
        self.mixed.url()
    }

    /// All four clients, that of the pgio node last.
    pub fn clients(&self) -> [&Client; 4] {
        let [first, second, third] = &self.mixed.clients[..] else {
            unreachable!("one on each of three servers")
        };
        [first, second, third, &self.ours]
    }

    /// Makes one of the [clients](Self::clients) join rooms.
    pub async fn join(&self, client: usize, rooms: &[&str]) {
        match self.mixed.clients.get(client) {
            Some(client) => client.join(rooms).await,
            None => self.node.join(&self.ours, rooms).await,
        }
    }

    /// The number of servers that each of the four counts in the main namespace.
    pub async fn server_counts(&self) -> Vec<usize> {
        let mut counts = self.mixed.server_counts().await;
        counts.push(self.node.server_count().await);
        counts
    }

    /// Runs the program, and asserts that no server changes its count of servers.
    pub async fn run(&self, arguments: &[&str]) -> Outcome {
        self.undisturbed(async { pgio::run(&mut pgio::pgio(self.url(), arguments)).await }).await
    }

    /// Runs `work`, and asserts that no server changes its count of servers: before, during and after it.
    pub async fn undisturbed<T>(&self, work: impl Future<Output = T>) -> T {
        let before = self.server_counts().await;
        let watch = async {
            loop {
                assert_eq!(self.server_counts().await, before, "while it runs");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = watch => unreachable!("it watches for ever"),
        };
        assert_eq!(self.server_counts().await, before, "afterwards");
        outcome
    }
}
