//! A cluster of all three versions, with a client on each server.

use futures_util::future::join_all;

use super::attachments::create_attachment_table;
use super::node::{AdapterVersion, Client, Server, ServerOptions, cluster};
use super::postgres::{Postgres, postgres};

pub struct Mixed {
    pub postgres: Postgres,
    /// The servers of 0.3.1, 0.4.0 and 0.5.0.
    pub servers: [Server; 3],
    /// One client on each server, in the main namespace.
    pub clients: Vec<Client>,
}

/// Starts the cluster on a separate database with the attachment table.
pub async fn mixed() -> Mixed {
    mixed_with(|options| options).await
}

/// The same, with other options.
pub async fn mixed_with(options: impl Fn(ServerOptions) -> ServerOptions) -> Mixed {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let servers =
        cluster(AdapterVersion::ALL, |version| options(ServerOptions::new(version, postgres.url()))).await;
    let clients = join_all(servers.iter().map(|server| server.client("/"))).await;
    Mixed { postgres, servers, clients }
}

impl Mixed {
    pub fn url(&self) -> &str {
        self.postgres.url()
    }

    /// The number of servers that each server counts in the main namespace. 0.5.0 never counts 0.3.1, whose messages
    /// have no `nsp`.
    pub async fn server_counts(&self) -> Vec<usize> {
        join_all(self.servers.iter().map(|server| server.server_count("/"))).await
    }
}
