//! What a durable event costs beside an inline one: events a second, and bytes of WAL; and how long a replay takes.
//! `make bench-durable` runs it, on a private Postgres of its own that flushes its WAL.

use std::error::Error;
use std::time::{Duration, Instant};

use pgio::cluster::Event;
use pgio::postgres::private::PrivateServer;
use pgio::{AdapterOptions, BroadcastOperator, Cluster, Emitter, Settings};
use tokio_postgres::{Client, NoTls};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An event with about 100 bytes of JSON.
const TEXT: &str =
    "some text that makes the event about as long as those of a chat or of a table of prices are, no longer";

/// The sizes of other rows in the table of the replay, and how many there are.
const OTHERS: [(usize, i32); 3] = [(0, 0), (200, 20_000), (1_000_000, 300)];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // `cargo test` runs benchmarks as well, to see that they work.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let (many, few) = if is_measured { (20_000, 200) } else { (100, 5) };
    let server =
        PrivateServer::builder().setting("fsync", "on").setting("full_page_writes", "on").start().await?;
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await?;
    let driver = tokio::spawn(connection);
    let cluster = Cluster::connect(Settings::parse(&server.url())?, AdapterOptions::default()).await?;
    cluster.create_attachment_table().await?;
    let emitter = Emitter::new(cluster);
    let kinds = [
        ("inline", emitter.to(["r1"].as_slice())),
        ("with an attachment", emitter.to(["r1"].as_slice())),
        ("durable", emitter.to(["r1"].as_slice()).durable()),
    ];
    println!("events of about 100 bytes     events/s   WAL bytes each   lone, ms   WAL bytes each");
    for (name, operator) in kinds {
        let is_attached = name == "with an attachment";
        let (rate, wal) = measure(&client, many, async || queue(&operator, is_attached, many).await).await?;
        let (lone, lone_wal) =
            measure(&client, few, async || one_by_one(&operator, is_attached, few).await).await?;
        println!("{name:<28} {:>9.0} {wal:>16} {:>10.2} {lone_wal:>16}", 1.0 / rate, lone * 1000.0);
    }
    println!("\nreplay of 8000 durable events after a reset, in a table with other rows");
    for (size, count) in OTHERS {
        let (events, count) = if is_measured { (8000, count) } else { (50, count.min(10)) };
        client.batch_execute("TRUNCATE socket_io_attachments").await?;
        let fill = "INSERT INTO socket_io_attachments (payload) SELECT decode(repeat(md5(n::text), $1), 'hex') \
            FROM generate_series(1, $2) AS n";
        client.execute(fill, &[&i32::try_from(size / 16)?, &count]).await?;
        let took = replay(&server.url(), &client, &emitter, events).await?;
        println!("{count:>6} rows of {size:>7} bytes: {:.2} s", took.as_secs_f64());
    }
    drop(client);
    driver.await??;
    server.stop().await?;
    Ok(())
}

/// Seconds and bytes of WAL for each of so many events.
async fn measure(client: &Client, count: u64, work: impl AsyncFn() -> Result<()>) -> Result<(f64, u64)> {
    client.batch_execute("CHECKPOINT").await?;
    let wal = async || -> Result<i64> {
        Ok(client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8", &[]).await?.get(0))
    };
    // The first write to each page after a checkpoint takes the whole page along.
    work().await?;
    let before = wal().await?;
    let start = Instant::now();
    work().await?;
    let took = start.elapsed().as_secs_f64() / count as f64;
    Ok((took, u64::try_from(wal().await? - before)? / count))
}

async fn queue(operator: &BroadcastOperator, is_attached: bool, count: u64) -> Result<()> {
    let mut receipts = Vec::new();
    for number in 0..count {
        let receipt = match is_attached {
            true => operator.enqueue("price", (number, serde_bytes::Bytes::new(TEXT.as_bytes()))).await?,
            false => operator.enqueue("price", (number, TEXT)).await?,
        };
        receipts.push(receipt);
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}

async fn one_by_one(operator: &BroadcastOperator, is_attached: bool, count: u64) -> Result<()> {
    for number in 0..count {
        match is_attached {
            true => operator.emit("price", (number, serde_bytes::Bytes::new(TEXT.as_bytes()))).await?,
            false => operator.emit("price", (number, TEXT)).await?,
        }
    }
    Ok(())
}

/// How long it takes from the loss of a connection until all that was sent meanwhile has come.
async fn replay(url: &str, client: &Client, emitter: &Emitter, events: u64) -> Result<Duration> {
    let url = format!("{url}?application_name=away");
    let away = Cluster::connect(Settings::parse(&url)?, AdapterOptions::default()).await?;
    let mut heard = away.subscribe(["/"], |_| true).await?;
    // Nobody can connect while the events are sent.
    let elsewhere = url.replace("/pgio?", "/template1?").replace("=away", "=elsewhere");
    let (admin, connection) = tokio_postgres::connect(&elsewhere, NoTls).await?;
    let admin_connection = tokio::spawn(connection);
    admin.batch_execute("ALTER DATABASE pgio ALLOW_CONNECTIONS false").await?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'away'";
    client.batch_execute(end).await?;
    queue(&emitter.durable(), false, events).await?;
    admin.batch_execute("ALTER DATABASE pgio ALLOW_CONNECTIONS true").await?;
    drop(admin);
    admin_connection.await??;
    let start = Instant::now();
    let mut came = 0;
    while came < events {
        if let Some(Event::Message(received)) = heard.next().await {
            came += u64::from(received.attachment.is_some());
        }
    }
    Ok(start.elapsed())
}
