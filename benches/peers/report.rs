//! What is printed.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::programs::Programs;
use super::results::{Figure, Run, Section};

/// How long something took that was done many times.
pub struct Times {
    pub median: Duration,
    pub p99: Duration,
    pub p999: Duration,
}

impl Times {
    pub fn of(mut times: Vec<Duration>) -> io::Result<Self> {
        times.sort();
        let permille = |p: usize| times.get(times.len() * p / 1000).copied();
        let [Some(median), Some(p99), Some(p999)] = [500, 990, 999].map(permille) else {
            return Err(io::Error::other("nothing was measured"));
        };
        Ok(Self { median, p99, p999 })
    }
}

/// What was measured on what.
pub fn machine(programs: &Programs) -> io::Result<()> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    let machine = [
        format!("{cores} cores of {model}"),
        format!("pgio {}, release build", env!("CARGO_PKG_VERSION")),
        format!(
            "@socket.io/postgres-emitter 0.1.1 and postgres-adapter 0.5.0 with pg on Node {}",
            programs.node
        ),
        "socketioxide 0.18.9 with socketioxide-postgres 0.2.0 and sqlx, release build as pgio's".into(),
        programs.psql.clone().unwrap_or_else(|| "psql is not installed: its lines are left out".into()),
        "one Postgres on this machine, with its default settings (fsync on);".into(),
        "pgio publishes with synchronous_commit off, the others leave it on".into(),
    ];
    machine.iter().for_each(|line| println!("{line}"));
    run().machine.extend(machine);
    Ok(())
}

/// What comes next.
pub fn heading(text: &str) {
    println!("\n{text}");
    run().sections.push(Section { title: text.into(), chart: None, figures: Vec::new() });
}

/// Adds this section to the chart: the figures whose names end with this statistic, such as `p99`.
pub fn draw(statistic: &str) {
    if let Some(section) = run().sections.last_mut() {
        section.chart = Some(statistic.into());
    }
}

/// A rate, and the command that had it.
pub fn rate(name: &str, rate: f64, command: &str) {
    record(Figure::one(name, "events/s", rate, command));
}

/// The median of several rates, with the lowest and the highest. Returns the median.
pub fn rates(name: &str, rates: &mut [f64], command: &str) -> f64 {
    several(name, "events/s", rates, command)
}

/// What the rounds of one contender had, and its command.
pub struct Row {
    name: String,
    pub values: Vec<f64>,
    command: String,
}

impl Row {
    pub fn new(name: &str, values: Vec<f64>, command: &str) -> Self {
        Self { name: name.into(), values, command: command.into() }
    }
}

/// The medians of several contenders. Returns the first ones.
pub fn rows<const N: usize>(unit: &str, rows: &mut [Row]) -> [f64; N] {
    let medians: Vec<_> =
        rows.iter_mut().map(|row| several(&row.name, unit, &mut row.values, &row.command)).collect();
    std::array::from_fn(|index| medians[index])
}

/// The processor times of a delivery, the first three of Node, socketioxide and pgio, and how they compare with pgio's.
pub fn processor_times(table: &mut [Row]) {
    let [node, socketioxide, pgio] = rows("µs", table);
    ratio("Node : pgio", node / pgio);
    ratio("socketioxide : pgio", socketioxide / pgio);
}

/// A time, and the command that took it.
pub fn time(name: &str, time: Duration, command: &str) {
    record(Figure::one(name, "ms", time.as_secs_f64() * 1000.0, command));
}

/// A part of a whole, as a fraction of 1.
pub fn share(name: &str, share: f64, command: &str) {
    record(Figure::one(name, "%", share * 100.0, command));
}

/// Several counts, and the command that they belong to.
pub fn figures(name: &str, figures: &[(&str, i64)], command: &str) {
    let counts: Vec<_> =
        figures.iter().map(|(what, count)| format!("{} {what}", thousands(*count as f64))).collect();
    println!("  {name:<26}{}\n      {command}", counts.join(", "));
    for (what, count) in figures {
        keep(Figure::one(name, what, *count as f64, command));
    }
}

/// How one compares with another.
pub fn ratio(text: &str, ratio: f64) {
    println!("  {text:<42}{ratio:>12.2}");
    keep(Figure::one(text, "ratio", ratio, ""));
}

/// The median of several values of a unit.
fn several(name: &str, unit: &str, values: &mut [f64], command: &str) -> f64 {
    let middle = median(values);
    let spread = values.first().copied().zip(values.last().copied());
    record(Figure { spread, ..Figure::one(name, unit, middle, command) });
    middle
}

fn record(figure: Figure) {
    println!("{figure}");
    keep(figure);
}

fn keep(figure: Figure) {
    if let Some(section) = run().sections.last_mut() {
        section.figures.push(figure);
    }
}

/// What this run has measured so far.
pub fn run() -> MutexGuard<'static, Run> {
    static RUN: Mutex<Run> = Mutex::new(Run { machine: Vec::new(), sections: Vec::new() });
    RUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one in the middle.
pub fn median<T: Copy + PartialOrd>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no measurement is NaN"));
    values[values.len() / 2]
}

pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
