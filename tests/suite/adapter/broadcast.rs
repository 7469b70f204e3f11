//! Broadcasts, both ways.

use std::time::Duration;

use serde_bytes::ByteBuf;
use serde_json::json;

use super::{Three, sorted};
use crate::support::node::AdapterVersion::{V03, V04, V05};
use crate::support::node::{Parser, binary, date, event};
use crate::support::pgio_node::PgioNode;

/// No arguments. For socketioxide, `()` would be one argument that is null.
const NOTHING: [(); 0] = [];

#[tokio::test]
async fn from_the_node_to_clients_of_all_servers() {
    for versions in [[V05, V05], [V04, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        let io = &three.node.io;
        for client in &three.theirs {
            client.join(&["r1"]).await;
        }
        three.theirs[0].join(&["r2"]).await;
        three.node.join(&three.ours, &["r1", "r2"]).await;

        io.emit("all", &(1, "two", json!({"a": [null]}))).await.unwrap();
        io.to("r1").emit("room", "<>").await.unwrap();
        io.to(["r1", "r2"]).except("r2").emit("except", &NOTHING).await.unwrap();
        io.local().emit("local", "here").await.unwrap();
        io.emit("bytes", &(ByteBuf::from([0, 255]), 1)).await.unwrap();
        io.emit("large", &"x".repeat(9_000)).await.unwrap();
        io.to(three.theirs[1].id().to_owned()).emit("one of theirs", &NOTHING).await.unwrap();
        io.to(three.ours.id().to_owned()).emit("one of ours", &NOTHING).await.unwrap();
        io.except(three.ours.id().to_owned()).emit("not ours", &NOTHING).await.unwrap();
        three.ours.emit("to others", json!(["hi"])).await;
        io.of("/admin").unwrap().emit("admin", &NOTHING).await.unwrap();

        let common = |others: &[&str]| {
            let mut events = vec![
                event("all", json!([1, "two", {"a": [null]}])),
                event("room", json!(["<>"])),
                event("bytes", json!([binary("AP8="), 1])),
                event("large", json!(["x".repeat(9_000)])),
            ];
            events.extend(others.iter().map(|name| match *name {
                "local" => event("local", json!(["here"])),
                "from a client" => event("from a client", json!(["hi"])),
                name => event(name, json!([])),
            }));
            sorted(events)
        };
        let expected = [
            common(&["not ours", "from a client"]),
            common(&["except", "one of theirs", "not ours", "from a client"]),
            common(&["local", "one of ours"]),
        ];
        for (client, expected) in three.clients().into_iter().zip(expected) {
            assert_eq!(sorted(client.wait_for(expected.len()).await), expected);
        }
    }
}

#[tokio::test]
async fn from_node_servers_to_clients_of_the_node() {
    for (versions, parser) in
        [([V04, V05], Parser::Default), ([V04, V05], Parser::Msgpack), ([V03, V03], Parser::Default)]
    {
        let three = Three::start(versions).await;
        let url = three.postgres.url();
        let node = PgioNode::start_with(url, Default::default(), parser, |builder| builder).await;
        let peer = three.servers[0].peer();
        let in_room = node.client(peer, "/").await;
        node.join(&in_room, &["r1"]).await;
        let plain = node.client(peer, "/").await;
        let admin = node.client(peer, "/admin").await;
        let noon = "2026-01-31T12:00:00.123Z";
        for (i, server) in three.servers.iter().enumerate() {
            server.io().emit("all", json!(["text", 1.5, {"a": [true, null]}, i])).await;
            server.io().to("r1").emit("room", json!([i])).await;
            server.io().except("r1").emit("except", json!([i])).await;
            server.io().local().emit("local", json!([i])).await;
            server.io().to(plain.id()).emit("one", json!([i])).await;
            server.io().except(plain.id()).emit("all but one", json!([i])).await;
            server.io().emit("bytes", json!([{"deep": binary("AAECww==")}, date(noon), i])).await;
            server.io().emit("large", json!(["é".repeat(9_000), i])).await;
            server.of("/admin").emit("admin", json!([i])).await;
        }
        let both =
            |make: fn(usize) -> Vec<crate::support::node::Event>| sorted((0..2).flat_map(make).collect());
        let in_room_expects = both(|i| {
            vec![
                event("all", json!(["text", 1.5, {"a": [true, null]}, i])),
                event("room", json!([i])),
                event("all but one", json!([i])),
                event("bytes", json!([{"deep": binary("AAECww==")}, "2026-01-31T12:00:00.123Z", i])),
                event("large", json!(["é".repeat(9_000), i])),
            ]
        });
        let plain_expects = both(|i| {
            vec![
                event("all", json!(["text", 1.5, {"a": [true, null]}, i])),
                event("except", json!([i])),
                event("one", json!([i])),
                event("bytes", json!([{"deep": binary("AAECww==")}, "2026-01-31T12:00:00.123Z", i])),
                event("large", json!(["é".repeat(9_000), i])),
            ]
        });
        assert_eq!(sorted(in_room.wait_for(in_room_expects.len()).await), in_room_expects);
        assert_eq!(sorted(plain.wait_for(plain_expects.len()).await), plain_expects);
        let admin_expects = both(|i| vec![event("admin", json!([i]))]);
        assert_eq!(sorted(admin.wait_for(2).await), admin_expects);
    }
}

#[tokio::test]
async fn a_volatile_event_reaches_a_client_that_is_ready() {
    let three = Three::start([V05, V05]).await;
    three.servers[0].io().volatile().emit("volatile", json!([1])).await;
    assert_eq!(three.ours.wait_for(1).await, [event("volatile", json!([1]))]);
    three.node.io.volatile().emit("volatile", &2).await.unwrap();
    for client in &three.theirs {
        assert_eq!(client.wait_for_event("volatile").await.event, "volatile");
    }
}

#[tokio::test]
async fn a_burst_arrives_whole_and_in_order() {
    const BURST: u64 = 50_000;
    let three = Three::start([V05, V05]).await;
    three.ours.count().await;
    let emitter = pgio::Emitter::new(three.node.adapter.cluster().clone());
    emitter.emit_all((0..BURST).map(|n| ("n", n))).await.unwrap();
    let tally = three.ours.wait_for_tally("n", BURST, Duration::from_secs(60)).await;
    assert_eq!((tally.count, tally.first_break), (BURST, None));
}
