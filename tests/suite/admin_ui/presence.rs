//! The UI with several servers and nodes, and in outages.

use nix::sys::signal::Signal;
use pgio::postgres::private::Shutdown;
use serde_json::json;

use super::{Shown, Ui, instrumented, socket};
use crate::support::attachments::create_attachment_table;
use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::own_server;

#[tokio::test]
async fn a_ui_sees_the_sockets_of_several_nodes_whichever_server_it_is_connected_to() {
    let shown = Shown::start(AdapterVersion::V05, "development", &[]).await;
    let (_peer, second) = instrumented(&shown.postgres, AdapterVersion::V04, "development").await;
    let other = PgioServe::start(shown.postgres.url(), &["--admin-ui"]).await;
    let first_ui = shown.ui().await;
    let second_ui = Ui::connect(&second).await;
    for ui in [&first_ui, &second_ui] {
        ui.wait_for_stats(&shown.serve, |_| true).await;
        ui.wait_for_stats(&other, |_| true).await;
    }
    for serve in [&shown.serve, &other] {
        let client = serve.client(&shown.peer).await;
        first_ui.wait_for_connected(client.id()).await;
        second_ui.wait_for_connected(client.id()).await;
    }
    // The other UI closes, which changes nothing for this one.
    second_ui.0.disconnect().await;
    let client = other.client(&shown.peer).await;
    first_ui.wait_for_connected(client.id()).await;
}

#[tokio::test]
async fn a_ui_gets_all_sockets_again_after_a_restart_of_postgres() {
    let mut postgres = own_server().await;
    let url = postgres.url();
    create_attachment_table(&url).await;
    let peer = NodePeer::start().await;
    let admin_ui = json!({ "mode": "development", "serverId": "node" });
    let options = ServerOptions::new(AdapterVersion::V05, &url).namespace("/admin").admin_ui(admin_ui);
    let server = peer.server(options).await;
    let serve = PgioServe::start(&url, &["--admin-ui"]).await;
    server.wait_for_server_count("/", 2).await;
    let (stays, goes) = (serve.client(&peer).await, serve.client(&peer).await);
    let ui = Ui::connect(&server).await;
    socket(&ui.all_sockets().await, goes.id());
    ui.wait_for_stats(&serve, |stats| stats["clientsCount"] == 2).await;
    postgres.take_down(Shutdown::Immediate).await.unwrap();
    serve.wait_for_ready(503).await;
    goes.disconnect().await;
    let comes = serve.client(&peer).await;
    postgres.start_again().await.unwrap();
    serve.wait_for_ready(200).await;
    server.wait_until_listening_after(1).await;
    ui.wait_for_connected(comes.id()).await;
    ui.wait_for_event("socket_disconnected", &["/".into(), goes.id().into()]).await;
    ui.wait_for_connected(stays.id()).await;
    let mut serve = serve;
    serve.signal(Signal::SIGTERM);
    assert!(serve.ended().await.success());
}
