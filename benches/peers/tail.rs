//! Whether `pgio tail` keeps up with a flood.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use super::programs::{Programs, successful};
use super::publishing::{emit_from, event_lines};
use super::report;

const EVENTS: usize = 500_000;

pub fn run(programs: &Programs) -> io::Result<()> {
    let lines = event_lines(programs, EVENTS)?;
    let printed = programs.file("tail.jsonl");
    let mut command = programs.pgio();
    // Fewer than expected must not make this wait for ever.
    command.args(["tail", "-o", "json", "--for", "60s", "--count", &EVENTS.to_string()]);
    let mut tail = command.stdout(File::create(&printed)?).stderr(Stdio::piped()).spawn()?;
    let notes = tail.stderr.take().ok_or_else(|| io::Error::other("tail has no stderr"))?;
    let mut notes = BufReader::new(notes).lines();
    match notes.next().transpose()? {
        Some(note) if note.starts_with("listening") => {}
        other => return Err(io::Error::other(format!("tail says {other:?}"))),
    }

    let start = Instant::now();
    let emitted = emit_from(programs, &lines)?;
    let status = tail.wait()?;
    let tailed = start.elapsed().as_secs_f64();
    successful(&command, status)?;
    let complaint = notes.next().transpose()?;
    let count = BufReader::new(File::open(&printed)?).lines().count();
    if let Some(complaint) = complaint {
        return Err(io::Error::other(format!("tail says: {complaint}")));
    }
    if count != EVENTS {
        return Err(io::Error::other(format!("tail printed {count} events of {EVENTS}")));
    }
    fs::remove_file(printed)?;

    report::heading(&format!("{EVENTS} events at full speed while a tail prints them: all arrived"));
    report::rate("emitted", EVENTS as f64 / emitted, "pgio emit --room r1 --from - <events.jsonl");
    report::rate("received, decoded and printed", EVENTS as f64 / tailed, "pgio tail -o json >tail.jsonl");
    Ok(())
}
