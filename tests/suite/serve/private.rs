//! `pgio serve` without a configured database.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::node::NodePeer;
use crate::support::pgio_serve::{PgioServe, command};

/// A directory that the server's user can access.
fn state_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

fn serve(state: &Path) -> tokio::process::Command {
    let mut command = command(["serve", "--listen", "127.0.0.1:0"]);
    command.env("PGIO_STATE_DIR", state);
    command
}

#[tokio::test]
async fn two_servers_and_an_emitter_need_no_configuration() {
    let state = state_directory();
    let mut first = PgioServe::spawn(serve(state.path())).await;
    let url = first.announced["privateDatabase"].as_str().unwrap().to_owned();
    assert!(url.starts_with("postgres://pgio:"), "{url}");
    // The second process finds the server that the first has started.
    let second = PgioServe::spawn(serve(state.path())).await;
    assert!(second.announced["privateDatabase"].is_null(), "{}", second.announced);
    assert_eq!(second.announced["database"], first.announced["database"]);

    let peer = NodePeer::start().await;
    let clients = [first.client(&peer).await, second.client(&peer).await];
    let emitted =
        command(["emit", "hello", "<>"]).env("PGIO_STATE_DIR", state.path()).status().await.unwrap();
    assert!(emitted.success());
    for client in &clients {
        assert_eq!(client.wait_for_event("hello").await.args, [json!("<>")]);
    }

    let password = url.split([':', '@']).nth(2).unwrap();
    for line in first.log().iter().chain(&second.log()) {
        assert!(!line.to_string().contains(password), "{line}");
    }
    drop(second);
    first.signal(Signal::SIGTERM);
    assert!(first.ended().await.success());
    assert!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err(), "Postgres is still there");

    // The data stays, and so does the URL.
    let again = PgioServe::spawn(serve(state.path())).await;
    assert_eq!(again.announced["privateDatabase"], url);
}

#[tokio::test]
async fn a_private_postgres_that_dies_is_started_again() {
    let state = state_directory();
    let serve = PgioServe::spawn(serve(state.path())).await;
    let pid = state.path().join("postgres/cluster/data/postmaster.pid");
    let pid = std::fs::read_to_string(pid).unwrap().lines().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGQUIT).unwrap();
    serve.wait_for_ready(503).await;
    serve.wait_for_ready(200).await;
    serve.wait_for_log("the private Postgres ended, restarting it").await;
    let client = serve.client(&NodePeer::start().await).await;
    let emitter = pgio::Emitter::connect(serve.announced["privateDatabase"].as_str().unwrap()).await.unwrap();
    emitter.emit("e", 1).await.unwrap();
    client.wait_for_event("e").await;
}
