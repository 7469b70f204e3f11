//! What publishers notice of `pgio attachments cleanup` in a table that has grown.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use pgio::Emitter;
use serde_bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::NoTls;

use super::programs::{Programs, time};
use super::report::{self, Times};

const OLD_ROWS: u32 = 500_000;
/// Attachments in a millisecond, and how many bytes of binary each holds.
const AT_ONCE: usize = 5;
const BYTES: usize = 256;
/// How long publishing is measured with nothing else going on, before and after.
const ALONE: Duration = Duration::from_secs(20);

pub async fn run(programs: &Programs) -> io::Result<()> {
    time(programs.pgio().args(["attachments", "init", "--quiet"]).stdout(Stdio::null()))?;
    let (sql, connection) = tokio_postgres::connect(programs.url(), NoTls).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let fill = format!(
        "INSERT INTO socket_io_attachments (created_at, payload)
             SELECT now() - interval '1 day', decode(repeat('00', {BYTES}), 'hex')
             FROM generate_series(1, {OLD_ROWS})"
    );
    // Earlier parts may have left some.
    let clear = "TRUNCATE socket_io_attachments";
    for statement in [clear, fill.as_str(), "VACUUM ANALYZE socket_io_attachments", "CHECKPOINT"] {
        sql.batch_execute(statement).await.map_err(io::Error::other)?;
    }

    let mut publishing = Publishing::start(Emitter::connect(programs.url()).await.map_err(io::Error::other)?);
    let before = publishing.during(tokio::time::sleep(ALONE)).await?.0;
    let arguments = ["attachments", "cleanup", "--older-than", "1h", "--yes", "--quiet"];
    let mut cleanup = programs.pgio();
    cleanup.args(arguments).stdout(Stdio::null());
    let cleaning = tokio::task::spawn_blocking(move || time(&mut cleanup));
    let (meanwhile, took) = publishing.during(cleaning).await?;
    let took = took??;
    let after = publishing.during(tokio::time::sleep(ALONE)).await?.0;
    let published = publishing.end().await?;

    let count = |what: &str| {
        format!(
            "SELECT count(*) FROM socket_io_attachments WHERE created_at {what} now() - interval '1 hour'"
        )
    };
    let young: i64 = sql.query_one(&count(">"), &[]).await.map_err(io::Error::other)?.get(0);
    let old: i64 = sql.query_one(&count("<"), &[]).await.map_err(io::Error::other)?.get(0);
    if (u64::try_from(young).ok(), old) != (Some(published), 0) {
        return Err(io::Error::other(format!(
            "of {published} young rows {young} are there, and {old} old ones"
        )));
    }
    drop(sql);
    connection.await?.map_err(io::Error::other)?;

    report::heading(&format!(
        "{} attachments/s of {BYTES} bytes while {OLD_ROWS} old rows are deleted in {:.0} s: from emit to commit",
        AT_ONCE * 1000,
        took.as_secs_f64()
    ));
    let command = format!("pgio {}", arguments.join(" "));
    report::time("before, median", before.median, "nothing else");
    report::time("meanwhile, median", meanwhile.median, &command);
    report::time("after, median", after.median, "nothing else");
    report::time("before, p99", before.p99, "nothing else");
    report::time("meanwhile, p99", meanwhile.p99, &command);
    report::time("after, p99", after.p99, "nothing else");
    report::ratio("p99, meanwhile : before", meanwhile.p99.as_secs_f64() / before.p99.as_secs_f64());
    Ok(())
}

/// Attachments that are published at a steady pace, until this is told to end.
struct Publishing {
    times: mpsc::UnboundedReceiver<io::Result<Duration>>,
    ending: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<io::Result<()>>,
    count: u64,
}

impl Publishing {
    fn start(emitter: Emitter) -> Self {
        let (sender, times) = mpsc::unbounded_channel();
        let (ending, end) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(publish(emitter, sender, end));
        Self { times, ending, task, count: 0 }
    }

    /// How long those took that were committed while that went on, and what came of that.
    async fn during<T>(&mut self, that: impl Future<Output = T>) -> io::Result<(Times, T)> {
        let mut that = std::pin::pin!(that);
        let mut times = Vec::new();
        let outcome = loop {
            tokio::select! {
                outcome = &mut that => break outcome,
                time = self.times.recv() => {
                    times.push(time.ok_or_else(|| io::Error::other("publishing has ended"))??);
                }
            }
        };
        self.count += times.len() as u64;
        Ok((Times::of(times)?, outcome))
    }

    /// How many there were in all.
    async fn end(mut self) -> io::Result<u64> {
        drop(self.ending);
        self.task.await??;
        while let Some(time) = self.times.recv().await {
            time?;
            self.count += 1;
        }
        Ok(self.count)
    }
}

async fn publish(
    emitter: Emitter,
    times: mpsc::UnboundedSender<io::Result<Duration>>,
    mut end: tokio::sync::oneshot::Receiver<()>,
) -> io::Result<()> {
    let all = emitter.to(&[] as &[String]);
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut receipts = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut end => break,
        }
        for _ in 0..AT_ONCE {
            let start = Instant::now();
            let receipt = all.enqueue("picture", Bytes::new(&[0; BYTES])).await.map_err(io::Error::other)?;
            let times = times.clone();
            receipts.spawn(async move {
                let outcome = receipt.await.map(|()| start.elapsed()).map_err(io::Error::other);
                // Whoever reads them has failed, and says so.
                times.send(outcome).ok();
            });
        }
        while receipts.try_join_next().is_some() {}
    }
    receipts.join_all().await;
    Ok(())
}
