//! Clients (`socket.io-client`) of Node servers and of any other servers.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Event, NodePeer, PATIENCE, Parser, PeerError, array, millis};

/// The options of a [`Client`]. By default it uses websockets only, and does not reconnect.
#[derive(Clone, Debug, Serialize)]
pub struct ClientOptions {
    url: String,
    nsp: String,
    parser: Parser,
    /// Options of `socket.io-client` itself.
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
}

impl ClientOptions {
    /// The namespace `/` of the server at `url`.
    pub fn new(url: &str) -> ClientOptions {
        ClientOptions {
            url: url.into(),
            nsp: "/".into(),
            parser: Parser::Default,
            more: serde_json::Map::new(),
        }
    }

    pub fn namespace(mut self, nsp: &str) -> ClientOptions {
        self.nsp = nsp.into();
        self
    }

    pub fn parser(mut self, parser: Parser) -> ClientOptions {
        self.parser = parser;
        self
    }

    /// `websocket`, `polling`, or both in the order to try them.
    pub fn transports(self, transports: &[&str]) -> ClientOptions {
        self.option("transports", json!(transports))
    }

    /// The value that the server finds in `handshake.auth`.
    pub fn auth(self, auth: Value) -> ClientOptions {
        self.option("auth", auth)
    }

    /// Any other option of `socket.io-client`.
    pub fn option(mut self, name: &str, value: Value) -> ClientOptions {
        self.more.insert(name.into(), value);
        self
    }
}

/// A connected client. It keeps every event in order, until [`count`](Client::count) is called.
#[derive(Clone)]
pub struct Client {
    peer: NodePeer,
    handle: String,
    id: String,
}

/// The counts of one event at a counting client.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    pub count: u64,
    /// The first place where the numbers were not consecutive.
    pub first_break: Option<Break>,
}

/// A number that did not follow its predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Break {
    /// Events before it.
    pub at: u64,
    pub expected: u64,
    pub got: u64,
}

impl NodePeer {
    /// Connects a client that has to be admitted.
    pub async fn client(&self, options: ClientOptions) -> Client {
        self.try_client(options).await.unwrap_or_else(|error| panic!("connect: {error}"))
    }

    /// Connects a client. The error is that of `connect_error`.
    pub async fn try_client(&self, options: ClientOptions) -> Result<Client, PeerError> {
        #[derive(Deserialize)]
        struct Connected {
            client: String,
            socket: String,
        }
        let Connected { client, socket } = self.request("client.connect", json!(options)).await?;
        Ok(Client { peer: self.clone(), handle: client, id: socket })
    }
}

impl Client {
    /// The socket id that the client got when it first connected.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Joins rooms at the server, which has to run in the same process. This applies to the next two methods as well.
    pub async fn join(&self, rooms: &[&str]) {
        self.call("client.join", json!({ "rooms": rooms })).await
    }

    pub async fn leave(&self, rooms: &[&str]) {
        self.call("client.leave", json!({ "rooms": rooms })).await
    }

    /// Sets `socket.data`.
    pub async fn set_data(&self, data: Value) {
        self.call("client.setData", json!({ "data": data })).await
    }

    /// The events since the last [`Client::drain`].
    pub async fn received(&self) -> Vec<Event> {
        self.call("client.received", json!({})).await
    }

    /// Returns the same events, and deletes them.
    pub async fn drain(&self) -> Vec<Event> {
        self.call("client.received", json!({ "drain": true })).await
    }

    /// Waits for this number of events since the last drain. Returns all events.
    pub async fn wait_for(&self, count: usize) -> Vec<Event> {
        self.call("client.waitForCount", json!({ "count": count, "timeout": millis(PATIENCE) })).await
    }

    /// Waits for an event of that name. Returns the first one since the last drain.
    pub async fn wait_for_event(&self, event: &str) -> Event {
        self.call("client.waitForEvent", json!({ "event": event, "timeout": millis(PATIENCE) })).await
    }

    /// `connect`, `disconnect` (with the reason) and `connect_error`, in order.
    pub async fn lifecycle(&self) -> Vec<Event> {
        self.call("client.lifecycle", json!({})).await
    }

    /// Waits until the client is disconnected. Returns the reason.
    pub async fn wait_for_disconnect(&self) -> Value {
        self.wait_for_lifecycle("disconnect", 1).await.args.remove(0)
    }

    /// Waits until `connect`, `disconnect` or `connect_error` has happened this many times.
    pub async fn wait_for_lifecycle(&self, event: &str, times: usize) -> Event {
        let parameters = json!({ "event": event, "times": times, "timeout": millis(PATIENCE) });
        self.call("client.waitForLifecycle", parameters).await
    }

    /// Counts the events from now on instead of keeping them. The first argument of each event has to be a number: one
    /// more than in the event of the same name before.
    pub async fn count(&self) {
        self.call("client.count", json!({})).await
    }

    /// Waits until a counting client has this many events of that name.
    pub async fn wait_for_tally(&self, event: &str, count: u64, timeout: Duration) -> Tally {
        let parameters = json!({ "event": event, "count": count, "timeout": millis(timeout) });
        self.call("client.waitForTally", parameters).await
    }

    /// Acknowledges an event from now on. Without an answer the client sends none.
    pub async fn answer(&self, event: &str, value: Value) {
        self.answer_late(event, value, Duration::ZERO).await
    }

    pub async fn answer_late(&self, event: &str, value: Value, delay: Duration) {
        let answer = json!({ "event": event, "value": value, "delay": millis(delay) });
        self.call("client.answer", answer).await
    }

    /// Stops answering.
    pub async fn silent(&self, event: &str) {
        self.call("client.answer", json!({ "event": event, "silent": true })).await
    }

    /// Emits to the server; `args` is an array.
    pub async fn emit(&self, event: &str, args: Value) {
        self.call("client.emit", json!({ "event": event, "args": array(args) })).await
    }

    /// Emits to the server, and waits for the acknowledgement.
    pub async fn emit_with_ack(&self, event: &str, args: Value) -> Result<Value, PeerError> {
        let parameters = json!({
            "client": self.handle, "event": event, "args": array(args), "timeout": millis(PATIENCE),
        });
        self.peer.request("client.emitWithAck", parameters).await
    }

    pub async fn disconnect(&self) {
        self.call("client.disconnect", json!({})).await
    }

    pub(super) async fn call<T: DeserializeOwned>(&self, what: &str, mut parameters: Value) -> T {
        parameters["client"] = json!(self.handle);
        self.peer.call(what, parameters).await
    }
}
