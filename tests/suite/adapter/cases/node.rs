//! The cases of the suite of `@socket.io/postgres-adapter`: three servers with a client each. In each case a Node server
//! acts and then the pgio node, so that pgio is the receiver first and then the sender.

use std::time::Duration;

use futures_util::StreamExt;
use pgio::protocol::BroadcastOptions;
use pgio::{Args, Value};
use serde_json::{Value as Json, json};

use crate::adapter::Three;
use crate::support::node::AdapterVersion::V05;
use crate::support::node::{Client, Event, binary, event};
use crate::support::pgio_node::Adapter;

const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough for an answer, and short enough to wait for.
const SHORT: Duration = Duration::from_millis(700);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sender {
    /// The first Node server.
    Node,
    /// The pgio node.
    Pgio,
}

const SENDERS: [Sender; 2] = [Sender::Node, Sender::Pgio];

/// The target sockets.
#[derive(Default, Clone, Copy)]
struct To<'a> {
    rooms: &'a [&'a str],
    except: &'a [&'a str],
    local: bool,
}

fn room<'a>(rooms: &'a [&'a str]) -> To<'a> {
    To { rooms, ..To::default() }
}

struct Case {
    three: Three,
}

impl Case {
    async fn start() -> Case {
        Case { three: Three::start([V05, V05]).await }
    }

    fn node(&self, to: To<'_>) -> crate::support::node::Operator {
        let mut operator = self.three.servers[0].io();
        for room in to.rooms {
            operator = operator.to(room);
        }
        for room in to.except {
            operator = operator.except(room);
        }
        if to.local { operator.local() } else { operator }
    }

    fn pgio(&self, to: To<'_>) -> socketioxide::operators::BroadcastOperators<Adapter> {
        let mut operator = self.three.node.io.broadcast();
        for room in to.rooms {
            operator = operator.to(room.to_string());
        }
        for room in to.except {
            operator = operator.except(room.to_string());
        }
        if to.local { operator.local() } else { operator }
    }

    async fn emit(&self, sender: Sender, to: To<'_>, event: &str, args: Json) {
        match sender {
            Sender::Node => self.node(to).emit(event, args).await,
            Sender::Pgio => self.pgio(to).emit(event, &self::args(args)).await.unwrap(),
        }
    }

    /// The acknowledgements, in any order, and whether all arrived.
    async fn ask(&self, sender: Sender, to: To<'_>, timeout: Duration) -> (Vec<Json>, bool) {
        let (mut answers, complete) = match sender {
            Sender::Node => match self.node(to).timeout(timeout).emit_with_ack("test", json!([])).await {
                Ok(answers) => (answers, true),
                Err(error) => (error.responses.unwrap(), false),
            },
            Sender::Pgio => {
                let acks = self.pgio(to).timeout(timeout);
                let acks = acks.emit_with_ack::<_, Value>("test", &Args::default()).await.unwrap();
                let acks: Vec<_> = acks.map(|(_, ack)| ack).collect().await;
                let complete = acks.iter().all(Result::is_ok);
                (acks.into_iter().flatten().map(plain).collect(), complete)
            }
        };
        answers.sort_by_key(ToString::to_string);
        (answers, complete)
    }

    /// Requests the only answer of one socket.
    async fn ask_one(&self, sender: Sender, id: &str, timeout: Duration) -> Option<Json> {
        match sender {
            Sender::Node => self.node(room(&[id])).ask_socket("test", json!([]), timeout).await.ok(),
            Sender::Pgio => {
                let ack = self.pgio(room(&[id])).timeout(timeout);
                ack.emit_with_ack::<_, Value>("test", &Args::default()).await.unwrap().await.ok().map(plain)
            }
        }
    }

    async fn join(&self, sender: Sender, to: To<'_>, name: &str) {
        match sender {
            Sender::Node => self.node(to).sockets_join(&[name]).await,
            Sender::Pgio => self.pgio(to).join(name.to_owned()).await.unwrap(),
        }
    }

    async fn leave(&self, sender: Sender, to: To<'_>, name: &str) {
        match sender {
            Sender::Node => self.node(to).sockets_leave(&[name]).await,
            Sender::Pgio => self.pgio(to).leave(name.to_owned()).await.unwrap(),
        }
    }

    /// The client of the sending server, of the other Node server, and of the remaining server.
    fn clients(&self, sender: Sender) -> [&Client; 3] {
        let [first, second, ours] = self.three.clients();
        match sender {
            Sender::Node => [first, second, ours],
            Sender::Pgio => [ours, second, first],
        }
    }

    /// Makes the clients at these places join a room, by a request of their own servers.
    async fn seat(&self, sender: Sender, places: &[usize], name: &str) {
        for place in places {
            let client = self.clients(sender)[*place];
            match client.id() == self.three.ours.id() {
                true => self.three.node.join(client, &[name]).await,
                false => client.join(&[name]).await,
            }
        }
    }

    /// Whether each client is in a room, after all servers have processed the messages of the sender.
    async fn are_in(&self, sender: Sender, name: &str) -> [bool; 3] {
        self.received(sender).await;
        let opts = BroadcastOptions::default().to(name);
        let sockets = self.three.node.adapter.fetch_all_sockets("/", opts, PATIENCE).await.unwrap();
        assert!(sockets.is_complete());
        let ids: Vec<_> = sockets.into_values().into_iter().map(|socket| socket.id).collect();
        self.clients(sender).map(|client| ids.iter().any(|id| id == client.id()))
    }

    /// The events that each client has received from the sender. A last event `end` proves that no other follows.
    async fn received(&self, sender: Sender) -> [Vec<Event>; 3] {
        self.emit(sender, To::default(), "end", json!([])).await;
        let drain = async |client: &Client| {
            client.wait_for_event("end").await;
            let mut events = client.drain().await;
            events.retain(|event| event.event != "end");
            events
        };
        let [a, b, c] = self.clients(sender);
        [drain(a).await, drain(b).await, drain(c).await]
    }

    async fn assert_received(&self, sender: Sender, places: [bool; 3]) {
        let expected = places.map(|is_meant| if is_meant { vec![event("test", json!([]))] } else { vec![] });
        assert_eq!(self.received(sender).await, expected, "{sender:?}");
    }
}

/// Arguments with bytes as the harness writes them.
fn args(args: Json) -> Args {
    args.as_array().unwrap().iter().map(value).collect()
}

fn value(json: &Json) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    match json.get("$binary").and_then(Json::as_str) {
        Some(bytes) => Value::Binary(STANDARD.decode(bytes).unwrap().into()),
        None => json.clone().into(),
    }
}

/// The reverse of [`args`] for one value.
fn plain(value: Value) -> Json {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    match value {
        Value::Binary(bytes) => binary(&STANDARD.encode(bytes)),
        value => serde_json::to_value(value).unwrap(),
    }
}

#[tokio::test]
async fn broadcasts_to_all_clients() {
    let case = Case::start().await;
    for sender in SENDERS {
        let args = json!([1, "2", binary("AwQ=")]);
        case.emit(sender, To::default(), "test", args.clone()).await;
        for client in case.clients(sender) {
            assert_eq!(client.wait_for_event("test").await, event("test", args.clone()), "{sender:?}");
            client.drain().await;
        }
    }
}

#[tokio::test]
async fn broadcasts_to_all_clients_in_a_namespace() {
    let case = Case::start().await;
    let [first, second] = &case.three.servers;
    let node = &case.three.node;
    let clients = [
        first.client("/admin").await,
        second.client("/admin").await,
        node.client(first.peer(), "/admin").await,
    ];
    first.of("/admin").emit("by Node", json!([])).await;
    node.io.of("/admin").unwrap().emit("by pgio", &Args::default()).await.unwrap();
    for client in &clients {
        let events = client.wait_for(2).await;
        assert!(events.contains(&event("by Node", json!([]))), "{events:?}");
        assert!(events.contains(&event("by pgio", json!([]))), "{events:?}");
    }
    for sender in SENDERS {
        case.assert_received(sender, [false; 3]).await;
    }
}

#[tokio::test]
async fn broadcasts_to_all_clients_in_a_room() {
    let case = Case::start().await;
    for sender in SENDERS {
        case.seat(sender, &[1], "room1").await;
        case.emit(sender, room(&["room1"]), "test", json!([])).await;
        case.assert_received(sender, [false, true, false]).await;
    }
}

#[tokio::test]
async fn broadcasts_to_all_clients_except_in_room() {
    let case = Case::start().await;
    for sender in SENDERS {
        case.seat(sender, &[1], "room1").await;
        case.emit(sender, To { except: &["room1"], ..To::default() }, "test", json!([])).await;
        case.assert_received(sender, [true, false, true]).await;
    }
}

#[tokio::test]
async fn broadcasts_to_local_clients_only() {
    let case = Case::start().await;
    for sender in SENDERS {
        case.emit(sender, To { local: true, ..To::default() }, "test", json!([])).await;
        case.assert_received(sender, [true, false, false]).await;
    }
}

#[tokio::test]
async fn broadcasts_with_multiple_acknowledgements() {
    let case = Case::start().await;
    for sender in SENDERS {
        for (client, answer) in case.clients(sender).into_iter().zip(1..) {
            client.answer("test", json!(answer)).await;
        }
        let answers = case.ask(sender, To::default(), PATIENCE).await;
        assert_eq!(answers, (vec![json!(1), json!(2), json!(3)], true), "{sender:?}");
    }
}

#[tokio::test]
async fn broadcasts_with_multiple_acknowledgements_of_binary_content() {
    let case = Case::start().await;
    for sender in SENDERS {
        for (client, bytes) in case.clients(sender).into_iter().zip(["AQ==", "Ag==", "Aw=="]) {
            client.answer("test", binary(bytes)).await;
        }
        let answers = case.ask(sender, To::default(), PATIENCE).await;
        assert_eq!(answers, (["AQ==", "Ag==", "Aw=="].map(binary).to_vec(), true), "{sender:?}");
    }
}

#[tokio::test]
async fn broadcasts_with_multiple_acknowledgements_of_no_client() {
    let case = Case::start().await;
    for sender in SENDERS {
        assert_eq!(case.ask(sender, room(&["abc"]), PATIENCE).await, (vec![], true), "{sender:?}");
    }
}

#[tokio::test]
async fn broadcasts_with_multiple_acknowledgements_and_a_timeout() {
    let case = Case::start().await;
    for sender in SENDERS {
        let [first, second, silent] = case.clients(sender);
        first.answer("test", json!(1)).await;
        second.answer("test", json!(2)).await;
        silent.silent("test").await;
        let answers = case.ask(sender, To::default(), SHORT).await;
        assert_eq!(answers, (vec![json!(1), json!(2)], false), "{sender:?}");
    }
}

#[tokio::test]
async fn broadcasts_with_a_single_acknowledgement() {
    let case = Case::start().await;
    for sender in SENDERS {
        for client in case.clients(sender) {
            client.answer("test", json!([client.id()])).await;
            assert_eq!(case.ask_one(sender, client.id(), PATIENCE).await, Some(json!([client.id()])));
        }
    }
}

#[tokio::test]
async fn broadcasts_with_a_single_acknowledgement_of_binary_content() {
    let case = Case::start().await;
    for sender in SENDERS {
        for client in case.clients(sender) {
            client.answer("test", binary("AQI=")).await;
            assert_eq!(case.ask_one(sender, client.id(), PATIENCE).await, Some(binary("AQI=")));
        }
    }
}

#[tokio::test]
async fn broadcasts_with_a_single_acknowledgement_and_a_timeout() {
    let case = Case::start().await;
    for sender in SENDERS {
        for client in case.clients(sender) {
            assert_eq!(case.ask_one(sender, client.id(), SHORT).await, None, "{sender:?}");
        }
    }
}

#[tokio::test]
async fn makes_all_socket_instances_join_the_specified_room() {
    let case = Case::start().await;
    for (sender, name) in SENDERS.into_iter().zip(["by Node", "by pgio"]) {
        case.join(sender, To::default(), name).await;
        assert_eq!(case.are_in(sender, name).await, [true; 3], "{sender:?}");
    }
}

#[tokio::test]
async fn makes_the_matching_socket_instances_join_the_specified_room() {
    let case = Case::start().await;
    for (sender, name) in SENDERS.into_iter().zip(["by Node", "by pgio"]) {
        let some = format!("some {name}");
        case.seat(sender, &[0, 2], &some).await;
        case.join(sender, room(&[&some]), name).await;
        assert_eq!(case.are_in(sender, name).await, [true, false, true], "{sender:?}");
    }
}

#[tokio::test]
async fn makes_the_given_socket_instance_join_the_specified_room() {
    let case = Case::start().await;
    for (sender, name) in SENDERS.into_iter().zip(["by Node", "by pgio"]) {
        for place in 0..3 {
            let name = format!("{name} {place}");
            case.join(sender, room(&[case.clients(sender)[place].id()]), &name).await;
            let expected = [0, 1, 2].map(|other| other == place);
            assert_eq!(case.are_in(sender, &name).await, expected, "{sender:?}");
        }
    }
}

#[tokio::test]
async fn makes_all_socket_instances_leave_the_specified_room() {
    let case = Case::start().await;
    for sender in SENDERS {
        case.seat(sender, &[0, 2], "room1").await;
        case.leave(sender, To::default(), "room1").await;
        assert_eq!(case.are_in(sender, "room1").await, [false; 3], "{sender:?}");
    }
}

#[tokio::test]
async fn makes_the_matching_socket_instances_leave_the_specified_room() {
    let case = Case::start().await;
    for (sender, name) in SENDERS.into_iter().zip(["by Node", "by pgio"]) {
        let some = format!("some {name}");
        case.seat(sender, &[0, 1], &some).await;
        case.seat(sender, &[0, 1, 2], name).await;
        case.leave(sender, room(&[&some]), name).await;
        assert_eq!(case.are_in(sender, name).await, [false, false, true], "{sender:?}");
    }
}

#[tokio::test]
async fn makes_the_given_socket_instance_leave_the_specified_room() {
    let case = Case::start().await;
    for (sender, name) in SENDERS.into_iter().zip(["by Node", "by pgio"]) {
        case.seat(sender, &[0, 1, 2], name).await;
        case.leave(sender, room(&[case.clients(sender)[1].id()]), name).await;
        assert_eq!(case.are_in(sender, name).await, [true, false, true], "{sender:?}");
    }
}

#[tokio::test]
async fn makes_all_socket_instances_disconnect() {
    for sender in SENDERS {
        let case = Case::start().await;
        match sender {
            Sender::Node => case.three.servers[0].io().disconnect_sockets(false).await,
            Sender::Pgio => case.three.node.io.disconnect().await.unwrap(),
        }
        for client in case.clients(sender) {
            assert_eq!(client.wait_for_disconnect().await, "io server disconnect", "{sender:?}");
        }
    }
}

#[tokio::test]
async fn returns_all_socket_instances() {
    let case = Case::start().await;
    let mut ids = case.three.clients().map(|client| client.id().to_owned());
    ids.sort();
    let by_node = case.three.servers[0].io().fetch_sockets().await.unwrap();
    let mut by_node: Vec<_> = by_node.into_iter().map(|socket| socket.id).collect();
    by_node.sort();
    assert_eq!(by_node, ids);
    let all = BroadcastOptions::default();
    let by_pgio = case.three.node.adapter.fetch_all_sockets("/", all, PATIENCE).await.unwrap();
    assert_eq!((by_pgio.nodes, by_pgio.is_complete()), (3, true));
    let mut by_pgio: Vec<_> = by_pgio.into_values().into_iter().map(|socket| socket.id).collect();
    by_pgio.sort();
    assert_eq!(by_pgio, ids);
}

#[tokio::test]
async fn returns_a_single_socket_instance() {
    let case = Case::start().await;
    let [_, theirs, ours] = case.three.clients();
    ours.emit_with_ack("data", json!(["test"])).await.unwrap();
    theirs.set_data(json!("test")).await;
    let by_node = case.node(room(&[ours.id()])).fetch_sockets().await.unwrap();
    let [socket] = &by_node[..] else { panic!("{by_node:?}") };
    assert_eq!((&socket.data, &socket.rooms[..]), (&json!("test"), &[ours.id().to_owned()][..]));
    assert!(socket.handshake["headers"]["host"].is_string(), "{:?}", socket.handshake);
    let opts = BroadcastOptions::default().to(theirs.id());
    let by_pgio = case.three.node.adapter.fetch_all_sockets("/", opts, PATIENCE).await.unwrap().into_values();
    let [socket] = &by_pgio[..] else { panic!("{by_pgio:?}") };
    assert_eq!((&socket.data, &socket.rooms[..]), (&"test".into(), &[theirs.id().to_owned()][..]));
    assert!(socket.handshake.get("headers").unwrap().get("host").unwrap().as_str().is_some());
}

#[tokio::test]
async fn returns_only_local_socket_instances() {
    let case = Case::start().await;
    let by_node = case.node(To { local: true, ..To::default() }).fetch_sockets().await.unwrap();
    assert_eq!(by_node.len(), 1);
    let by_pgio = case.pgio(To { local: true, ..To::default() }).fetch_sockets().await.unwrap();
    let ids: Vec<_> = by_pgio.iter().map(|socket| socket.data().id.to_string()).collect();
    assert_eq!(ids, [case.three.ours.id()]);
}

#[tokio::test]
async fn sends_an_event_to_other_server_instances() {
    let Case { three } = Case::start().await;
    let (told, mut heard) = tokio::sync::mpsc::channel(8);
    three.node.adapter.on_server_side("/", "hello", move |event| {
        let told = told.clone();
        async move {
            told.send(event).await.unwrap();
            None
        }
    });
    let expected = event("hello", json!(["world", 1, "2"]));
    three.servers[0].io().server_side_emit("hello", json!(["world", 1, "2"])).await;
    let at_ours = heard.recv().await.unwrap();
    assert_eq!(at_ours.args, ["world".into(), 1.into(), "2".into()]);
    assert_eq!((at_ours.namespace.as_str(), at_ours.wants_answer), ("/", false));
    assert_eq!(three.servers[1].wait_for("/", 1).await, std::slice::from_ref(&expected));
    three.node.adapter.server_side_emit("/", "hello", ("world", 1, "2")).await.unwrap();
    assert_eq!(three.servers[1].wait_for("/", 2).await[1], expected);
    assert_eq!(three.servers[0].wait_for("/", 1).await, [expected]);
    // A server does not receive its own event: that event would have come before the one of another server.
    three.servers[1].io().server_side_emit("hello", json!(["end"])).await;
    assert_eq!(heard.recv().await.unwrap().args, ["end".into()]);
}

#[tokio::test]
async fn sends_an_event_and_receives_a_response_from_the_other_server_instances() {
    let Case { three } = Case::start().await;
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let note = seen.clone();
    three.node.adapter.on_server_side("/", "hello", move |event| {
        *note.lock().unwrap() = Some(event);
        std::future::ready(Some("ours".into()))
    });
    three.servers[0].answer("/", "hello", json!(2)).await;
    three.servers[1].answer("/", "hello", json!("3")).await;
    let answers = three.servers[0].io().server_side_emit_with_ack("hello", json!([])).await.unwrap();
    assert_eq!(answers.len(), 2);
    assert!(answers.contains(&json!("3")) && answers.contains(&json!("ours")), "{answers:?}");
    let event = seen.lock().unwrap().take().unwrap();
    assert!(event.wants_answer && event.args.is_empty() && !event.from.is_emitter(), "{event:?}");
    let answers = three.node.adapter.server_side_emit_with_ack("/", "hello", (), PATIENCE).await.unwrap();
    assert!(answers.is_complete());
    let answers = answers.into_values();
    assert!(answers.contains(&2.into()) && answers.contains(&"3".into()), "{answers:?}");
}

#[tokio::test]
async fn sends_an_event_but_times_out_if_one_server_does_not_respond() {
    let Case { three } = Case::start().await;
    // The pgio node does not answer, and later the second server does not either.
    three.servers[1].answer("/", "hello", json!(2)).await;
    let error = three.servers[0].io().server_side_emit_with_ack("hello", json!([])).await.unwrap_err();
    assert_eq!(error.message, "timeout reached: missing 1 responses");
    assert_eq!(error.responses, Some(vec![json!(2)]));
    let answers = three.node.adapter.server_side_emit_with_ack("/", "hello", (), SHORT).await.unwrap();
    assert_eq!((answers.answers.len(), answers.silent.len()), (1, 1));
}

#[tokio::test]
async fn succeeds_even_if_an_instance_leaves_the_cluster() {
    let Case { three } = Case::start().await;
    let Three { servers: [first, second], node, .. } = three;
    first.answer("/", "hello", json!(1)).await;
    let ask = node.adapter.server_side_emit_with_ack("/", "hello", (), Duration::from_secs(600));
    let leave = async {
        second.wait_for("/", 1).await;
        second.stop().await;
    };
    let (answers, ()) = tokio::join!(ask, leave);
    let answers = answers.unwrap();
    assert_eq!((answers.answers.len(), answers.is_complete()), (1, true));
}

#[tokio::test]
async fn a_removed_handler_is_not_called() {
    let Case { three } = Case::start().await;
    let adapter = &three.node.adapter;
    adapter.on_server_side("/", "hello", async |_| Some("own".into()));
    adapter.on_any_server_side(async |event| Some(format!("any {}", event.event).into()));
    let emitter = pgio::Emitter::new(adapter.cluster().clone());
    let ask = async || {
        let answers = emitter.server_side_emit_with_ack("hello", (), SHORT).await.unwrap();
        answers.into_values()
    };
    assert_eq!(ask().await, ["own".into()]);
    assert!(adapter.off_server_side("/", "hello"));
    assert_eq!(ask().await, ["any hello".into()]);
    assert!(adapter.off_any_server_side());
    assert_eq!(ask().await, []);
    assert!(!adapter.off_server_side("/", "hello") && !adapter.off_any_server_side());
}
