//! What emitting from SQL costs: the time that a small event adds to a transaction, by pgbench with and without it, and the
//! time of larger ones. `make bench-sql` runs it, on a private Postgres of its own.

#[path = "../shared/pgbench.rs"]
mod pgbench;

use std::error::Error;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgio::postgres::private::PrivateServer;
use tokio_postgres::{Client, NoTls};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many transactions each run of pgbench makes.
const TRANSACTIONS: u32 = 2000;

/// How often each figure is taken. The fastest counts, as whatever else the machine does only adds to it.
const ROUNDS: usize = 20;

/// How often each large event is emitted.
const EVENTS: usize = 30;

/// The tables of the transactions: one with a trigger, one without.
const TABLES: &str = "CREATE TABLE plain (id bigserial PRIMARY KEY, state text, total numeric);
    CREATE TABLE told (LIKE plain INCLUDING ALL);
    CREATE TRIGGER tell AFTER INSERT ON told
    FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('order:{id}', 'order_{operation}')";

/// A name, and a script of pgbench. Each is one statement and one transaction, so that the number of round trips is the
/// same.
const SCRIPTS: [(&str, &str); 4] = [
    ("INSERT alone", "INSERT INTO plain (state, total) VALUES ('new', 42.5) RETURNING id;"),
    (
        "INSERT and pg_notify",
        "WITH new AS (INSERT INTO plain (state, total) VALUES ('new', 42.5) RETURNING id) \
         SELECT pg_notify('socket.io#/', '{\"event\":\"order\",\"id\":' || id || '}') FROM new;",
    ),
    (
        "INSERT and emit",
        "WITH new AS (INSERT INTO plain (state, total) VALUES ('new', 42.5) RETURNING *) \
         SELECT socket_io.emit('order', to_jsonb(new), '{order:1}') FROM new;",
    ),
    ("INSERT with the trigger", "INSERT INTO told (state, total) VALUES ('new', 42.5) RETURNING id;"),
];

/// A name, and an expression for the only argument of an event with about `$1` bytes of JSON.
const DOCUMENTS: [(&str, &str); 4] = [
    ("text", "to_jsonb(repeat('x', $1))"),
    (
        "objects",
        "jsonb_build_object('rows', (SELECT jsonb_agg(jsonb_build_object('id', n, 'name', 'name ' || n, 'price', n * 1.01, \
         'active', n % 2 = 0, 'address', jsonb_build_object('street', 'Some Street ' || n, 'city', 'Berlin'), \
         'tags', '[\"a\",\"b\"]'::jsonb)) FROM generate_series(1, $1 / 150) AS n))",
    ),
    ("numbers", "jsonb_build_array((SELECT jsonb_agg(n * 1.01) FROM generate_series(1, $1 / 10) AS n))"),
    ("bytes", "decode(repeat('ca', $1), 'hex')"),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // `cargo test` runs benchmarks as well, to see that they work.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let (rounds, events) = if is_measured { (ROUNDS, EVENTS) } else { (1, 1) };
    let server = PrivateServer::builder().start().await?;
    let url = server.url();
    let installed = Command::new(env!("CARGO_BIN_EXE_pgio"))
        .args(["sql", "install", "-q", "--database-url", &url])
        .output()?;
    if !installed.status.success() {
        return Err(String::from_utf8_lossy(&installed.stderr).into());
    }
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let driver = tokio::spawn(connection);
    client.batch_execute(TABLES).await?;
    let version = client.query_one("SELECT current_setting('server_version')", &[]).await?;
    println!(
        "PostgreSQL {}, one client, synchronous_commit off, the fastest of {rounds} rounds",
        version.get::<_, String>(0)
    );
    small(&url, rounds)?;
    large(&client, events).await?;
    drop(client);
    driver.await??;
    server.stop().await?;
    Ok(())
}

/// Transactions with a small event, and without.
fn small(url: &str, rounds: usize) -> Result<()> {
    println!("\n{:<26} {:>16} {:>16}", "a transaction", "takes", "more than alone");
    let mut fastest = [f64::INFINITY; SCRIPTS.len()];
    for _ in 0..rounds {
        for ((_, script), fastest) in SCRIPTS.iter().zip(&mut fastest) {
            *fastest = fastest.min(pgbench(url, script)?);
        }
    }
    for ((name, _), time) in SCRIPTS.iter().zip(fastest) {
        let more = time - fastest[0];
        println!("{name:<26} {time:>13.0} µs {more:>13.0} µs");
    }
    Ok(())
}

/// The mean time of a transaction, in microseconds.
fn pgbench(url: &str, script: &str) -> Result<f64> {
    let mut child = Command::new(pgbench::find().ok_or("pgbench is not installed")?)
        .args([
            "--no-vacuum",
            "--protocol=prepared",
            "--client=1",
            "--file=-",
            &format!("--transactions={TRANSACTIONS}"),
            url,
        ])
        // A flush of the disk would hide what is measured.
        .env("PGOPTIONS", "-c synchronous_commit=off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("stdin is piped")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    // latency average = 0.123 ms
    let latency = text.lines().find_map(|line| line.strip_prefix("latency average = ")?.strip_suffix(" ms"));
    let latency =
        latency.ok_or_else(|| format!("no latency: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(latency.parse::<f64>()? * 1000.0)
}

/// Events that go through the attachment table, each in a transaction of its own.
async fn large(client: &Client, events: usize) -> Result<()> {
    println!("\n{:<26} {:>12} {:>12} {:>12}", "an event of", "10 KB", "100 KB", "1 MB");
    client
        .batch_execute("SET synchronous_commit = off; CREATE TABLE documents (json jsonb, bytes bytea)")
        .await?;
    for (name, document) in DOCUMENTS {
        print!("{name:<26}");
        for bytes in [10_000, 100_000, 1_000_000] {
            let column = if name == "bytes" { "bytes" } else { "json" };
            client.batch_execute("TRUNCATE documents").await?;
            client.execute(&format!("INSERT INTO documents ({column}) SELECT {document}"), &[&bytes]).await?;
            // As a program would send it: the document is not read from a table.
            let text = format!("SELECT {column}::text FROM documents");
            let text: String = client.query_one(&text, &[]).await?.get(0);
            let statement = format!(
                "SELECT socket_io.emit('document', $1::text::{})",
                if column == "json" { "jsonb" } else { "bytea" }
            );
            let statement = client.prepare(&statement).await?;
            // Plans the queries.
            client.query(&statement, &[&text]).await?;
            let mut fastest = Duration::MAX;
            for _ in 0..events {
                let start = Instant::now();
                client.query(&statement, &[&text]).await?;
                fastest = fastest.min(start.elapsed());
            }
            print!(" {:>9.1} ms", fastest.as_secs_f64() * 1000.0);
        }
        println!();
    }
    Ok(())
}
