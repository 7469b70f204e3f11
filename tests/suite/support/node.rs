//! Live Socket.IO peers: a Node process with real servers, clients and emitters, controlled through its stdin.
//!
//! The other half is `tests/interop/peer.js`. Bytes are `{"$binary": "<base64>"}` in every value. An error of the
//! harness is a panic. An error that a test may expect is a `Result`.

mod client;
mod crowd;
mod emitter;
mod operator;
mod primary;
mod server;
mod stream;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use client::{Break, Client, ClientOptions};
pub use emitter::EmitterOptions;
pub use operator::Operator;
pub use server::{AdapterVersion, Server, ServerOptions, cluster};
pub use stream::{Drained, StreamOptions};

/// The deadline of every wait of the harness, unless a test sets another one.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A received event with its arguments.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Event {
    pub event: String,
    pub args: Vec<Value>,
}

/// An expected [`Event`]; `args` is an array.
pub fn event(event: &str, args: Value) -> Event {
    Event { event: event.into(), args: array(args) }
}

/// Bytes in the form of the harness, from base64.
pub fn binary(base64: &str) -> Value {
    json!({ "$binary": base64 })
}

/// A JavaScript `Date` for the Node process. It comes back as the string.
pub fn date(iso8601: &str) -> Value {
    json!({ "$date": iso8601 })
}

/// The payload encoding between a server and its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Parser {
    #[default]
    Default,
    Msgpack,
}

/// An error in the Node process.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerError {
    pub message: String,
    /// The answers that arrived before the error, if a request has several.
    pub responses: Option<Vec<Value>>,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A Node process. It ends when the last handle to it, or to one of its parts, is dropped.
#[derive(Clone)]
pub struct NodePeer {
    process: Arc<Process>,
    /// The worker of the process that gets the requests, counted from 1. `None` for the process itself.
    worker: Option<usize>,
}

struct Process {
    child: tokio::sync::Mutex<Child>,
    stdin: tokio::sync::Mutex<ChildStdin>,
    pending: Pending,
    last_id: AtomicU64,
    reader: JoinHandle<()>,
}

/// The requests without an answer yet. `None` after the end of the process, since no more answers will come.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>>;

#[derive(Deserialize)]
struct Reply {
    id: u64,
    ok: Option<Value>,
    error: Option<String>,
    responses: Option<Vec<Value>>,
}

impl NodePeer {
    pub async fn start() -> NodePeer {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        assert!(
            directory.join("node_modules/.package-lock.json").exists(),
            "the Node packages are not installed; run: npm ci --prefix tests/interop"
        );
        let mut child = Command::new("node")
            .arg(directory.join("peer.js"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot start node ({error}); install Node.js, then run: npm ci --prefix tests/interop"
                )
            });
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let pending = Pending::new(Mutex::new(Some(HashMap::new())));
        let reader = tokio::spawn(read(BufReader::new(stdout).lines(), pending.clone()));
        let process =
            Process { child: child.into(), stdin: stdin.into(), pending, last_id: AtomicU64::new(0), reader };
        NodePeer { process: Arc::new(process), worker: None }
    }

    /// Ends the process with SIGKILL, so that its servers say no goodbye.
    pub async fn kill(&self) {
        self.process.child.lock().await.kill().await.expect("the process can be killed");
    }

    /// The process id, while it runs.
    pub async fn pid(&self) -> Option<u32> {
        self.process.child.lock().await.id()
    }

    /// Sends a request to the process, and waits for the answer.
    async fn request<T: DeserializeOwned>(&self, what: &str, parameters: Value) -> Result<T, PeerError> {
        let process = &self.process;
        let id = process.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        match process.pending.lock().expect("no panic under the lock").as_mut() {
            Some(pending) => drop(pending.insert(id, sender)),
            None => panic!("{what}: the Node process has gone"),
        }
        let mut request = parameters;
        request["id"] = id.into();
        request["do"] = what.into();
        if let Some(worker) = self.worker {
            request["worker"] = worker.into();
        }
        // The write fails if the process has ended. Then the receiver reports it.
        process.stdin.lock().await.write_all(format!("{request}\n").as_bytes()).await.ok();
        match receiver.await {
            Err(_) => panic!("{what}: the Node process went away"),
            Ok(Reply { error: Some(message), responses, .. }) => Err(PeerError { message, responses }),
            Ok(Reply { ok, .. }) => Ok(serde_json::from_value(ok.unwrap_or_default())
                .unwrap_or_else(|error| panic!("{what}: unexpected answer: {error}"))),
        }
    }

    /// The same, for a request that fails only if the test is wrong.
    async fn call<T: DeserializeOwned>(&self, what: &str, parameters: Value) -> T {
        self.request(what, parameters).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut lines: Lines<BufReader<ChildStdout>>, pending: Pending) {
    while let Ok(Some(line)) = lines.next_line().await {
        let reply: Reply =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("not an answer: {line}: {error}"));
        let mut pending = pending.lock().expect("no panic under the lock");
        if let Some(sender) = pending.as_mut().and_then(|pending| pending.remove(&reply.id)) {
            sender.send(reply).ok(); // the test may have stopped waiting
        }
    }
    pending.lock().expect("no panic under the lock").take();
}

fn array(args: Value) -> Vec<Value> {
    match args {
        Value::Array(args) => args,
        other => panic!("arguments are an array, not {other}"),
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().expect("a sane duration")
}
