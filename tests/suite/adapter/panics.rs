//! A panic in code of the application is reported, and does not end other tasks.

use std::time::Duration;

use pgio::cluster::ErrorHandler;
use pgio::{AdapterOptions, Emitter, Error};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::support::node::{NodePeer, Parser, event};
use crate::support::pgio_node::PgioNode;
use crate::support::postgres::{Postgres, postgres};

async fn node(buffer: usize) -> (Postgres, PgioNode, UnboundedReceiver<Error>) {
    let postgres = postgres().await;
    let (sender, errors) = unbounded_channel();
    let handler = move |error: &Error| drop(sender.send(error.clone()));
    let options = AdapterOptions::default().error_handler(ErrorHandler::new(handler));
    let build = |builder: socketioxide::SocketIoBuilder<_>| builder.max_buffer_size(buffer);
    let node = PgioNode::start_with(postgres.url(), options, Parser::Default, build).await;
    (postgres, node, errors)
}

async fn assert_reported(errors: &mut UnboundedReceiver<Error>, message: &str) {
    let found = timeout(Duration::from_secs(10), async {
        while !errors.recv().await.expect("the node is there").to_string().contains(message) {}
    });
    found.await.unwrap_or_else(|_| panic!("nobody told of {message:?}"));
}

#[tokio::test]
async fn a_panic_of_a_server_side_handler_is_reported_and_others_go_on() {
    let (postgres, node, mut errors) = node(100).await;
    node.adapter.on_server_side("/", "at once", |_| -> std::future::Ready<_> { panic!("broke at once") });
    node.adapter.on_server_side("/", "later", async |_| {
        tokio::task::yield_now().await;
        panic!("broke later")
    });
    node.adapter.on_server_side("/", "sound", async |_| Some(7.into()));
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.server_side_emit("at once", ()).await.unwrap();
    assert_reported(&mut errors, "broke at once").await;
    emitter.server_side_emit("later", ()).await.unwrap();
    assert_reported(&mut errors, "broke later").await;
    let answers = emitter.server_side_emit_with_ack("sound", (), Duration::from_secs(10)).await.unwrap();
    assert_eq!(answers.into_values(), [7.into()]);
}

#[tokio::test]
async fn a_panic_of_the_fallback_is_reported_and_others_go_on() {
    let (postgres, node, mut errors) = node(100).await;
    node.adapter.on_any_server_side(|_| -> std::future::Ready<_> { panic!("no such event") });
    node.adapter.on_server_side("/", "sound", async |_| Some(7.into()));
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.server_side_emit("unknown", ()).await.unwrap();
    assert_reported(&mut errors, "no such event").await;
    let answers = emitter.server_side_emit_with_ack("sound", (), Duration::from_secs(10)).await.unwrap();
    assert_eq!(answers.into_values(), [7.into()]);
}

#[tokio::test]
async fn a_panic_of_the_handler_for_slow_clients_is_reported_and_others_go_on() {
    const BUFFER: usize = 4;
    let (postgres, node, mut errors) = node(BUFFER).await;
    node.adapter.on_slow_client(|_, _| panic!("cannot cope"));
    connect_and_never_poll(&node.url).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    for n in 0..=BUFFER {
        emitter.emit("n", n).await.unwrap();
    }
    assert_reported(&mut errors, "cannot cope").await;

    let peer = NodePeer::start().await;
    let client = node.client(&peer, "/").await;
    emitter.emit("after", ()).await.unwrap();
    assert_eq!(client.wait_for(1).await, [event("after", json!([]))]);
}

/// Connects a client by long polling, which takes no packet out of its buffer afterwards.
async fn connect_and_never_poll(url: &str) {
    let path = "/socket.io/?EIO=4&transport=polling";
    let opened = request(url, &format!("GET {path} HTTP/1.1"), "").await;
    let (_, rest) = opened.split_once(r#""sid":""#).unwrap();
    let (sid, _) = rest.split_once('"').unwrap();
    let joined = request(url, &format!("POST {path}&sid={sid} HTTP/1.1"), "40").await;
    assert!(joined.contains("200 OK"), "{joined}");
}

async fn request(url: &str, line: &str, body: &str) -> String {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let length = body.len();
    let head = format!("{line}\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}
