//! Prints the report: a line for each fault, and the failed checks.

use std::time::Duration;

use super::check::Broken;
use super::fault::{NOTICED, RECOVERED};
use super::judge::{NOTICED_SLACK, RECOVERED_SLACK, REQUEST_SLACK, Row};
use super::level::Ending;
use super::round::{GIVE_UP, GIVE_UP_NODE, Round};

/// Prints the set-up, and the command that repeats the run.
pub fn heading(command: &str, duration: Duration, rate: u32, allowance: Duration) {
    println!(
        "soak: two pgio nodes, Node servers with adapters 0.5.0 and 0.3.1, clients of each, on one Postgres"
    );
    println!("about {} s, {rate} events/s from each of five senders", duration.as_secs());
    println!("again: {command}");
    println!(
        "bounds: noticed {NOTICED:?} (+ {NOTICED_SLACK:?} for measuring), recovered {RECOVERED:?} (+ {RECOVERED_SLACK:?}), \
         a request its deadline (+ {REQUEST_SLACK:?})"
    );
    if !allowance.is_zero() {
        println!("in this short form every bound is {allowance:?} longer");
    }
    println!();
    println!("{:<26}│{:^68}│{:^52}", "", "pgio node A", "Node server, adapter 0.5.0");
    println!("{:<26}│{}│{}", "fault", columns(true), columns(false));
    println!("{}┼{}┼{}", "─".repeat(26), "─".repeat(68), "─".repeat(52));
}

fn columns(is_pgio: bool) -> String {
    let common = format!(
        "{:>8}{:>10}{:>6}{:>7}{:>6}{:>6}{:>9}",
        "noticed", "recovered", "lost", "files", "twice", "order", "slowest"
    );
    if is_pgio { format!("{common}{:>8}{:>8}", "refused", "request") } else { common }
}

/// Prints one line, and below it the failed checks.
pub fn round(round: &Round) {
    let verdict = if round.broken.is_empty() { "ok" } else { "BROKEN" };
    let request = seconds(round.longest_request.map(|(_, longest)| longest));
    println!(
        "{:<26}│{}{:>8}{request:>8}│{} {verdict} ({:.0} s)",
        round.fault.to_string(),
        cells(&round.a),
        round.a.refused,
        cells(&round.node05),
        round.took.as_secs_f64()
    );
    if round.broken.is_empty() {
        return;
    }
    if round.lag >= Duration::from_millis(100) {
        println!("      the machine was busy, so that every bound was {:?} longer", round.lag);
    }
    for broken in &round.broken {
        println!("    ✗ {broken}");
    }
    for line in round.log.iter().take(6) {
        println!("      log of A: {line}");
    }
    if let Some(more @ 1..) = round.log.len().checked_sub(6) {
        println!("      log of A: and {more} more");
    }
}

/// Prints the resources of a node at the end.
pub fn ending(ending: &Ending) {
    let mark = if ending.is_level { " " } else { "✗" };
    println!("    {mark} {}", ending.text);
}

fn cells(row: &Row) -> String {
    let noticed = seconds(row.noticed);
    let recovered = row.recovered.map_or_else(|| "not yet".into(), |recovered| seconds(Some(recovered)));
    let slowest = seconds(Some(row.slowest));
    format!(
        "{noticed:>8}{recovered:>10}{:>6}{:>7}{:>6}{:>6}{slowest:>9}",
        row.lost, row.files_lost, row.twice, row.disordered
    )
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{:.2} s", time.as_secs_f64()))
}

/// Prints the legend, the failed checks of each fault, and the faults that there was no time for.
pub fn summary(rounds: &[(String, Vec<Broken>)], not_run: &[String], seed: u64, time: Duration) {
    println!();
    println!(
        "noticed: from the fault until /readyz says 503 or the log warns; - where nothing was to be noticed, or was"
    );
    println!(
        "recovered: from Postgres' next answer until /readyz says 200 and every stream flows without loss or refusal"
    );
    println!("not yet: after {} s for pgio, after {} s for Node", GIVE_UP.as_secs(), GIVE_UP_NODE.as_secs());
    println!("lost, twice, order: events that others sent to its client, and events of its client at others");
    println!("files: lost ones of those that went through the attachment table");
    if !not_run.is_empty() {
        println!("no time for: {}", not_run.join(", "));
    }
    let broken: Vec<_> = rounds.iter().filter(|(_, broken)| !broken.is_empty()).collect();
    println!();
    if broken.is_empty() {
        println!("{} s, every guarantee holds", time.as_secs());
        return;
    }
    println!(
        "{} s, {} of {} lines break a guarantee; one fault alone: make soak FAULTS=name SEED={seed}",
        time.as_secs(),
        broken.len(),
        rounds.len()
    );
    for (fault, broken) in broken {
        let more = if broken.len() > 1 { format!(" (and {} more)", broken.len() - 1) } else { String::new() };
        if let Some(first) = broken.first() {
            println!("  {fault:<26}{first}{more}");
        }
    }
}
