//! The senders and the receiver that are programs of pgio: the library's emitter, `pgio emit`, `pgio tail`.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pgio::Emitter;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::clock::Moment;
use super::ledger::{Ledger, Receiver, Sender};
use super::program;

/// How long one event may take to be queued, and one `pgio emit` to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pause between two runs of `pgio emit`.
const CLI_PAUSE: Duration = Duration::from_millis(500);

/// The bytes that send an event through the attachment table.
const BINARY: &[u8] = &[7; 32];

/// Emits with the library, so many events a second; those of `EmitterFiles` in `/files` and with bytes.
pub fn emitter(emitter: Emitter, sender: Sender, rate: u32, ledger: Arc<Ledger>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(1) / rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut in_flight = FuturesUnordered::new();
        let mut number = ledger.next_number(sender);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    ledger.sent(sender, number, Moment::now());
                    let queued = async {
                        match sender {
                            Sender::EmitterFiles => {
                                let args = (number, serde_bytes::Bytes::new(BINARY));
                                emitter.of("/files").enqueue(sender.name(), args).await
                            }
                            _ => emitter.enqueue(sender.name(), number).await,
                        }
                    };
                    match timeout(PATIENCE, queued).await {
                        Ok(Ok(receipt)) => in_flight.push(async move { (number, receipt.await.is_ok()) }),
                        _ => ledger.settled(sender, number, false),
                    }
                    number += 1;
                }
                Some((number, is_published)) = in_flight.next() => ledger.settled(sender, number, is_published),
            }
        }
    }))
}

/// Runs `pgio emit` again and again.
pub fn cli(database: String, ledger: Arc<Ledger>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut number = ledger.next_number(Sender::Cli);
        loop {
            let mut command = program::pgio(&["emit", "-q", Sender::Cli.name(), &number.to_string()]);
            command.env("DATABASE_URL", &database).stdout(Stdio::null()).stderr(Stdio::null());
            ledger.sent(Sender::Cli, number, Moment::now());
            let status = timeout(PATIENCE, command.status()).await;
            ledger.settled(Sender::Cli, number, matches!(status, Ok(Ok(status)) if status.success()));
            number += 1;
            sleep(CLI_PAUSE).await;
        }
    }))
}

/// Runs `pgio tail` and records its events.
pub fn tail(database: &str, ledger: Arc<Ledger>) -> AbortOnDropHandle<()> {
    let mut command =
        program::pgio(&["tail", "-o", "json", "-q", "-n", "/", "-n", "/files", "--type", "broadcast"]);
    command.env("DATABASE_URL", database).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("pgio can be started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let at = Moment::now();
            let value: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
            let sender = value["event"].as_str().and_then(Sender::named);
            if let (Some(sender), Some(number)) = (sender, value["args"][0].as_u64()) {
                ledger.received((sender, Receiver::Tail), number, at);
            }
        }
        // All later events count as lost, rightly so.
        eprintln!("soak: pgio tail has ended: {:?}", child.wait().await);
    }))
}
