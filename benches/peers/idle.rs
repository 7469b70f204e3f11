//! What a cluster costs Postgres while nothing happens: WAL, flushes and transactions.

use std::io;
use std::process::Command;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::peers::Peer;
use super::programs::Programs;
use super::report;
use super::server::Server;

const NODES: usize = 3;
const NAMESPACES: [&str; 2] = ["/", "/admin"];

/// How long a cluster has to settle: a heartbeat timeout, and what Postgres writes after it.
const SETTLE: Duration = Duration::from_secs(35);
/// How long is measured.
const WINDOW: Duration = Duration::from_secs(40);

pub async fn run(programs: &Programs) -> io::Result<()> {
    let (sql, connection) = tokio_postgres::connect(programs.url(), NoTls).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    // What is due anyway is not part of what is measured.
    sql.batch_execute("CHECKPOINT").await.map_err(io::Error::other)?;
    report::heading(&format!(
        "{NODES} idle nodes with {} namespaces each, in {} s",
        NAMESPACES.len(),
        WINDOW.as_secs()
    ));
    for (name, command) in [
        ("Node", "node server.js / /admin   # @socket.io/postgres-adapter 0.5.0"),
        ("socketioxide", "socketioxide-peer serve / /admin   # socketioxide-postgres 0.2.0"),
        ("pgio --heartbeats always", "pgio serve -n / -n /admin --heartbeats always"),
        ("pgio", "pgio serve -n / -n /admin"),
    ] {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(Server::start(&mut node(programs, name))?);
        }
        tokio::time::sleep(SETTLE).await;
        let before = Figures::read(&sql).await?;
        tokio::time::sleep(WINDOW).await;
        let after = Figures::read(&sql).await?;
        drop(nodes);
        report::figures(
            name,
            &[
                ("bytes of WAL", after.wal - before.wal),
                ("flushes", after.flushes - before.flushes),
                ("transactions", after.transactions - before.transactions),
            ],
            command,
        );
    }
    drop(sql);
    connection.await?.map_err(io::Error::other)
}

fn node(programs: &Programs, name: &str) -> Command {
    let peer = match name {
        "Node" => Peer::Node,
        "socketioxide" => Peer::Socketioxide,
        _ => Peer::Pgio,
    };
    let mut command = peer.server(programs, &NAMESPACES.map(String::from));
    if name.ends_with("always") {
        command.args(["--heartbeats", "always"]);
    }
    command
}

/// What the server has done since it started.
struct Figures {
    wal: i64,
    flushes: i64,
    transactions: i64,
}

impl Figures {
    async fn read(sql: &Client) -> io::Result<Self> {
        // Sessions report their transactions a second late. Two of these are of this session.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let query = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8, (SELECT wal_sync FROM pg_stat_wal), \
            (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database())";
        let row = sql.query_one(query, &[]).await.map_err(io::Error::other)?;
        Ok(Self { wal: row.get(0), flushes: row.get(1), transactions: row.get(2) })
    }
}
