//! What is printed.

use std::io;
use std::time::Duration;

use super::programs::Programs;

/// How long something took that was done many times.
pub struct Times {
    pub median: Duration,
    pub p99: Duration,
}

impl Times {
    pub fn of(mut times: Vec<Duration>) -> io::Result<Self> {
        times.sort();
        let percentile = |p: usize| times.get(times.len() * p / 100).copied();
        let [median, p99] = [50, 99].map(percentile);
        let (Some(median), Some(p99)) = (median, p99) else {
            return Err(io::Error::other("nothing was measured"));
        };
        Ok(Self { median, p99 })
    }
}

/// What was measured on what.
pub fn machine(programs: &Programs) -> io::Result<()> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores of {model}");
    println!("pgio {}, release build", env!("CARGO_PKG_VERSION"));
    println!("@socket.io/postgres-emitter 0.1.1 with pg on Node {}", programs.node);
    println!("{}", programs.psql.as_deref().unwrap_or("psql is not installed: its lines are left out"));
    println!("one Postgres on this machine, with its default settings (fsync on);");
    println!("pgio publishes with synchronous_commit off, the others leave it on");
    Ok(())
}

/// What comes next.
pub fn heading(text: &str) {
    println!("\n{text}");
}

/// A rate, and the command that had it.
pub fn rate(name: &str, rate: f64, command: &str) {
    println!("  {name:<42}{:>12} events/s\n      {command}", thousands(rate));
}

/// A time, and the command that took it.
pub fn time(name: &str, time: Duration, command: &str) {
    println!("  {name:<42}{:>12.1} ms\n      {command}", time.as_secs_f64() * 1000.0);
}

/// How many bytes of memory a process has.
pub fn memory(name: &str, bytes: f64, command: &str) {
    println!("  {name:<42}{:>12.1} MiB\n      {command}", bytes / (1 << 20) as f64);
}

/// Several counts, and the command that they belong to.
pub fn figures(name: &str, figures: &[(&str, i64)], command: &str) {
    let figures: Vec<_> =
        figures.iter().map(|(what, count)| format!("{} {what}", thousands(*count as f64))).collect();
    println!("  {name:<26}{}\n      {command}", figures.join(", "));
}

/// How one compares with another.
pub fn ratio(text: &str, ratio: f64) {
    println!("  {text:<42}{ratio:>12.2}");
}

/// The one in the middle.
pub fn median<T: Copy + PartialOrd>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no measurement is NaN"));
    values[values.len() / 2]
}

fn thousands(number: f64) -> String {
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
