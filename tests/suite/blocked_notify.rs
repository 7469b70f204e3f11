//! A commit that holds the lock of NOTIFY: it waits for a synchronous standby that does not exist. Every other NOTIFY of the
//! server waits for it.

use std::process::Stdio;

use pgio::postgres::private::PrivateServer;
use pgio::{Emitter, Error};
use tokio::io::AsyncWriteExt;
use tokio_postgres::NoTls;
use tokio_util::task::AbortOnDropHandle;

use crate::support::attachments::execute;
use crate::support::pgio::{Running, pgio};
use crate::support::pgio_serve::until;
use crate::support::postgres::own_server;
use crate::support::proxy::{Mode, Proxy};
use crate::support::sql::query_text;

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";

/// Blocks NOTIFY on this server until the handles are dropped.
async fn block(server: &PrivateServer) -> [AbortOnDropHandle<()>; 2] {
    let url = server.url();
    execute(&url, "ALTER SYSTEM SET synchronous_standby_names = 'missing'").await;
    execute(&url, "SELECT pg_reload_conf()").await;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    let commit = tokio::spawn(async move {
        // The server applies its new configuration after a while.
        while client.batch_execute("SET synchronous_commit = on; NOTIFY blocked").await.is_ok() {}
    });
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    until("the commit waits", async || query_text(&url, blocked).await == "1").await;
    [AbortOnDropHandle::new(connection), AbortOnDropHandle::new(commit)]
}

/// A session that waits for a lock does not notice by itself that its client has given up.
#[tokio::test]
async fn sessions_that_were_given_up_do_not_use_up_the_connections() {
    let server = own_server().await;
    let emitter = Emitter::connect(&server.url()).await.unwrap();
    let _blocked = block(&server).await;
    for _ in 0..2 {
        let refused = emitter.emit("x", ()).await.unwrap_err();
        assert!(matches!(refused, Error::ConnectionLost(_)), "{refused}");
    }
    until("no session waits", async || query_text(&server.url(), WAITING).await == "0").await;
}

/// The later attempts do not even connect, which says nothing of the first one.
#[tokio::test]
async fn an_attempt_with_an_unknown_outcome_stays_unknown() {
    let server = own_server().await;
    let proxy = Proxy::start(&server.url()).await;
    let mut emit = Running::start(
        pgio(proxy.url(), &["emit", "--from", "-", "--retry-for", "1s"]).stdin(Stdio::piped()),
    );
    let mut stdin = emit.stdin();
    let _blocked = block(&server).await;
    stdin.write_all(b"[\"lost\"]\n").await.unwrap();
    until("it waits for its commit", async || query_text(&server.url(), WAITING).await == "1").await;
    proxy.set(Mode::Reset);
    let outcome = emit.end().await;
    assert_eq!(outcome.status, 3, "{outcome:?}");
    assert!(outcome.stderr.ends_with("(0 sent, 1 unknown)\n"), "{outcome:?}");
}
