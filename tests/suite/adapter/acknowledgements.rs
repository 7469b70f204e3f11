//! Broadcasts with acknowledgements, both ways.

use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use socketioxide::AckError;

use super::Three;
use crate::support::attachments::lock_attachment_table;
use crate::support::node::AdapterVersion::{V03, V04, V05};
use crate::support::node::{NodePeer, binary};
use crate::support::pgio_node::PgioNode;
use crate::support::postgres::own_server;

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(ToString::to_string);
    values
}

#[tokio::test]
async fn clients_of_the_node_answer_node_servers() {
    for versions in [[V04, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        three.theirs[0].answer("q", json!("first")).await;
        three.theirs[1].answer("q", json!(null)).await;
        three.ours.answer("q", json!({"ours": binary("AQI=")})).await;
        for server in &three.servers {
            let answers =
                server.io().timeout(Duration::from_secs(20)).emit_with_ack("q", json!([1])).await.unwrap();
            assert_eq!(
                sorted(answers),
                sorted(vec![json!("first"), json!(null), json!({"ours": binary("AQI=")})])
            );
        }
        // A room without clients, a client that does not answer, and a single socket.
        let server = &three.servers[1];
        let none =
            server.io().to("empty").timeout(Duration::from_secs(20)).emit_with_ack("q", json!([])).await;
        assert!(none.unwrap().is_empty());
        let one = server
            .io()
            .to(three.ours.id())
            .timeout(Duration::from_secs(20))
            .emit_with_ack("q", json!([]))
            .await;
        assert_eq!(one.unwrap(), [json!({"ours": binary("AQI=")})]);
        three.ours.silent("q").await;
        let error =
            server.io().timeout(Duration::from_millis(700)).emit_with_ack("q", json!([])).await.unwrap_err();
        assert_eq!(error.message, "operation has timed out");
        assert_eq!(error.responses.map(|responses| responses.len()), Some(2));
    }
}

#[tokio::test]
async fn a_single_socket_answers_for_itself_wherever_it_is() {
    for versions in [[V04, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        three.ours.answer("q", json!({"ours": binary("AQI=")})).await;
        three.theirs[0].answer("q", json!("theirs")).await;
        let patience = Duration::from_secs(20);
        for server in &three.servers {
            let ours = server.io().to(three.ours.id()).ask_socket("q", json!([1]), patience).await;
            assert_eq!(ours.unwrap(), json!({"ours": binary("AQI=")}));
            let theirs = server.io().to(three.theirs[0].id()).ask_socket("q", json!([1]), patience).await;
            assert_eq!(theirs.unwrap(), "theirs");
        }
        three.ours.silent("q").await;
        let late =
            three.servers[1].io().to(three.ours.id()).ask_socket("q", json!([]), Duration::from_millis(500));
        assert_eq!(late.await.unwrap_err().message, "operation has timed out");
    }
}

#[tokio::test]
async fn clients_of_the_node_alone_answer_it() {
    let three = Three::start([V05, V05]).await;
    three.ours.answer("q", json!({"by": "ours", "bytes": binary("AQ==")})).await;
    let socket = three.node.io.get_socket(three.ours.id().parse().unwrap()).unwrap();
    let own: Answer = socket.emit_with_ack("q", "?").unwrap().await.unwrap();
    assert_eq!(own, answer("ours", &[1]));
    let local = three.node.io.local().emit_with_ack::<_, Answer>("q", "?").await.unwrap();
    let answers: Vec<_> = local.collect().await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0.to_string(), three.ours.id());
    assert_eq!(answers[0].1.as_ref().unwrap(), &own);
}

/// The answer of a client, with its bytes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Answer {
    by: String,
    bytes: ByteBuf,
}

fn answer(by: &str, bytes: &[u8]) -> Answer {
    Answer { by: by.into(), bytes: ByteBuf::from(bytes) }
}

#[tokio::test]
async fn clients_of_node_servers_answer_the_node() {
    for versions in [[V04, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        three.theirs[0].answer("q", json!({"by": "first", "bytes": binary("AQI=")})).await;
        three.theirs[1].answer("q", json!({"by": "second", "bytes": binary("Aw==")})).await;
        three.ours.answer("q", json!({"by": "ours", "bytes": binary("")})).await;
        let ask = async |room: Option<&str>, timeout| {
            let operator = match room {
                Some(room) => three.node.io.to(room.to_owned()).timeout(timeout),
                None => three.node.io.timeout(timeout),
            };
            let acks = operator.emit_with_ack::<_, Answer>("q", &(1, "?")).await.unwrap();
            let mut answers: Vec<_> = acks.filter_map(async |(_, answer)| answer.ok()).collect().await;
            answers.sort();
            answers
        };
        let all = [answer("first", &[1, 2]), answer("ours", &[]), answer("second", &[3])];
        assert_eq!(ask(None, Duration::from_secs(20)).await, all);
        assert!(ask(Some("empty"), Duration::from_secs(20)).await.is_empty());
        assert_eq!(ask(Some(three.theirs[1].id()), Duration::from_secs(20)).await, all[2..]);
        three.theirs[0].silent("q").await;
        assert_eq!(ask(None, Duration::from_millis(700)).await, all[1..]);
    }
}

#[tokio::test]
async fn each_acknowledgement_that_is_missing_is_an_error() {
    for versions in [[V04, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        three.theirs[0].answer("q", json!("first")).await;
        let acks = three.node.io.timeout(Duration::from_millis(700));
        let acks: Vec<_> = acks.emit_with_ack::<_, String>("q", &1).await.unwrap().collect().await;
        let (came, missing): (Vec<_>, Vec<_>) = acks.into_iter().partition(|(_, ack)| ack.is_ok());
        assert_eq!(came.len(), 1);
        // The two that are missing are the client of this node and that of the other server.
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing.iter().all(|(_, ack)| matches!(ack, Err(AckError::Timeout))), "{missing:?}");
    }
}

#[tokio::test]
async fn a_silent_server_is_an_error() {
    let three = Three::start([V05, V05]).await;
    three.theirs[0].answer("q", json!("first")).await;
    three.ours.answer("q", json!("ours")).await;
    three.servers[1].peer().kill().await;
    let acks = three.node.io.timeout(Duration::from_millis(700));
    let acks: Vec<_> = acks.emit_with_ack::<_, String>("q", &1).await.unwrap().collect().await;
    let (came, missing): (Vec<_>, Vec<_>) = acks.into_iter().partition(|(_, ack)| ack.is_ok());
    assert_eq!((came.len(), missing.len()), (2, 1), "{missing:?}");
    assert!(matches!(missing[0].1, Err(AckError::Timeout)), "{missing:?}");
}

#[tokio::test]
async fn local_clients_get_the_request_while_postgres_is_unreachable() {
    use pgio::postgres::private::Shutdown;
    let mut postgres = own_server().await;
    let node = PgioNode::start(&postgres.url()).await;
    let peer = NodePeer::start().await;
    let client = node.client(&peer, "/").await;
    client.answer("q", json!("ours")).await;
    postgres.take_down(Shutdown::Immediate).await.unwrap();
    let acks = node.io.timeout(Duration::from_secs(5)).emit_with_ack::<_, String>("q", &1).await.unwrap();
    let acks: Vec<_> = acks.collect().await;
    let (came, missing): (Vec<_>, Vec<_>) = acks.into_iter().partition(|(_, ack)| ack.is_ok());
    assert_eq!(came.into_iter().map(|(_, ack)| ack.unwrap()).collect::<Vec<_>>(), ["ours"]);
    assert_eq!(missing.len(), 1, "other servers were not asked: {missing:?}");
}

#[tokio::test]
async fn local_clients_get_the_request_before_postgres_answers() {
    let three = Three::start([V05, V05]).await;
    three.ours.answer("q", json!("ours")).await;
    for client in &three.theirs {
        client.answer("q", json!("theirs")).await;
    }
    // Binary goes through the table.
    let table = lock_attachment_table(three.postgres.url()).await;
    let ask = async {
        let acks = three.node.io.timeout(Duration::from_secs(20));
        let acks = acks.emit_with_ack::<_, String>("q", &ByteBuf::from([1])).await.unwrap();
        let mut acks = std::pin::pin!(acks);
        let first = acks.next().await.unwrap().1.unwrap();
        table.wait_for_others().await;
        table.release().await;
        let rest: Vec<_> = acks.map(|(_, ack)| ack.unwrap()).collect().await;
        (first, rest)
    };
    let (first, rest) = ask.await;
    assert_eq!((first.as_str(), rest.len()), ("ours", 2));
}
