//! A pgio node in a cluster of Node servers, as sender and as receiver.

mod acknowledgements;
mod broadcast;
mod cases;
mod errors;
mod lifetime;
mod liveness;
mod node_cluster;
mod panics;
mod quiet;
mod server_side;
mod sockets;
mod values;

use futures_util::future::join_all;

use crate::support::attachments::create_attachment_table;
use crate::support::node::{AdapterVersion, Client, Event, Server, ServerOptions, cluster};
use crate::support::pgio_node::PgioNode;
use crate::support::postgres::{Postgres, postgres};

/// Two Node servers and a pgio node, with a client each. All three count three members.
struct Three {
    postgres: Postgres,
    servers: [Server; 2],
    node: PgioNode,
    /// The clients of the servers, in order.
    theirs: Vec<Client>,
    /// The client of the node.
    ours: Client,
}

impl Three {
    async fn start(versions: [AdapterVersion; 2]) -> Three {
        let postgres = postgres().await;
        create_attachment_table(postgres.url()).await;
        let options =
            |version| ServerOptions::new(version, postgres.url()).namespace("/").namespace("/admin");
        let servers = cluster(versions, options).await;
        let node = PgioNode::start(postgres.url()).await;
        for server in &servers {
            server.wait_for_server_count("/", 3).await;
        }
        node.wait_for_server_count(3).await;
        let theirs = join_all(servers.iter().map(|server| server.client("/"))).await;
        let ours = node.client(servers[0].peer(), "/").await;
        Three { postgres, servers, node, theirs, ours }
    }

    /// All three clients.
    fn clients(&self) -> [&Client; 3] {
        [&self.theirs[0], &self.theirs[1], &self.ours]
    }
}

/// Sorts the events, since servers do not wait for each other.
fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| format!("{event:?}"));
    events
}
