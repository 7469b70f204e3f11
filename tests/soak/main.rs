//! `make soak`: a real cluster under faults, judged from outside.
//!
//! Two pgio nodes, two Node servers and clients of each exchange numbered events while connections break, Postgres
//! restarts, and processes stand still. It prints a line for each fault, and exits with 1 when a guarantee is broken.
//! Without arguments, as in `make test`, it runs a short form that takes about a minute.

mod check;
mod clock;
mod fault;
mod freeze;
mod inject;
mod lag;
mod ledger;
mod node_server;
mod pgio_node;
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
use world::{World, WorldOptions};

/// The name under which nextest and cargo know the short form.
const NAME: &str = "guarantees";

/// The seed of the short form.
const SHORT_SEED: u64 = 1;

/// The time that a round takes beside the fault itself, where every guarantee holds.
const ROUND: Duration = Duration::from_secs(4);

/// Not enough for every fault.
const SHORT_TIME: Duration = Duration::from_secs(300);

/// The time that a cluster takes to start.
const START: Duration = Duration::from_secs(6);

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
    let plan = Plan::new(&arguments);
    report::heading(&plan.command(), plan.duration, arguments.rate);
    watchdog(plan.duration * 3 + Duration::from_secs(120));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    match runtime.block_on(run(plan, arguments.rate)) {
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

/// Which faults, in which order.
struct Plan {
    seed: u64,
    /// How long it takes where all is well; of a timed one, how long it may take.
    duration: Duration,
    random: fastrand::Rng,
    faults: Vec<Fault>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The short form of `make test`.
    Short,
    /// These faults, each of them once.
    Named,
    /// Those that fit into the duration, again and again.
    Timed,
}

impl Plan {
    fn new(arguments: &Arguments) -> Self {
        let seed = arguments.seed.unwrap_or(SHORT_SEED);
        let mut random = fastrand::Rng::with_seed(seed);
        let choose = |random: &mut fastrand::Rng, class: &[Fault]| class[random.usize(..class.len())];
        let (kind, faults) = match (arguments.faults.is_empty(), arguments.duration) {
            (false, _) => (Kind::Named, arguments.faults.clone()),
            (true, None) => {
                (Kind::Short, Fault::SHORT.iter().map(|class| choose(&mut random, class)).collect())
            }
            (true, Some(duration)) => (Kind::Timed, shuffled(&mut random, duration)),
        };
        let all = faults.iter().map(|fault| estimate(*fault)).sum::<Duration>() + START;
        let duration = arguments.duration.filter(|_| kind == Kind::Timed).unwrap_or(all);
        Self { seed, duration, random, faults, kind }
    }

    /// The command that does the same.
    fn command(&self) -> String {
        let Self { seed, duration, faults, .. } = self;
        match self.kind {
            Kind::Short => format!("cargo test --all-features --test soak -- --seed {seed}"),
            Kind::Timed => format!("make soak DURATION={}s SEED={seed}", duration.as_secs()),
            Kind::Named => {
                let names = faults.iter().map(ToString::to_string).collect::<Vec<_>>();
                format!("make soak FAULTS={} SEED={seed}", names.join(","))
            }
        }
    }
}

/// One fault of each class in random order, then another one of each, and so on until all had their turn.
/// In a short time the short ones come first, and the failover, which needs a cluster of its own, comes last in its turn.
fn shuffled(random: &mut fastrand::Rng, duration: Duration) -> Vec<Fault> {
    let mut classes: Vec<Vec<Fault>> = Fault::CLASSES.iter().map(|class| class.to_vec()).collect();
    for class in &mut classes {
        random.shuffle(class);
        if duration < SHORT_TIME {
            class.sort_by_key(|fault| std::cmp::Reverse(fault.lasts()));
        }
    }
    let mut plan = Vec::new();
    while classes.iter().any(|class| !class.is_empty()) {
        random.shuffle(&mut classes);
        let mut turn: Vec<_> = classes.iter_mut().filter_map(Vec::pop).collect();
        turn.sort_by_key(|fault| duration < SHORT_TIME && fault.is_failover());
        plan.append(&mut turn);
    }
    plan
}

/// How long a round takes where all is well.
fn estimate(fault: Fault) -> Duration {
    let start = if fault.is_failover() { START } else { Duration::ZERO };
    fault.lasts() + ROUND + start
}

/// Runs the plan; whether every guarantee holds.
async fn run(mut plan: Plan, rate: u32) -> bool {
    let started = Instant::now();
    let mut soak = Soak { rate, world: None, results: Vec::new() };
    let mut not_run = Vec::new();
    loop {
        let mut has_run = false;
        for fault in std::mem::take(&mut plan.faults) {
            let start = if soak.world.is_none() { START } else { Duration::ZERO };
            if plan.kind == Kind::Timed && started.elapsed() + estimate(fault) + start > plan.duration {
                not_run.push(fault.to_string());
                continue;
            }
            has_run = true;
            soak.round(fault).await;
        }
        if plan.kind != Kind::Timed || !has_run {
            break;
        }
        plan.faults = shuffled(&mut plan.random, plan.duration);
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
        let (round, until) = round::run(&mut world, fault, from).await;
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
        let endings = round::at_the_end(&world).await;
        endings.iter().for_each(report::ending);
        let changed = endings.into_iter().filter(|ending| !ending.is_level);
        let broken = changed.map(|ending| Broken::new(Check::BackToLevel, ending.text));
        self.results.push(("the end".into(), broken.collect()));
    }
}
