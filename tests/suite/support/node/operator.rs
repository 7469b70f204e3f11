//! The chain of a target and an operation, for a namespace of a server and for an emitter.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{NodePeer, PeerError, array, millis};

/// A target within one namespace. Node's own methods do the work, so names and semantics are those of Node.
///
/// A future resolves after Postgres has committed the messages.
#[derive(Clone)]
pub struct Operator {
    peer: NodePeer,
    /// `server.call` or `emitter.call`.
    command: &'static str,
    request: Value,
}

/// A socket, as `fetchSockets` describes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RemoteSocket {
    pub id: String,
    pub rooms: Vec<String>,
    #[serde(default)]
    pub data: Value,
    pub handshake: Value,
}

impl Operator {
    pub(super) fn of_server(peer: &NodePeer, server: &str, nsp: &str) -> Operator {
        Operator::new(peer, "server.call", json!({ "server": server, "nsp": nsp }))
    }

    pub(super) fn of_emitter(peer: &NodePeer, emitter: &str, nsp: &str) -> Operator {
        Operator::new(peer, "emitter.call", json!({ "emitter": emitter, "nsp": nsp }))
    }

    fn new(peer: &NodePeer, command: &'static str, mut request: Value) -> Operator {
        request["rooms"] = json!([]);
        request["except"] = json!([]);
        request["flags"] = json!({});
        Operator { peer: peer.clone(), command, request }
    }

    pub fn to(self, room: &str) -> Operator {
        self.push("rooms", room)
    }

    /// A room whose name is a number.
    pub fn in_number(self, room: u64) -> Operator {
        self.push("rooms", room)
    }

    /// An excluded room that is `null`.
    pub fn except_null(self) -> Operator {
        self.push("except", Value::Null)
    }

    pub fn except(self, room: &str) -> Operator {
        self.push("except", room)
    }

    pub fn volatile(self) -> Operator {
        self.flag("volatile", true)
    }

    pub fn compress(self, compress: bool) -> Operator {
        self.flag("compress", compress)
    }

    pub fn local(self) -> Operator {
        self.flag("local", true)
    }

    pub fn timeout(self, timeout: Duration) -> Operator {
        self.flag("timeout", millis(timeout))
    }

    fn push(mut self, list: &str, room: impl Into<Value>) -> Operator {
        self.request[list].as_array_mut().expect("made as an array").push(room.into());
        self
    }

    fn flag(mut self, name: &str, value: impl Into<Value>) -> Operator {
        self.request["flags"][name] = value.into();
        self
    }

    /// Broadcasts; `args` is an array.
    pub async fn emit(self, event: &str, args: Value) {
        self.call("emit", with_event(event, args)).await.unwrap_or_else(|error| panic!("emit: {error}"));
    }

    /// Broadcasts with a request for acknowledgements. Needs [`Operator::timeout`].
    pub async fn emit_with_ack(self, event: &str, args: Value) -> Result<Vec<Value>, PeerError> {
        assert!(self.request["flags"]["timeout"].is_u64(), "emit_with_ack needs a timeout");
        self.call("emitWithAck", with_event(event, args)).await.map(array)
    }

    /// Broadcasts `count` events with 0, 1, 2, … as their only argument. The order is kept if the server's pool has two
    /// connections, one of which listens.
    pub async fn burst(mut self, event: &str, count: u64) {
        assert_eq!(self.command, "server.call", "only servers burst");
        self.request["event"] = event.into();
        self.request["count"] = count.into();
        self.peer.call("server.burst", self.request).await
    }

    /// Requests the answer of the one target socket. The answer is not in a list.
    pub async fn ask_socket(
        mut self,
        event: &str,
        args: Value,
        timeout: Duration,
    ) -> Result<Value, PeerError> {
        assert_eq!(self.command, "server.call", "only servers know sockets");
        self.request["event"] = event.into();
        self.request["args"] = args;
        self.request["timeout"] = millis(timeout).into();
        self.peer.request("server.askSocket", self.request).await
    }

    pub async fn sockets_join(self, rooms: &[&str]) {
        self.call("socketsJoin", json!([rooms])).await.unwrap_or_else(|error| panic!("join: {error}"));
    }

    /// Joins a room whose name is a number, which is another room than that of the text.
    pub async fn sockets_join_number(self, room: u64) {
        self.call("socketsJoin", json!([room])).await.unwrap_or_else(|error| panic!("join: {error}"));
    }

    pub async fn sockets_leave(self, rooms: &[&str]) {
        self.call("socketsLeave", json!([rooms])).await.unwrap_or_else(|error| panic!("leave: {error}"));
    }

    pub async fn disconnect_sockets(self, close: bool) {
        self.call("disconnectSockets", json!([close]))
            .await
            .unwrap_or_else(|error| panic!("disconnect: {error}"));
    }

    pub async fn fetch_sockets(self) -> Result<Vec<RemoteSocket>, PeerError> {
        let sockets = self.call("fetchSockets", json!([])).await?;
        Ok(serde_json::from_value(sockets).unwrap_or_else(|error| panic!("fetchSockets: {error}")))
    }

    /// Emits to the other servers of the cluster. An emitter emits to all servers.
    pub async fn server_side_emit(self, event: &str, args: Value) {
        self.call("serverSideEmit", with_event(event, args))
            .await
            .unwrap_or_else(|error| panic!("serverSideEmit: {error}"));
    }

    /// Requests one answer of each other server of the cluster.
    pub async fn server_side_emit_with_ack(self, event: &str, args: Value) -> Result<Vec<Value>, PeerError> {
        self.call("serverSideEmitWithAck", with_event(event, args)).await.map(array)
    }

    async fn call(mut self, method: &str, args: Value) -> Result<Value, PeerError> {
        self.request["method"] = method.into();
        self.request["args"] = args;
        self.peer.request(self.command, self.request).await
    }
}

fn with_event(event: &str, args: Value) -> Value {
    let mut all = vec![Value::from(event)];
    all.extend(array(args));
    all.into()
}
