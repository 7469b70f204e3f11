//! A pgio node under test: the program `pgio serve`, its log, and its `/readyz` over time.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::clock::Moment;
use super::program;

/// How long the program may take to start.
const START: Duration = Duration::from_secs(30);

/// The polling interval of `/readyz`.
pub const SAMPLING: Duration = Duration::from_millis(100);

/// How long it may take to answer.
const PROBE: Duration = Duration::from_secs(1);

/// An answer of `/readyz`.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Moment,
    /// The status; `None` where there was no answer in time.
    pub status: Option<u16>,
}

/// A line of the log.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub at: Moment,
    pub level: String,
    pub text: String,
}

#[derive(Default)]
struct Seen {
    samples: Vec<Sample>,
    log: Vec<LogLine>,
}

type Shared = Arc<Mutex<Seen>>;

/// A node; its process is killed when this is dropped.
pub struct PgioNode {
    pub name: &'static str,
    database: String,
    port: u16,
    seen: Shared,
    running: Option<Running>,
    _probing: AbortOnDropHandle<()>,
}

struct Running {
    child: Child,
    _log: AbortOnDropHandle<()>,
}

/// The resources of a process.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Resident memory in KiB.
    pub memory: u64,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl PgioNode {
    /// Starts a node that hosts `/` and `/files` and relays the events of clients to everyone else.
    pub async fn start(name: &'static str, database: String) -> Self {
        let (port, seen) = (program::free_port(), Shared::default());
        let probing = AbortOnDropHandle::new(tokio::spawn(probe(port, seen.clone())));
        let mut node = Self { name, database, port, seen, running: None, _probing: probing };
        node.start_again().await;
        node
    }

    /// Starts the process, on the port that the node always has.
    pub async fn start_again(&mut self) {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut command = program::pgio(&[
            "serve",
            "-o",
            "json",
            "--listen",
            &listen,
            "-n",
            "/",
            "-n",
            "/files",
            "--relay=namespace",
            "--no-init",
            "--log-format",
            "json",
            "--cleanup-interval",
            super::world::CLEANUP,
        ]);
        command.env("DATABASE_URL", &self.database).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pgio can be started");
        let stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = AbortOnDropHandle::new(tokio::spawn(read_log(stderr, self.seen.clone())));
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let announced = timeout(START, stdout.next_line()).await;
        if !matches!(announced, Ok(Ok(Some(_)))) {
            panic!("node {} does not start: {}", self.name, self.last_words());
        }
        self.running = Some(Running { child, _log: log });
    }

    /// Ends the process with SIGKILL.
    pub async fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.kill().await.expect("a child can be killed");
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref()?.child.id()
    }

    /// Whether the process has ended by itself.
    pub fn has_died(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| !matches!(running.child.try_wait(), Ok(None)))
    }

    /// Where its clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The first moment at or after this one when `/readyz` said 503, or the log had a warning or an error.
    pub fn noticed_since(&self, moment: Moment) -> Option<Moment> {
        self.with(|seen| {
            let samples = seen.samples.iter().rev().take_while(|sample| sample.at >= moment);
            let unready = samples.filter(|sample| sample.status == Some(503)).map(|sample| sample.at).min();
            let lines = seen.log.iter().rev().take_while(|line| line.at >= moment);
            let logged = lines.filter(|line| is_notice(line)).map(|line| line.at).min();
            unready.into_iter().chain(logged).min()
        })
    }

    /// From when on `/readyz` has said 200 all the time; `None` while the last answer is another one.
    pub fn ready_since(&self) -> Option<Moment> {
        self.with(|seen| {
            let ready = seen.samples.iter().rev().take_while(|sample| sample.status == Some(200));
            ready.last().map(|sample| sample.at)
        })
    }

    /// The warnings and errors of the log since that moment, each text once with how often it came.
    pub fn warnings_since(&self, moment: Moment) -> Vec<String> {
        let texts = self.with(|seen| {
            let lines = seen.log.iter().filter(|line| line.at >= moment && line.level != "INFO");
            lines.map(|line| (line.at.since(moment), line.text.clone())).collect::<Vec<_>>()
        });
        let mut distinct: Vec<(Duration, String, usize)> = Vec::new();
        for (after, text) in texts {
            match distinct.iter_mut().find(|(_, known, _)| *known == text) {
                Some((_, _, count)) => *count += 1,
                None => distinct.push((after, text, 1)),
            }
        }
        let line = |(after, text, count): (Duration, String, usize)| match count {
            1 => format!("+{:.1} s {text}", after.as_secs_f64()),
            _ => format!("+{:.1} s {text} ({count} times)", after.as_secs_f64()),
        };
        distinct.into_iter().map(line).collect()
    }

    /// The resources of the process; `None` while there is none.
    pub fn resources(&self) -> Option<Resources> {
        let pid = self.pid()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let memory = memory.trim().trim_end_matches(" kB").parse().ok()?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Resources { memory, descriptors })
    }

    fn last_words(&self) -> String {
        let last =
            self.with(|seen| seen.log.iter().rev().take(3).map(|line| line.text.clone()).collect::<Vec<_>>());
        if last.is_empty() { "it said nothing".into() } else { last.join("; ") }
    }

    fn with<T>(&self, work: impl FnOnce(&Seen) -> T) -> T {
        work(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a line reports a problem.
fn is_notice(line: &LogLine) -> bool {
    matches!(line.level.as_str(), "WARN" | "ERROR")
}

async fn read_log(mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>, seen: Shared) {
    while let Ok(Some(line)) = lines.next_line().await {
        let value: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        let level = value["level"].as_str().unwrap_or("ERROR").to_owned();
        let text = match value["fields"]["message"].as_str() {
            None => line,
            Some(message) => match value["fields"]["error"].as_str() {
                Some(error) => format!("{message}: {error}"),
                None => message.to_owned(),
            },
        };
        let line = LogLine { at: Moment::now(), level, text };
        seen.lock().unwrap_or_else(PoisonError::into_inner).log.push(line);
    }
}

/// Polls `/readyz`.
async fn probe(port: u16, seen: Shared) {
    let mut ticks = interval(SAMPLING);
    loop {
        ticks.tick().await;
        let at = Moment::now();
        let status = timeout(PROBE, ready_status(port)).await.ok().flatten();
        seen.lock().unwrap_or_else(PoisonError::into_inner).samples.push(Sample { at, status });
    }
}

async fn ready_status(port: u16) -> Option<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\nhost: soak\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
