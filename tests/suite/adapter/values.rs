//! `pgio::Value` as what handlers receive and emit.

use pgio::{Args, Date, Value};
use serde_json::json;
use socketioxide::extract::{AckSender, Data, SocketRef};

use crate::support::attachments::create_attachment_table;
use crate::support::node::{NodePeer, Parser, binary, event};
use crate::support::pgio_node::{Adapter, PgioNode};
use crate::support::postgres::postgres;

async fn node_that_echoes(parser: Parser) -> (PgioNode, crate::support::node::Client, NodePeer) {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let node = PgioNode::start_with(postgres.url(), Default::default(), parser, |builder| builder).await;
    let connect = async |socket: SocketRef<Adapter>| {
        socket.on("echo", async |Data(value): Data<Value>, ack: AckSender<Adapter>| {
            ack.send(&value).unwrap();
        });
        socket.on("swap", async |Data((a, b)): Data<(Value, Value)>, ack: AckSender<Adapter>| {
            ack.send(&vec![b, a]).unwrap();
        });
        socket.on("all", async |Data(args): Data<Args>, ack: AckSender<Adapter>| {
            ack.send(&args.into_vec()).unwrap();
        });
    };
    node.io.ns("/values", connect).await.unwrap();
    let peer = NodePeer::start().await;
    let client = node.client(&peer, "/values").await;
    (node, client, peer)
}

#[tokio::test]
async fn a_handler_receives_and_acknowledges_a_value_with_its_binary() {
    for parser in [Parser::Default, Parser::Msgpack] {
        let (_node, client, _peer) = node_that_echoes(parser).await;
        let values = [
            binary("AQI="),
            binary(""),
            json!({"deep": [binary("AA=="), {"b": binary("/w==")}], "n": 1.5}),
            json!([1, binary("Aw==")]),
            json!("text"),
            json!(null),
        ];
        for value in values {
            let back = client.emit_with_ack("echo", json!([value])).await.unwrap();
            assert_eq!(back, value, "{parser:?}");
        }
        let swapped = client.emit_with_ack("swap", json!([binary("AQ=="), binary("Ag==")])).await.unwrap();
        assert_eq!(swapped, json!([binary("Ag=="), binary("AQ==")]), "{parser:?}");
    }
}

#[tokio::test]
async fn an_emitted_value_arrives_with_its_binary() {
    for parser in [Parser::Default, Parser::Msgpack] {
        let (node, client, _peer) = node_that_echoes(parser).await;
        let nsp = node.io.of("/values").unwrap();
        let bytes = Value::Binary(vec![1, 2].into());
        nsp.clone().emit("root", &bytes).await.unwrap();
        nsp.clone().emit("list", &Value::from(vec![bytes.clone(), Value::Null])).await.unwrap();
        nsp.clone().emit("several", &(bytes.clone(), 5, &bytes)).await.unwrap();
        nsp.clone().emit("null", &Value::Null).await.unwrap();
        let expected = [
            event("root", json!([binary("AQI=")])),
            event("list", json!([[binary("AQI="), null]])),
            event("several", json!([binary("AQI="), 5, binary("AQI=")])),
            event("null", json!([null])),
        ];
        assert_eq!(client.wait_for(expected.len()).await, expected, "{parser:?}");
    }
}

#[tokio::test]
async fn an_emitted_date_arrives_as_text() {
    let (node, client, _peer) = node_that_echoes(Parser::Default).await;
    let date = Value::Date(Date::from_millis(1_700_000_000_123).unwrap());
    node.io.of("/values").unwrap().emit("date", &date).await.unwrap();
    assert_eq!(client.wait_for(1).await, [event("date", json!(["2023-11-14T22:13:20.123Z"]))]);
}

#[tokio::test]
async fn any_number_of_arguments_comes_and_goes() {
    for parser in [Parser::Default, Parser::Msgpack] {
        let (node, client, _peer) = node_that_echoes(parser).await;
        for args in [json!([]), json!([null]), json!([1, binary("AQ=="), {"a": [binary("Ag==")]}])] {
            let all = client.emit_with_ack("all", args.clone()).await.unwrap();
            assert_eq!(all, args, "{parser:?}");
        }
        let nsp = node.io.of("/values").unwrap();
        let bytes = Value::Binary(vec![1].into());
        nsp.clone().emit("none", &Args::default()).await.unwrap();
        nsp.clone().emit("two", &Args::from(vec![bytes, 5.into()])).await.unwrap();
        let expected = [event("none", json!([])), event("two", json!([binary("AQ=="), 5]))];
        assert_eq!(client.wait_for(2).await, expected, "{parser:?}");
    }
}
