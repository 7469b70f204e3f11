//! Idle nodes write nothing, and still count as members.

use std::time::Duration;

use nix::sys::signal::Signal;
use pgio::AdapterOptions;
use pgio::cluster::Heartbeats;
use pgio::postgres::private::PrivateServer;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::{AdapterVersion, NodePeer, Parser, ServerOptions};
use crate::support::pgio_node::PgioNode;
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::own_server;

/// Short, so that many timeouts pass in a test.
const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(2);

/// The time in which nothing may be written.
const WINDOW: Duration = Duration::from_secs(3);

/// The deadline for a cluster to become quiet.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> AdapterOptions {
    AdapterOptions::default().heartbeat_interval(INTERVAL).heartbeat_timeout(TIMEOUT)
}

/// The same for the `pgio` process.
const QUICK: [&str; 4] = ["--heartbeat-interval", "500ms", "--heartbeat-timeout", "2s"];

async fn node(url: &str, options: AdapterOptions) -> PgioNode {
    PgioNode::start_with(url, options, Parser::Default, |builder| builder).await
}

/// The WAL that a server has written.
struct Wal(Client);

impl Wal {
    async fn of(server: &PrivateServer) -> Self {
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    async fn position(&self) -> String {
        let row = self.0.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
        row.get(0)
    }

    /// Waits until nothing is written for [`WINDOW`]. Postgres itself writes a little after a while, once.
    async fn wait_until_quiet(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.position().await;
            sleep(WINDOW).await;
            let after = self.position().await;
            if before == after {
                return;
            }
            assert!(Instant::now() < deadline, "from {before} to {after} within {WINDOW:?}");
        }
    }
}

#[tokio::test]
async fn idle_nodes_write_no_wal_and_count_each_other() {
    let postgres = own_server().await;
    create_attachment_table(&postgres.url()).await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&postgres.url(), options()).await);
    }
    for node in &nodes {
        node.wait_for_server_count(3).await;
    }
    let watch = async {
        loop {
            for node in &nodes {
                assert_eq!(node.server_count().await, 3);
            }
            sleep(TIMEOUT / 20).await;
        }
    };
    let wal = Wal::of(&postgres).await;
    tokio::select! {
        () = wal.wait_until_quiet() => {}
        () = watch => {}
    }
    // Requests find the quiet nodes.
    let emitter = pgio::Emitter::connect(&postgres.url()).await.unwrap();
    let sockets = emitter.fetch_sockets().await.unwrap();
    assert_eq!((sockets.nodes, sockets.is_complete()), (3, true));

    // A node that says goodbye, and a node that always sends heartbeats.
    nodes.pop().unwrap().adapter.close().await.unwrap();
    nodes[0].wait_for_server_count(2).await;
    let loud = node(&postgres.url(), options().heartbeats(Heartbeats::Always)).await;
    loud.wait_for_server_count(3).await;
    let before = wal.position().await;
    for _ in 0..3 {
        sleep(TIMEOUT / 2).await;
        assert_eq!((loud.server_count().await, nodes[0].server_count().await), (3, 3));
    }
    assert_ne!(before, wal.position().await);
}

#[tokio::test]
async fn node_servers_count_quiet_nodes_in_any_order() {
    let postgres = own_server().await;
    create_attachment_table(&postgres.url()).await;
    let nodes = [node(&postgres.url(), options()).await, node(&postgres.url(), options()).await];
    let wal = Wal::of(&postgres).await;
    for version in AdapterVersion::ALL {
        wal.wait_until_quiet().await;
        let peer = NodePeer::start().await;
        let server =
            peer.server(ServerOptions::new(version, postgres.url()).heartbeat(INTERVAL, TIMEOUT)).await;
        let started = Instant::now();
        server.wait_for_server_count("/", 3).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{version:?} took {:?}", started.elapsed());
        let third = node(&postgres.url(), options()).await;
        server.wait_for_server_count("/", 4).await;
        for _ in 0..20 {
            // 0.3.1 drops silent members only when it sends a request to the others.
            server.io().fetch_sockets().await.unwrap();
            assert_eq!(server.server_count("/").await, 4, "{version:?}");
            assert_eq!(third.server_count().await, 4, "{version:?}");
            sleep(TIMEOUT / 8).await;
        }
        third.adapter.close().await.unwrap();
        for node in &nodes {
            node.wait_for_server_count(3).await;
        }
        if version != AdapterVersion::V03 {
            server.wait_for_server_count("/", 3).await;
        }
        peer.kill().await;
        for node in &nodes {
            node.wait_for_server_count(2).await;
        }
    }
    wal.wait_until_quiet().await;
}

#[tokio::test]
async fn the_death_of_a_quiet_node_is_noticed() {
    let postgres = own_server().await;
    create_attachment_table(&postgres.url()).await;
    let node = node(&postgres.url(), options()).await;
    let served = PgioServe::start(&postgres.url(), &QUICK).await;
    node.wait_for_server_count(2).await;
    let wal = Wal::of(&postgres).await;
    wal.wait_until_quiet().await;
    // The process has ended, and Postgres ends its session: two lock snapshots show it.
    served.signal(Signal::SIGKILL);
    let killed = Instant::now();
    node.wait_for_server_count(1).await;
    assert!(killed.elapsed() < Duration::from_secs(8), "{:?}", killed.elapsed());

    // The process is frozen, and Postgres does not notice: the members drop it within the heartbeat timeout.
    let served = PgioServe::start(&postgres.url(), &QUICK).await;
    node.wait_for_server_count(2).await;
    wal.wait_until_quiet().await;
    served.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    node.wait_for_server_count(1).await;
    assert!(stopped.elapsed() < Duration::from_secs(15), "{:?}", stopped.elapsed());
    served.signal(Signal::SIGCONT);
    node.wait_for_server_count(2).await;
    wal.wait_until_quiet().await;
    assert_eq!(node.server_count().await, 2);
}

#[tokio::test]
async fn a_node_that_may_not_see_locks_is_sent_heartbeats() {
    let postgres = own_server().await;
    create_attachment_table(&postgres.url()).await;
    let sql = "REVOKE SELECT ON pg_catalog.pg_locks FROM PUBLIC; CREATE ROLE blind LOGIN PASSWORD 'pw'; \
        GRANT ALL ON socket_io_attachments TO blind; GRANT USAGE ON SEQUENCE socket_io_attachments_id_seq TO blind";
    execute(&postgres.url(), sql).await;
    let address = postgres.url().split('@').nth(1).unwrap().to_owned();
    let seeing = node(&postgres.url(), options()).await;
    let blind = node(&format!("postgres://blind:pw@{address}"), options()).await;
    for node in [&seeing, &blind] {
        node.wait_for_server_count(2).await;
    }
    for _ in 0..40 {
        assert_eq!((seeing.server_count().await, blind.server_count().await), (2, 2));
        sleep(TIMEOUT / 8).await;
    }
}

#[tokio::test]
async fn a_server_is_ready_while_it_writes_nothing() {
    let postgres = own_server().await;
    let served =
        PgioServe::start(&postgres.url(), &[&QUICK[..], &["-n", "/", "-n", "/admin"]].concat()).await;
    // The setting for the Admin UI of Node servers costs nothing while there is no UI.
    let shown = PgioServe::start(&postgres.url(), &[&QUICK[..], &["--admin-ui"]].concat()).await;
    let wal = Wal::of(&postgres).await;
    wal.wait_until_quiet().await;
    assert_eq!(served.get("/readyz").await.0, 200);
    assert_eq!(shown.get("/readyz").await.0, 200);
    drop(shown);
    // The publishing session is lost while nothing is published: the probe opens another one and proves it.
    let pids = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_notify%' \
        AND pid <> pg_backend_pid()";
    execute(&postgres.url(), pids).await;
    wal.wait_until_quiet().await;
    assert_eq!(served.get("/readyz").await.0, 200);
}
