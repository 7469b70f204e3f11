//! `make bench`: pgio beside the Node packages, socketioxide-postgres and psql, in one run on one private Postgres.
//!
//! `make bench PARTS='latency rooms' ROUNDS=1` runs some parts of it, and writes nothing. `make bench-chart` draws the
//! chart again without a measurement.
//!
//! Every number comes from whole programs as their users run them; pgio is the release build. Rounds are interleaved, so
//! that a machine that becomes slower or faster during the run affects all contenders. The figures are medians.

mod acks;
mod alone;
mod asker;
mod bare_listen;
mod bare_write;
mod chart;
mod cleanup;
mod clients;
mod floor;
mod format;
mod growth;
mod idle;
mod latency;
mod listener;
mod load;
mod losses;
mod one_shot;
mod one_worker;
mod paced;
mod peers;
#[path = "../shared/pgbench.rs"]
mod pgbench;
mod programs;
mod publisher;
mod publishing;
mod report;
mod requests;
mod results;
mod rooms;
mod server;
mod serving;
mod start;
#[path = "../state/machine.rs"]
mod state_machine;
mod tail;
mod work;

use std::io;
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pgio::postgres::private::PrivateServer;
use tokio::runtime::Runtime;

use programs::Programs;

/// What a real server has: the defaults of Postgres, in place of what a private server does without.
const AS_INSTALLED: [(&str, &str); 6] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    ("min_wal_size", "80MB"),
    // Except this one: socketioxide-postgres has a connection for each namespace.
    ("max_connections", "300"),
];

#[derive(Parser)]
struct Arguments {
    /// The parts to measure, in this order [default: all parts]
    parts: Vec<Part>,
    /// Run this many rounds of each part [default: the part's own number]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Write bench/results.json, docs/benchmarks.md and its chart after each part.
    #[arg(long)]
    write: bool,
    /// Measure nothing: write docs/benchmarks.md and its chart again from bench/results.json.
    #[arg(long, conflicts_with_all = ["parts", "rounds", "write"])]
    draw: bool,
    /// cargo bench passes this flag to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Publishing,
    OneShot,
    Start,
    Tail,
    Serving,
    Paced,
    Losses,
    Latency,
    Acks,
    Rooms,
    Growth,
    Requests,
    Idle,
    Cleanup,
}

impl Part {
    fn run(self, programs: &Programs, runtime: &Runtime) -> io::Result<()> {
        match self {
            Self::Publishing => publishing::run(programs),
            Self::OneShot => one_shot::run(programs),
            Self::Start => runtime.block_on(start::run(programs)),
            Self::Tail => tail::run(programs),
            Self::Serving => runtime.block_on(serving::run(programs)),
            Self::Paced => runtime.block_on(paced::run(programs)),
            Self::Losses => runtime.block_on(losses::run(programs)),
            Self::Latency => runtime.block_on(latency::run(programs)),
            Self::Acks => runtime.block_on(acks::run(programs)),
            Self::Rooms => runtime.block_on(rooms::run(programs)),
            Self::Growth => runtime.block_on(growth::run(programs)),
            Self::Requests => {
                requests::run(programs);
                Ok(())
            }
            Self::Idle => runtime.block_on(idle::run(programs)),
            Self::Cleanup => runtime.block_on(cleanup::run(programs)),
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(bare_write::ROLE) => bare_write::play(arguments)?,
        Some(bare_listen::ROLE) => bare_listen::play(arguments)?,
        _ => return measure(&Arguments::parse()),
    }
    Ok(ExitCode::SUCCESS)
}

/// This program in another role.
fn own_role(role: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role);
    Ok(command)
}

fn measure(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if arguments.draw {
        results::redraw()?;
        return Ok(ExitCode::SUCCESS);
    }
    let parts = if arguments.parts.is_empty() { Part::value_variants() } else { &arguments.parts };
    // Thousands of clients; the servers inherit it.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let runtime = Runtime::new()?;
    let builder =
        AS_INSTALLED.iter().fold(PrivateServer::builder(), |b, (name, value)| b.setting(name, value));
    let server = runtime.block_on(builder.start())?;
    let files = tempfile::tempdir()?;
    let programs = Programs::find(&server.url(), files.path(), arguments.rounds.map(usize::from))?;

    report::machine(&programs)?;
    let mut outcome = ExitCode::SUCCESS;
    for part in parts {
        let finished = report::run().sections.len();
        if let Err(error) = part.run(&programs, &runtime) {
            eprintln!(
                "error: {}: {error}",
                part.to_possible_value().map_or_else(String::new, |p| p.get_name().into())
            );
            report::run().sections.truncate(finished);
            outcome = ExitCode::FAILURE;
        }
        if arguments.write {
            results::write(&report::run())?;
        }
    }
    runtime.block_on(server.stop())?;
    Ok(outcome)
}
