//! Troubles among the Socket.IO servers.

use super::doctor;
use crate::support::attachments::create_attachment_table;
use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::postgres::postgres;
use crate::support::whole::whole;

#[tokio::test]
async fn a_server_of_0_3_among_newer_ones() {
    let cluster = whole().await;
    let diagnosis = cluster.undisturbed(doctor(cluster.url(), &["-n", "/", "-n", "nowhere"])).await;
    let expected = "4 are live in /, 1 of them with adapter 0.3, whose broadcasts and requests newer Node servers drop: ";
    let found = diagnosis.findings.iter().find(|finding| finding["check"] == "servers").unwrap();
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.strip_prefix(expected).is_some_and(|uid| uid.len() == 16), "{found}");
    assert_eq!(
        (&found["status"], &found["advice"]),
        (&"warn".into(), &"upgrade @socket.io/postgres-adapter there".into())
    );
    diagnosis.check("servers", "ok", "none is live in /nowhere", "");

    cluster.mixed.servers[0].clone().stop().await;
    doctor(cluster.url(), &[]).await.check("servers", "ok", "3 are live in /", "");
}

#[tokio::test]
async fn servers_of_0_3_alone_understand_each_other() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    let _server = peer.server(ServerOptions::new(AdapterVersion::V03, postgres.url())).await;
    doctor(postgres.url(), &[]).await.check("servers", "ok", "1 is live in /, with adapter 0.3", "");
}
