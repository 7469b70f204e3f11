//! The real program: `pgio serve` in a separate process.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::node::{Client, ClientOptions, NodePeer};
use super::pgio::{pgio, run};
use super::schema;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running `pgio serve`, which is killed on drop.
pub struct PgioServe {
    child: Child,
    /// Its announcement on stdout at the end of the start.
    pub announced: Value,
    log: Arc<Mutex<Vec<Value>>>,
    reader: AbortOnDropHandle<()>,
}

/// The command with these arguments and no other configuration.
pub fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgio"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG") || name == "DATABASE_URL") {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the command until it ends by itself. Returns the status and its stderr, without the log.
pub async fn fails(args: &[&str]) -> (i32, String) {
    let listen: &[&str] = if args.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
    let output = command(["serve"].iter().chain(listen).chain(args)).env("RUST_LOG", "off").output();
    let output = timeout(PATIENCE, output).await.expect("it ends").expect("the program can be run");
    (output.status.code().expect("it exits"), String::from_utf8(output.stderr).unwrap())
}

impl PgioServe {
    /// Starts the server on a database.
    pub async fn start(url: &str, args: &[&str]) -> PgioServe {
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--database-url", url];
        Self::spawn(command(fixed.iter().chain(args))).await
    }

    /// Starts a command for `serve`.
    pub async fn spawn(mut command: Command) -> PgioServe {
        command.args(["-o", "json", "--log-format", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let writer = log.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                writer.lock().unwrap().push(line);
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, stdout.next_line()).await.expect("it starts in time").unwrap();
        let Some(line) = line else { panic!("it did not start: {:?}", log.lock().unwrap()) };
        let announced = serde_json::from_str(&line).unwrap();
        schema::check("serve", &announced);
        PgioServe { child, announced, log, reader: AbortOnDropHandle::new(reader) }
    }

    /// The URL for its clients.
    pub fn url(&self) -> String {
        let url = self.announced["url"].as_str().unwrap();
        url.split("/socket.io").next().unwrap().to_owned()
    }

    pub fn address(&self) -> &str {
        self.announced["address"].as_str().unwrap()
    }

    /// Connects a client from a Node process.
    pub async fn client(&self, peer: &NodePeer) -> Client {
        peer.client(ClientOptions::new(&self.url())).await
    }

    /// Connects a client with this `auth`.
    pub async fn client_with(&self, peer: &NodePeer, auth: Value) -> Client {
        peer.client(ClientOptions::new(&self.url()).auth(auth)).await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs");
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// The peak memory of the server so far, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.memory_of("VmHWM:")
    }

    /// The current memory of the server, in bytes.
    pub fn memory(&self) -> usize {
        self.memory_of("VmRSS:")
    }

    fn memory_of(&self, name: &str) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id().expect("it runs"))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap()
    }

    /// Requests a page. Returns the status and the body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.request(&format!("GET {path} HTTP/1.0\r\nhost: pgio\r\n\r\n")).await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// Sends a request and waits for the end of the response. Returns the head and the body.
    pub async fn request(&self, text: &str) -> (String, String) {
        self.request_at(self.address(), text).await
    }

    /// The same, at another address of the server.
    pub async fn request_at(&self, address: &str, text: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it answers").unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split_once("\r\n\r\n").map(|(head, body)| (head.into(), body.into())).expect("an HTTP answer")
    }

    pub async fn wait_for_ready(&self, status: u16) {
        until(&format!("/readyz says {status}"), async || self.get("/readyz").await.0 == status).await;
    }

    /// A metric, with its labels as they are printed. 0 if it does not exist yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let address = self.announced["adminAddress"].as_str().unwrap_or(self.address());
        let (_, text) = self.request_at(address, "GET /metrics HTTP/1.0\r\nhost: pgio\r\n\r\n").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub async fn wait_for_metric(&self, name: &str, value: f64) {
        until(&format!("{name} is {value}"), async || self.metric(name).await == value).await;
    }

    /// Closes the pipe of the log.
    pub async fn close_log(&mut self) {
        self.reader.abort();
        until("nobody reads the log", async || self.reader.is_finished()).await;
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a log line with this message.
    pub async fn wait_for_log(&self, message: &str) -> Value {
        let find = || self.log().into_iter().find(|line| line["fields"]["message"] == message);
        until(&format!("the log says {message:?}: {:?}", self.log()), async || find().is_some()).await;
        find().unwrap()
    }
}

/// Waits until the condition holds. Panics after a timeout.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the servers of a database have no sockets, for less than the ping timeout of a socket.
pub async fn no_socket_is_left(database: &str) {
    until("no socket is left", async || {
        run(&mut pgio(database, &["sockets", "--count"])).await.succeeded().stdout == "0\n"
    })
    .await;
}
