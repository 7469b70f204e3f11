//! `make bench`: pgio beside the npm emitter and psql, in one run on one private Postgres.
//!
//! Every number comes from whole programs as their users run them; pgio is the release build. Rounds are interleaved, so
//! that a machine that gets slower or faster meanwhile does it to all. Medians.

mod clients;
mod one_shot;
mod programs;
mod publishing;
mod report;
mod serving;
mod tail;

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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let builder =
        AS_INSTALLED.iter().fold(PrivateServer::builder(), |b, (name, value)| b.setting(name, value));
    let server = runtime.block_on(builder.start())?;
    let files = tempfile::tempdir()?;
    let programs = Programs::find(&server.url(), files.path())?;

    report::machine(&programs)?;
    publishing::run(&programs)?;
    one_shot::run(&programs)?;
    tail::run(&programs)?;
    runtime.block_on(serving::run(&programs))?;
    runtime.block_on(server.stop())?;
    Ok(())
}
