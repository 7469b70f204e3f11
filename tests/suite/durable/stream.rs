//! A numbered stream of durable events through outages, beside one of inline events.
//!
//! `make soak-durable` runs the long form: ten outages of 1 to 8 s. `make test` runs three short ones.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgio::postgres::private::Shutdown;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};

use crate::support::node::NodePeer;
use crate::support::pgio::{Running, pgio};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::own_server;
use crate::support::proxy::{Mode, Proxy};

/// The rate of durable events, and of inline events beside them, per second.
const RATE: u64 = 1000;
const INLINE_RATE: u64 = 100;

/// The deadline for the end of both streams.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

/// The pause between two outages.
const BETWEEN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Outage {
    /// All connections are reset, new ones as well.
    Reset,
    /// The network holds all bytes back, and delivers them at the end.
    Silence,
    /// Postgres shuts down in the ordinary way.
    RestartFast,
    /// Postgres ends as in a crash.
    RestartImmediate,
}

const OUTAGES: [Outage; 4] = [Outage::Reset, Outage::RestartFast, Outage::Silence, Outage::RestartImmediate];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// A stream of numbered events from `pgio emit`.
struct Stream {
    running: Running,
    writing: JoinHandle<u64>,
    is_over: Arc<AtomicBool>,
}

impl Stream {
    fn start(url: &str, event: &'static str, rate: u64, flags: &[&str]) -> Stream {
        let arguments = [&["emit", "--from", "-", "--retry-for", "60s", "-o", "json"], flags].concat();
        let mut running = Running::start(pgio(url, &arguments).stdin(std::process::Stdio::piped()));
        let mut stdin = running.stdin();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = is_over.clone();
        let writing = tokio::spawn(async move {
            let (mut number, start) = (0, Instant::now());
            let mut ticks = interval(Duration::from_millis(20));
            while !ends.load(Ordering::Relaxed) {
                ticks.tick().await;
                let mut lines = String::new();
                while number < rate * start.elapsed().as_millis() as u64 / 1000 {
                    writeln!(lines, "[\"{event}\",{number},\"some payload\"]").unwrap();
                    number += 1;
                }
                stdin.write_all(lines.as_bytes()).await.expect("the program reads on");
            }
            number
        });
        Stream { running, writing, is_over }
    }

    /// Ends the stream. Returns the number of its events.
    async fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let count = self.writing.await.unwrap();
        let outcome = self.running.end().await;
        println!("{}", outcome.stderr);
        outcome.succeeded();
        count
    }
}

/// Reads the output of a tail up to the last number, which is known at the end. The numbers must have no gap and no
/// repetition.
async fn read_numbers(mut tail: Running, mut end: watch::Receiver<Option<u64>>) {
    let mut next = 0;
    while end.borrow_and_update().is_none_or(|end| next < end) {
        tokio::select! {
            line = tail.line() => {
                let line: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(line["args"][0], next, "the number of the tail's next event");
                next += 1;
            }
            _ = end.changed() => {}
        }
    }
    // Any further event would arrive now.
    let more = timeout(Duration::from_secs(1), tail.line()).await;
    assert!(more.is_err(), "after the last event: {more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_numbered_durable_stream_arrives_once_and_in_order_through_outages() {
    let outages = setting("DURABLE_OUTAGES", 3);
    let longest = setting("DURABLE_LONGEST_MS", 2000);
    let mut server = own_server().await;
    // The servers and the tail use one proxy, the emitters the other: both sides fail.
    let (readers, writers) = (Proxy::start(&server.url()).await, Proxy::start(&server.url()).await);
    let serve = PgioServe::start(readers.url(), &[]).await;
    let client = serve.client(&NodePeer::start().await).await;
    client.count().await;
    let tail = ["tail", "--type", "broadcast", "--event", "durable", "-o", "json"];
    let mut tail = Running::start(&mut pgio(readers.url(), &tail));
    tail.wait_for_note("listening on").await;
    let (ends, end) = watch::channel(None);
    let reading = tokio::spawn(read_numbers(tail, end));
    let durable = Stream::start(writers.url(), "durable", RATE, &["--durable"]);
    let inline = Stream::start(writers.url(), "inline", INLINE_RATE, &[]);
    let (start, mut lasted) = (Instant::now(), Duration::ZERO);
    for number in 0..outages {
        sleep(BETWEEN.min(Duration::from_millis(longest))).await;
        let outage = OUTAGES[(number % OUTAGES.len() as u64) as usize];
        let shortest = 1000.min(longest);
        let length = shortest + (longest - shortest) * number / outages.saturating_sub(1).max(1);
        let length = Duration::from_millis(length);
        println!("{:6.1} s: {outage:?} of {length:?}", start.elapsed().as_secs_f64());
        match outage {
            Outage::Reset | Outage::Silence => {
                let mode = if matches!(outage, Outage::Reset) { Mode::Reset } else { Mode::Silent };
                readers.set(mode);
                writers.set(mode);
                sleep(length).await;
                readers.set(Mode::Forward);
                writers.set(Mode::Forward);
            }
            Outage::RestartFast | Outage::RestartImmediate => {
                let fast = matches!(outage, Outage::RestartFast);
                server.take_down(if fast { Shutdown::Fast } else { Shutdown::Immediate }).await.unwrap();
                sleep(length).await;
                server.start_again().await.unwrap();
            }
        }
        lasted += length;
    }
    sleep(BETWEEN.min(Duration::from_millis(longest))).await;
    let (sent, sent_inline) = tokio::join!(durable.end(), inline.end());
    let tally = client.wait_for_tally("durable", sent, ARRIVES_WITHIN).await;
    assert_eq!((tally.count, tally.first_break), (sent, None), "at a client of the node, of {sent}");
    ends.send(Some(sent)).unwrap();
    timeout(ARRIVES_WITHIN, reading).await.expect("the tail has all in time").unwrap();
    assert_eq!(client.wait_for_tally("durable", sent, ARRIVES_WITHIN).await.count, sent);
    let inline = client.wait_for_tally("inline", 1, ARRIVES_WITHIN).await;
    println!(
        "{sent} durable events in {:.0} s with {outages} outages of {:.0} s in all: each once and in order, at a client of \
         the node and in the tail; of {sent_inline} inline events beside them, the client got {}",
        start.elapsed().as_secs_f64(),
        lasted.as_secs_f64(),
        inline.count,
    );
}
