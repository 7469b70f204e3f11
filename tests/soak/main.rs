//! `make soak`: a real cluster under faults, judged from outside.
//!
//! Two pgio nodes, two Node servers and clients of each exchange numbered events while connections break, Postgres
//! restarts, and processes stand still. It prints a line for each fault, and exits with 1 when a guarantee is broken.
//! Without arguments, as in `make test`, it runs a short form that takes about a minute.

mod check;
mod clock;
mod fault;
mod inject;
mod judge;
mod lag;
mod ledger;
mod level;
mod node_server;
mod observe;
mod pgio_node;
mod plan;
mod postgres;
mod program;
mod proxy;
mod report;
mod requests;
mod round;
mod routes;
mod senders;
#[path = "../suite/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the suite needs more of it")]
mod support;
mod witness;
mod world;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use tokio::time::Instant;

use check::{Broken, Check};
use clock::Moment;
use fault::Fault;
use plan::Plan;
use world::{World, WorldOptions};

/// The name under which nextest and cargo know the short form.
const NAME: &str = "guarantees";

/// How much longer the bounds of the short form are: it runs among other tests, on machines that are busy with them. How
/// soon something is noticed and recovers is judged by `make soak`.
const SHORT_ALLOWANCE: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Arguments {
    /// How long to run, such as 90s or 20m [default: the short form, once]
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Chooses the faults and their order
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults, in this order, such as reset,silence-10,failover
    #[arg(long, value_delimiter = ',', value_parser = parse_fault)]
    faults: Vec<Fault>,
    /// Inline events of each sender in a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Print the names of the tests, as nextest asks every test program.
    #[arg(long, hide = true)]
    list: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(long, hide = true)]
    format: Option<String>,
    /// Names of tests, as cargo passes them to every test program.
    #[arg(hide = true)]
    tests: Vec<String>,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| "write 90s or 20m".to_owned())?;
    match unit {
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err("write 90s or 20m".into()),
    }
}

fn parse_fault(name: &str) -> Result<Fault, String> {
    let names = || Fault::CLASSES.iter().flat_map(|class| class.iter()).map(ToString::to_string);
    Fault::named(name).ok_or_else(|| format!("there are {}", names().collect::<Vec<_>>().join(", ")))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        if !arguments.ignored {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    let is_other = |name: &String| if arguments.exact { name != NAME } else { !NAME.contains(name) };
    if arguments.ignored || (!arguments.tests.is_empty() && arguments.tests.iter().all(is_other)) {
        return ExitCode::SUCCESS;
    }
    let plan = Plan::new(arguments.seed, arguments.duration, &arguments.faults);
    let allowance = if arguments.duration.is_none() { SHORT_ALLOWANCE } else { Duration::ZERO };
    report::heading(&plan.command(), plan.duration, arguments.rate, allowance);
    watchdog(plan.duration * 3 + Duration::from_secs(120));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    match runtime.block_on(run(plan, arguments.rate, allowance)) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Ends the harness if it hangs. Its child processes end with it.
fn watchdog(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("soak: not over after {} s: the harness hangs", limit.as_secs());
        std::process::exit(2);
    });
}

/// Runs the plan; whether every guarantee holds.
async fn run(mut plan: Plan, rate: u32, allowance: Duration) -> bool {
    let started = Instant::now();
    let mut soak = Soak { rate, allowance, world: None, results: Vec::new() };
    let mut not_run = Vec::new();
    loop {
        let mut has_run = false;
        for fault in std::mem::take(&mut plan.faults) {
            if !plan.has_time_for(fault, started.elapsed(), soak.world.is_some()) {
                not_run.push(fault.to_string());
                continue;
            }
            has_run = true;
            soak.round(fault).await;
        }
        if !has_run || !plan.repeat() {
            break;
        }
    }
    soak.end().await;
    not_run.retain(|name| soak.results.iter().all(|(fault, _)| fault != name));
    not_run.sort();
    not_run.dedup();
    report::summary(&soak.results, &not_run, plan.seed, started.elapsed());
    soak.results.iter().all(|(_, broken)| broken.is_empty())
}

/// A run so far.
struct Soak {
    rate: u32,
    /// How much longer every bound is.
    allowance: Duration,
    /// The cluster, and where its last round ended.
    world: Option<(World, Moment)>,
    /// The failed checks of each fault.
    results: Vec<(String, Vec<Broken>)>,
}

impl Soak {
    async fn round(&mut self, fault: Fault) {
        // A failover leaves two primaries behind: it has a cluster of its own.
        if fault.is_failover() {
            self.end().await;
        }
        let (mut world, from) = match self.world.take() {
            Some(running) => running,
            None => {
                let options = WorldOptions { rate: self.rate, with_standby: fault.is_failover() };
                (World::start(options).await, Moment::now())
            }
        };
        let (round, until) = round::run(&mut world, fault, from, self.allowance).await;
        report::round(&round);
        self.results.push((fault.to_string(), round.broken));
        if fault == Fault::KillNode {
            world.remember_level().await;
        }
        if round.is_healthy {
            self.world = Some((world, until));
        }
    }

    /// Checks that memory, descriptors and sessions are back at their level, and ends the cluster.
    async fn end(&mut self) {
        let Some((world, _)) = self.world.take() else { return };
        let endings = level::at_the_end(&world).await;
        endings.iter().for_each(report::ending);
        let changed = endings.into_iter().filter(|ending| !ending.is_level);
        let broken = changed.map(|ending| Broken::new(Check::BackToLevel, ending.text));
        self.results.push(("the end".into(), broken.collect()));
    }
}
