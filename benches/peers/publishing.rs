//! How many small events a second reach Postgres.

use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::programs::{Programs, successful, time};
use super::report;

const ROUNDS: usize = 3;
/// Events in a round of the slow one, and of the others.
const FEW: usize = 20_000;
const MANY: usize = 300_000;
/// `pg_notify` calls in a transaction of psql.
const TRANSACTION: usize = 100;

pub fn run(programs: &Programs) -> io::Result<()> {
    let lines = event_lines(programs, MANY)?;
    let [statements, calls] = [programs.file("statements.sql"), programs.file("calls.sql")];
    fs::write(&statements, as_statements())?;
    fs::write(&calls, as_calls())?;

    let [mut node, mut pgio, mut by_statement, mut by_call] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        node.push(FEW as f64 / node_seconds(programs)?);
        pgio.push(MANY as f64 / emit_from(programs, &lines)?);
        if programs.psql.is_some() {
            by_statement.push(MANY as f64 / time(&mut programs.psql(&statements))?.as_secs_f64());
            by_call.push(MANY as f64 / time(&mut programs.psql(&calls))?.as_secs_f64());
        }
    }

    report::heading(&format!("Publishing small events to a room: median of {ROUNDS} rounds"));
    let [node, pgio] = [report::median(&mut node), report::median(&mut pgio)];
    report::rate("npm emitter 0.1.1 (without its start)", node, &format!("node emitter.js {FEW}"));
    report::rate("pgio", pgio, &format!("pgio emit --room r1 --from - <events.jsonl   # {MANY} lines"));
    report::ratio("pgio : npm emitter", pgio / node);
    if programs.psql.is_some() {
        let [by_statement, by_call] = [report::median(&mut by_statement), report::median(&mut by_call)];
        let name = format!("psql, {TRANSACTION} statements a transaction");
        report::rate(&name, by_statement, "psql -f statements.sql   # BEGIN; SELECT pg_notify(…); … COMMIT;");
        let name = format!("psql, {TRANSACTION} calls a statement");
        report::rate(&name, by_call, "psql -f calls.sql   # SELECT pg_notify(…), pg_notify(…), …;");
        report::ratio("pgio : psql with statements", pgio / by_statement);
        report::ratio("pgio : psql with calls", pgio / by_call);
    }
    Ok(())
}

/// A file of so many events, all different.
pub fn event_lines(programs: &Programs, count: usize) -> io::Result<PathBuf> {
    let path = programs.file("events.jsonl");
    let lines: String = (0..count).map(|number| format!("[\"tick\",{number}]\n")).collect();
    fs::write(&path, lines)?;
    Ok(path)
}

/// Emits a file of events, as fast as it goes; in seconds, from the start of the program to its end.
pub fn emit_from(programs: &Programs, lines: &Path) -> io::Result<f64> {
    let mut emit = programs.pgio();
    emit.args(["emit", "--quiet", "--room", "r1", "--from", "-"]).stdin(File::open(lines)?);
    Ok(time(&mut emit)?.as_secs_f64())
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
        r#"{{"uid":"emitter","nsp":"/","type":3,"data":{{"opts":{{"rooms":["r1"],"except":[],"flags":{{}}}},"packet":{{"type":2,"data":["tick",{number}]}}}}}}"#
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
