//! `make bench`: pgio beside the npm emitter and psql, in one run on one private Postgres.
//!
//! `cargo bench --features cli --bench peers -- latency` runs one part of it.
//!
//! Every number comes from whole programs as their users run them; pgio is the release build. Rounds are interleaved, so
//! that a machine that gets slower or faster meanwhile does it to all. Medians.

mod chart;
mod cleanup;
mod clients;
mod floor;
mod idle;
mod latency;
mod one_shot;
#[path = "../shared/pgbench.rs"]
mod pgbench;
mod programs;
mod publishing;
mod report;
mod results;
mod rooms;
mod server;
mod serving;
mod tail;

use clap::{Parser, ValueEnum};
use pgio::postgres::private::PrivateServer;

use programs::Programs;

/// What a real server has: the defaults of Postgres, in place of what a private server does without.
const AS_INSTALLED: [(&str, &str); 5] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    ("min_wal_size", "80MB"),
];

#[derive(Parser)]
struct Arguments {
    /// What to measure, in this order [default: everything]
    parts: Vec<Part>,
    /// Write bench/results.json, docs/benchmarks.md and its chart anew.
    #[arg(long)]
    write: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Publishing,
    OneShot,
    Tail,
    Serving,
    Latency,
    Rooms,
    Idle,
    Cleanup,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { parts, write, .. } = Arguments::parse();
    let parts = if parts.is_empty() { Part::value_variants() } else { &parts };
    let runtime = tokio::runtime::Runtime::new()?;
    let builder =
        AS_INSTALLED.iter().fold(PrivateServer::builder(), |b, (name, value)| b.setting(name, value));
    let server = runtime.block_on(builder.start())?;
    let files = tempfile::tempdir()?;
    let programs = Programs::find(&server.url(), files.path())?;

    report::machine(&programs)?;
    for part in parts {
        match part {
            Part::Publishing => publishing::run(&programs)?,
            Part::OneShot => one_shot::run(&programs)?,
            Part::Tail => tail::run(&programs)?,
            Part::Serving => runtime.block_on(serving::run(&programs))?,
            Part::Latency => runtime.block_on(latency::run(&programs))?,
            Part::Rooms => runtime.block_on(rooms::run(&programs))?,
            Part::Idle => runtime.block_on(idle::run(&programs))?,
            Part::Cleanup => runtime.block_on(cleanup::run(&programs))?,
        }
    }
    runtime.block_on(server.stop())?;
    if write {
        results::write(&report::run())?;
    }
    Ok(())
}
