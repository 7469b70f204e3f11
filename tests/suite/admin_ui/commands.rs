//! The commands of a person in the UI to the sockets of a pgio node.

use serde_json::json;

use super::{Shown, socket};
use crate::support::node::AdapterVersion;

#[tokio::test]
async fn the_ui_moves_and_disconnects_sockets_of_a_node() {
    for version in [AdapterVersion::V05, AdapterVersion::V03] {
        let shown = Shown::start(version, "development", &[]).await;
        let (one, other) = (shown.client().await, shown.client().await);
        let ui = shown.ui().await;
        socket(&ui.all_sockets().await, one.id());

        ui.command("join", json!(["/", "vip", one.id()])).await;
        ui.wait_for_event("room_joined", &["/".into(), "vip".into(), one.id().into()]).await;
        ui.command("emit", json!(["/", "vip", "news", 7])).await;
        assert_eq!(one.wait_for_event("news").await.args, [json!(7)]);
        // A command to all sockets of a room.
        ui.command("join", json!(["/", "vip", other.id()])).await;
        ui.wait_for_event("room_joined", &["/".into(), "vip".into(), other.id().into()]).await;
        ui.command("leave", json!(["/", "vip", "vip"])).await;
        for client in [&one, &other] {
            ui.wait_for_event("room_left", &["/".into(), "vip".into(), client.id().into()]).await;
        }
        ui.command("_disconnect", json!(["/", false, one.id()])).await;
        assert_eq!(one.wait_for_disconnect().await, "io server disconnect");
        let gone = ui.wait_for_event("socket_disconnected", &["/".into(), one.id().into()]).await;
        assert_eq!(gone[2], "server namespace disconnect");
        ui.command("_disconnect", json!(["/", true, null])).await;
        other.wait_for_disconnect().await;
        ui.wait_for_event("socket_disconnected", &["/".into(), other.id().into()]).await;
        // Neither client has received the events of the other.
        assert_eq!(other.received().await, []);
    }
}
