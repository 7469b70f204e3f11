//! Events of clients that would make other clients disconnect. The clients here use the real parser, socket.io-parser
//! 4.

use serde_json::json;

use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

/// An event: its data, the number of attachments that the packet announces, and the number that follows.
struct Sent {
    data: String,
    attachments: usize,
}

fn text(data: &str) -> Sent {
    Sent { data: data.into(), attachments: 0 }
}

fn with(attachments: usize, data: &str) -> Sent {
    Sent { data: data.into(), attachments }
}

fn placeholders(count: usize) -> String {
    (0..count).map(|n| format!(r#",{{"_placeholder":true,"num":{n}}}"#)).collect()
}

/// Sends an event with a separate client. Returns whether the server has relayed it: then it acknowledges without
/// arguments. The server closes the connection after a malformed packet.
async fn is_relayed(serve: &PgioServe, sent: &Sent) -> bool {
    let mut client = RawWebsocket::connect(serve.address()).await;
    let Sent { data, attachments } = sent;
    match attachments {
        0 => client.send(&format!("421{data}")).await,
        count => client.send(&format!("45{count}-1{data}")).await,
    }
    for _ in 0..*attachments {
        client.send_binary(b"x").await;
    }
    client.hears("431[").await && client.read_through(b']').await.is_some_and(|answer| answer == b"]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_relayed_that_makes_other_clients_hang_up() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--relay=namespace"]).await;
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let (near, far) = (serve.client(&NodePeer::start().await).await, server.client("/").await);

    let placeholder = |number: &str| format!(r#"["bad",{{"_placeholder":true,"num":{number}}}]"#);
    let mut bad = vec![
        with(11, &format!(r#"["bad"{}]"#, placeholders(11))),
        with(40, &format!(r#"["bad"{}]"#, placeholders(40))),
        // A placeholder without its attachment, and the other way round.
        with(1, &format!(r#"["bad"{}]"#, placeholders(2))),
        with(2, &format!(r#"["bad"{}]"#, placeholders(1))),
        with(1, r#"["bad",1]"#),
        with(1, r#"["bad",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#),
        with(1, r#"["bad",{"_placeholder":true}]"#),
        with(1, r#"["bad",{"_placeholder":true,"num":0},[{"deep":{"_placeholder":true,"num":7}}]]"#),
        with(1, r#"["bad",{"_placeholder":true,"num":0,"num":9}]"#),
        text(&placeholder("0")),
        text(r#"["bad",[{"a":{"_pl\u0061ceholder":true,"num":3}}]]"#),
        text(r#"["\u0063onnect"]"#),
        text(r#"["dis\u0063onnect",1]"#),
        text(r#"[7,"bad"]"#),
        text("[]"),
        text("{}"),
        text("null"),
        text(r#"["bad""#),
        text(&format!(r#"["bad",{}{}]"#, "[".repeat(300), "]".repeat(300))),
    ];
    let reserved =
        ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    bad.extend(reserved.map(|name| text(&json!([name, 1]).to_string())));
    let numbers = ["-1", "1", "0.0", "0.5", "1e0", "\"0\"", "null", "true", "[0]", "9007199254740993"];
    bad.extend(numbers.map(|number| with(1, &placeholder(number))));
    for sent in &bad {
        assert!(!is_relayed(&serve, sent).await, "{} with {}", sent.data, sent.attachments);
    }

    let good = [
        (text(r#"["good",1]"#), json!([1])),
        (
            with(10, &format!(r#"["good"{}]"#, placeholders(10))),
            json!(vec![json!({ "$binary": "eA==" }); 10]),
        ),
        (text(r#"["good",{"_placeholder":false,"num":7}]"#), json!([{ "_placeholder": false, "num": 7 }])),
        (
            with(1, r#"["good",[{"a":{"num":0,"_placeholder":true}}]]"#),
            json!([[{ "a": { "$binary": "eA==" } }]]),
        ),
    ];
    for (sent, args) in &good {
        assert!(is_relayed(&serve, sent).await, "{}", sent.data);
        for client in [&near, &far] {
            let event = client.wait_for_event("good").await;
            assert_eq!(&json!(event.args), args);
            assert_eq!(client.drain().await.len(), 1);
        }
    }
    for client in [&near, &far] {
        let lifecycle = client.lifecycle().await;
        assert_eq!(lifecycle.len(), 1, "{lifecycle:?}");
    }
}
