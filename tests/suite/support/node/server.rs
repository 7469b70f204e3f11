//! Socket.IO servers with the Node adapter, one version each.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::operator::Operator;
use super::{Client, ClientOptions, Event, NodePeer, PATIENCE, Parser, millis};

/// A release of `@socket.io/postgres-adapter`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum AdapterVersion {
    /// 0.3.1
    #[serde(rename = "0.3")]
    V03,
    /// 0.4.0
    #[serde(rename = "0.4")]
    V04,
    /// 0.5.0
    #[serde(rename = "0.5")]
    V05,
    /// A worker of a Node cluster, with `@socket.io/cluster-adapter` 0.3.0. Its primary has 0.5.0.
    #[serde(rename = "worker")]
    Worker,
}

impl AdapterVersion {
    pub const ALL: [AdapterVersion; 3] = [AdapterVersion::V03, AdapterVersion::V04, AdapterVersion::V05];

    /// Whether a server of this version counts one of `other`. 0.3.1 sends no `nsp`, and 0.5.0 drops all messages
    /// without it.
    fn counts(self, other: AdapterVersion) -> bool {
        !(self == AdapterVersion::V05 && other == AdapterVersion::V03)
    }
}

/// The options of a [`Server`]. An option that is not set has the default of the adapter.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerOptions {
    version: AdapterVersion,
    url: String,
    namespaces: Vec<String>,
    parser: Parser,
    #[serde(flatten)]
    adapter: serde_json::Map<String, Value>,
}

impl ServerOptions {
    /// The options of a server with the namespace `/`.
    pub fn new(version: AdapterVersion, url: impl Into<String>) -> ServerOptions {
        ServerOptions {
            version,
            url: url.into(),
            namespaces: vec!["/".into()],
            parser: Parser::Default,
            adapter: serde_json::Map::new(),
        }
    }

    /// Adds a namespace.
    pub fn namespace(mut self, nsp: &str) -> ServerOptions {
        self.namespaces.push(nsp.into());
        self
    }

    pub fn parser(mut self, parser: Parser) -> ServerOptions {
        self.parser = parser;
        self
    }

    pub fn channel_prefix(self, prefix: &str) -> ServerOptions {
        self.option("channelPrefix", prefix)
    }

    pub fn table_name(self, table: &str) -> ServerOptions {
        self.option("tableName", table)
    }

    pub fn payload_threshold(self, bytes: u64) -> ServerOptions {
        self.option("payloadThreshold", bytes)
    }

    pub fn heartbeat(self, interval: Duration, timeout: Duration) -> ServerOptions {
        self.option("heartbeatInterval", millis(interval)).option("heartbeatTimeout", millis(timeout))
    }

    /// The maximum number of connections to Postgres, including the listening one. With two, messages are published in
    /// order.
    pub fn pool_size(self, connections: u32) -> ServerOptions {
        self.option("poolSize", connections)
    }

    /// The port of its HTTP server. Default: a free one.
    pub fn port(self, port: u16) -> ServerOptions {
        self.option("port", port)
    }

    /// The token that clients have to send as `auth.token`.
    pub fn token(self, token: &str) -> ServerOptions {
        self.option("token", token)
    }

    /// `instrument(io, …)` of `@socket.io/admin-ui`, without authentication. `/admin` has to be one of the namespaces.
    pub fn admin_ui(self, options: Value) -> ServerOptions {
        self.option("adminUi", options)
    }

    /// Any other option of the adapter.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> ServerOptions {
        self.adapter.insert(name.into(), value.into());
        self
    }
}

/// A Socket.IO server on a free port, with a separate pool. It acknowledges the events of its clients with their
/// arguments, as one array.
#[derive(Clone)]
pub struct Server {
    peer: NodePeer,
    id: String,
    url: String,
    parser: Parser,
}

impl NodePeer {
    /// Starts a server. On return its adapter listens on the channels of all its namespaces.
    ///
    /// It may not know the other servers yet, since 0.3.1 and 0.4.0 send their initial heartbeat before they listen.
    /// See [`Server::roll_call`].
    pub async fn server(&self, options: ServerOptions) -> Server {
        #[derive(Deserialize)]
        struct Started {
            server: String,
            url: String,
        }
        let Started { server, url } = self.call("server.start", json!(options)).await;
        Server { peer: self.clone(), id: server, url, parser: options.parser }
    }
}

/// Servers on one database, in one process each. Each server counts all other servers that it can see.
///
/// Only equal versions, and 0.4.0 with 0.5.0, make a whole cluster. 0.3.1 receives the messages of newer versions and
/// processes them, but newer versions drop its broadcasts and requests. 0.4.0 waits for answers of 0.3.1 that it drops,
/// and 0.5.0 does not even count 0.3.1.
pub async fn cluster<const N: usize>(
    versions: [AdapterVersion; N],
    options: impl Fn(AdapterVersion) -> ServerOptions,
) -> [Server; N] {
    let start = async |version| NodePeer::start().await.server(options(version)).await;
    let servers = join_all(versions.map(start)).await;
    servers[0].roll_call("/").await;
    for (server, version) in servers.iter().zip(versions) {
        let visible = versions.into_iter().filter(|&other| version.counts(other)).count();
        server.wait_for_server_count("/", visible).await;
    }
    servers.try_into().unwrap_or_else(|_| unreachable!("one server for each version"))
}

impl Server {
    /// The server's HTTP address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process of the server.
    pub fn peer(&self) -> &NodePeer {
        &self.peer
    }

    /// Connects a client from within the same process.
    pub async fn client(&self, nsp: &str) -> Client {
        self.peer.client(ClientOptions::new(&self.url).namespace(nsp).parser(self.parser)).await
    }

    /// Selects a namespace for emits and requests.
    pub fn of(&self, nsp: &str) -> Operator {
        Operator::of_server(&self.peer, &self.id, nsp)
    }

    /// Selects the namespace `/`.
    pub fn io(&self) -> Operator {
        self.of("/")
    }

    /// The number of servers that this server counts, including itself. 0.3.1 drops no silent servers here: it checks
    /// them only when it fetches sockets or sends a request to the other servers.
    pub async fn server_count(&self, nsp: &str) -> usize {
        self.call("server.count", nsp, json!({})).await
    }

    pub async fn wait_for_server_count(&self, nsp: &str, count: usize) {
        self.call("server.waitForServerCount", nsp, json!({ "count": count, "timeout": millis(PATIENCE) }))
            .await
    }

    /// Makes all servers of the cluster send a heartbeat, without becoming a member. Then all listening servers count
    /// each other.
    pub async fn roll_call(&self, nsp: &str) {
        self.call("server.rollCall", nsp, json!({})).await
    }

    /// Answers a server-side event from now on. Without an answer the server sends none.
    pub async fn answer(&self, nsp: &str, event: &str, value: Value) {
        self.answer_late(nsp, event, value, Duration::ZERO).await
    }

    pub async fn answer_late(&self, nsp: &str, event: &str, value: Value, delay: Duration) {
        let answer = json!({ "event": event, "value": value, "delay": millis(delay) });
        self.call("server.answer", nsp, answer).await
    }

    /// Stops answering.
    pub async fn silent(&self, nsp: &str, event: &str) {
        self.call("server.answer", nsp, json!({ "event": event, "silent": true })).await
    }

    /// The server-side events since the last [`Server::drain`].
    pub async fn received(&self, nsp: &str) -> Vec<Event> {
        self.call("server.received", nsp, json!({})).await
    }

    /// Returns the same events, and deletes them.
    pub async fn drain(&self, nsp: &str) -> Vec<Event> {
        self.call("server.received", nsp, json!({ "drain": true })).await
    }

    /// Waits for this number of server-side events since the last drain.
    pub async fn wait_for(&self, nsp: &str, count: usize) -> Vec<Event> {
        self.call("server.waitForCount", nsp, json!({ "count": count, "timeout": millis(PATIENCE) })).await
    }

    /// Waits until the adapter listens again, after it has lost its connection this many times.
    pub async fn wait_until_listening_after(&self, losses: usize) {
        let parameters = json!({ "nth": losses + 1, "timeout": millis(PATIENCE) });
        self.call("server.waitListening", "/", parameters).await
    }

    /// The errors that the adapter's error handler received, and the errors of its connections.
    pub async fn errors(&self) -> Vec<String> {
        self.call("server.errors", "/", json!({})).await
    }

    /// Closes the server in order.
    pub async fn stop(self) {
        self.call("server.stop", "/", json!({})).await
    }

    pub(super) async fn call<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        nsp: &str,
        mut parameters: Value,
    ) -> T {
        parameters["server"] = json!(self.id);
        parameters["nsp"] = json!(nsp);
        self.peer.call(what, parameters).await
    }
}
