//! `pgio serve --admin-ui` beside Node servers that are instrumented for the official Admin UI.

mod browser;
mod commands;
mod events;
mod presence;
mod quiet;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::attachments::create_attachment_table;
use crate::support::node::{AdapterVersion, Client, ClientOptions, NodePeer, Server, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::{Postgres, postgres};

const PATIENCE: Duration = Duration::from_secs(30);

/// An instrumented Node server and a pgio node, on a separate database.
struct Shown {
    postgres: Postgres,
    peer: NodePeer,
    server: Server,
    serve: PgioServe,
}

/// The arguments of all nodes of these tests.
const ARGUMENTS: [&str; 3] = ["--admin-ui", "--allow-join", "*"];

impl Shown {
    async fn start(version: AdapterVersion, mode: &str, arguments: &[&str]) -> Shown {
        let shown = Self::start_apart(version, mode, arguments).await;
        shown.server.wait_for_server_count("/", 2).await;
        shown
    }

    /// The same, for a node without the main namespace.
    async fn start_apart(version: AdapterVersion, mode: &str, arguments: &[&str]) -> Shown {
        let postgres = postgres().await;
        create_attachment_table(postgres.url()).await;
        let (peer, server) = instrumented(&postgres, version, mode).await;
        let serve = PgioServe::start(postgres.url(), &[&ARGUMENTS[..], arguments].concat()).await;
        Shown { postgres, peer, server, serve }
    }

    /// Connects a client that acts as the UI.
    async fn ui(&self) -> Ui {
        Ui::connect(&self.server).await
    }

    async fn client(&self) -> Client {
        self.serve.client(&self.peer).await
    }
}

/// A Node server that serves the UI. The UI is one of its clients.
async fn instrumented(postgres: &Postgres, version: AdapterVersion, mode: &str) -> (NodePeer, Server) {
    let peer = NodePeer::start().await;
    let admin_ui = json!({ "mode": mode, "serverId": "node" });
    let options = ServerOptions::new(version, postgres.url()).namespace("/admin").admin_ui(admin_ui);
    let server = peer.server(options).await;
    (peer, server)
}

/// A client that receives the events of the UI.
struct Ui(Client);

impl Ui {
    async fn connect(server: &Server) -> Ui {
        Ui(server.peer().client(ClientOptions::new(server.url()).namespace("/admin")).await)
    }

    /// Waits for an event for which `find` returns something, and returns that.
    async fn wait_for<T>(&self, what: &str, find: impl Fn(&str, &[Value]) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let received = self.0.received().await;
            if let Some(found) = received.iter().find_map(|one| find(&one.event, &one.args)) {
                return found;
            }
            let names = || received.iter().map(|one| brief(&one.event, &one.args)).collect::<Vec<_>>();
            assert!(start.elapsed() < PATIENCE, "{what} did not come: {:?}", names());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for an event whose arguments start with these.
    async fn wait_for_event(&self, event: &str, first: &[Value]) -> Vec<Value> {
        let find =
            |name: &str, args: &[Value]| (name == event && args.starts_with(first)).then(|| args.to_vec());
        self.wait_for(&format!("{event} {first:?}"), find).await
    }

    /// Waits for the connection of a socket, and returns the socket.
    async fn wait_for_connected(&self, id: &str) -> Value {
        let find = |name: &str, args: &[Value]| {
            (name == "socket_connected" && args[0]["id"] == id).then(|| args[0].clone())
        };
        self.wait_for(&format!("socket_connected of {id}"), find).await
    }

    /// Waits for matching statistics of the pgio node.
    async fn wait_for_stats(&self, serve: &PgioServe, is_so: impl Fn(&Value) -> bool) -> Value {
        let pid = serve.pid();
        let find = |name: &str, args: &[Value]| {
            (name == "server_stats" && args[0]["pid"] == pid && is_so(&args[0])).then(|| args[0].clone())
        };
        self.wait_for("server_stats", find).await
    }

    /// The list of sockets that the UI received when it connected.
    async fn all_sockets(&self) -> Vec<Value> {
        let find =
            |name: &str, args: &[Value]| (name == "all_sockets").then(|| args[0].as_array().unwrap().clone());
        self.wait_for("all_sockets", find).await
    }

    /// Sends a command, as the UI does for a person.
    async fn command(&self, event: &str, args: Value) {
        self.0.emit(event, args).await;
    }
}

/// An event without the fields that are the same in all events.
fn brief(event: &str, args: &[Value]) -> String {
    let first = args.first().unwrap_or(&Value::Null);
    let subject = first.get("id").or(first.get("serverId")).unwrap_or(first);
    format!("{event} {subject} {:.200}", json!(args.get(1..)).to_string())
}

fn socket<'a>(sockets: &'a [Value], id: &str) -> &'a Value {
    sockets.iter().find(|socket| socket["id"] == id).unwrap_or_else(|| panic!("no {id} in {sockets:?}"))
}
