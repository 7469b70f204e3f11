//! How many small events a second reach Postgres.

use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::programs::{Programs, successful, time};
use super::{floor, report};

const ROUNDS: usize = 3;
/// Events in a round of the slow one, and of the others.
const FEW: usize = 20_000;
const MANY: usize = 300_000;
/// `pg_notify` calls in a transaction of psql.
pub const TRANSACTION: usize = 100;

pub fn run(programs: &Programs) -> io::Result<()> {
    let lines = event_lines(programs, MANY)?;
    let [statements, calls] = [programs.file("statements.sql"), programs.file("calls.sql")];
    fs::write(&statements, as_statements())?;
    fs::write(&calls, as_calls())?;

    let rounds = programs.rounds(ROUNDS);
    let [mut node, mut pgio, mut four, mut by_statement, mut by_call, mut floor] = [const { Vec::new() }; 6];
    for _ in 0..rounds {
        node.push(FEW as f64 / node_seconds(programs)?);
        pgio.push(MANY as f64 / emit_from(programs, &lines)?);
        four.push((4 * MANY) as f64 / four_at_once(programs, &lines)?);
        floor.extend(floor::notifications_per_second(programs)?);
        if programs.psql.is_some() {
            by_statement.push(MANY as f64 / time(&mut programs.psql(&statements))?.as_secs_f64());
            by_call.push(MANY as f64 / time(&mut programs.psql(&calls))?.as_secs_f64());
        }
    }

    report::heading(&format!("Publishing small events to a room: median of {rounds} rounds"));
    report::draw("");
    let node_command = format!("node emitter.js {FEW}");
    let node = report::rates("npm emitter 0.1.1 (without its start)", &mut node, &node_command);
    let command = format!("pgio emit --room r1 --from - <events.jsonl   # {MANY} lines");
    let pgio = report::rates("pgio (with its start)", &mut pgio, &command);
    report::rates("pgio, four processes", &mut four, "the same four times at once");
    report::ratio("pgio : npm emitter", pgio / node);
    if programs.psql.is_some() {
        let name = format!("psql, {TRANSACTION} statements a transaction");
        let command = "psql -f statements.sql   # BEGIN; SELECT pg_notify(…); … COMMIT;";
        let by_statement = report::rates(&name, &mut by_statement, command);
        let name = format!("psql, {TRANSACTION} calls a statement");
        let command = "psql -f calls.sql   # SELECT pg_notify(…), pg_notify(…), …;";
        let by_call = report::rates(&name, &mut by_call, command);
        report::ratio("pgio : psql with statements", pgio / by_statement);
        report::ratio("pgio : psql with calls", pgio / by_call);
    }
    if !floor.is_empty() {
        let command = format!("SELECT pg_notify(…) FROM generate_series(1, {TRANSACTION})");
        let floor = report::rates("pgbench, the limit of one session", &mut floor, &command);
        report::ratio("pgio : pgbench", pgio / floor);
    }
    other_sizes(programs)
}

/// Larger events, and those with bytes, which go through the attachment table.
fn other_sizes(programs: &Programs) -> io::Result<()> {
    report::heading("Publishing other events to a room");
    let mut init = programs.pgio();
    time(init.args(["attachments", "init", "--quiet"]).stdout(Stdio::null()))?;
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    let sizes = [
        ("1 KB of text", text(1_000), 100_000),
        ("10 KB of text, through the table", text(10_000), 10_000),
        ("1 KB of bytes, through the table", format!("{{\"$binary\":\"{}\"}}", "AAAA".repeat(333)), 10_000),
    ];
    for (name, argument, count) in sizes {
        let path = programs.file("sizes.jsonl");
        let lines: String = (0..count).map(|number| format!("[\"tick\",{number},{argument}]\n")).collect();
        fs::write(&path, lines)?;
        let mut rates = Vec::new();
        for _ in 0..programs.rounds(ROUNDS) {
            rates.push(f64::from(count) / emit_from(programs, &path)?);
        }
        report::rates(
            name,
            &mut rates,
            &format!("pgio emit --room r1 --from - <events.jsonl   # {count} lines"),
        );
    }
    Ok(())
}

/// Emits the file by four processes; how long until the last has ended, in seconds.
fn four_at_once(programs: &Programs, lines: &Path) -> io::Result<f64> {
    let start = Instant::now();
    let started: io::Result<Vec<_>> = (0..4).map(|_| emit_command(programs, lines)?.spawn()).collect();
    for mut process in started? {
        if !process.wait()?.success() {
            return Err(io::Error::other("one of four emitters failed"));
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

/// A file of so many events, all different.
pub fn event_lines(programs: &Programs, count: usize) -> io::Result<PathBuf> {
    let path = programs.file("events.jsonl");
    let lines: String = (0..count).map(|number| format!("[\"tick\",{number}]\n")).collect();
    fs::write(&path, lines)?;
    Ok(path)
}

/// Emits a file of events at full speed. Returns the seconds from the start of the program to its end.
pub fn emit_from(programs: &Programs, lines: &Path) -> io::Result<f64> {
    Ok(time(&mut emit_command(programs, lines)?)?.as_secs_f64())
}

fn emit_command(programs: &Programs, lines: &Path) -> io::Result<Command> {
    let mut emit = programs.pgio();
    emit.args(["emit", "--quiet", "--room", "r1", "--from", "-"]).stdin(File::open(lines)?);
    Ok(emit)
}

fn node_seconds(programs: &Programs) -> io::Result<f64> {
    let mut node = programs.node("emitter.js");
    let output = node.arg(FEW.to_string()).output()?;
    successful(&node, output.status)?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(io::Error::other)
}

/// The call that publishes what pgio publishes for the event of that number.
fn call(number: usize) -> String {
    let message = format!(
        r#"{{"uid":"emitter","nsp":"/","type":3,"source":"_sio_adapter","data":{{"opts":{{"rooms":["r1"],"except":[],"flags":{{}}}},"packet":{{"type":2,"data":["tick",{number}]}}}}}}"#
    );
    format!("pg_notify('socket.io#/','{message}')")
}

fn as_statements() -> String {
    let mut sql = String::new();
    for start in (0..MANY).step_by(TRANSACTION) {
        sql.push_str("BEGIN;\n");
        for number in start..start + TRANSACTION {
            // Writing to a string cannot fail.
            writeln!(sql, "SELECT {};", call(number)).expect("strings grow");
        }
        sql.push_str("COMMIT;\n");
    }
    sql
}

fn as_calls() -> String {
    let mut sql = String::new();
    for start in (0..MANY).step_by(TRANSACTION) {
        let calls: Vec<_> = (start..start + TRANSACTION).map(call).collect();
        writeln!(sql, "SELECT {};", calls.join(",\n")).expect("strings grow");
    }
    sql
}
