//! How long it takes to emit one event from a shell.

use std::io;

use super::programs::{Programs, time};
use super::report;

const ROUNDS: usize = 21;

pub fn run(programs: &Programs) -> io::Result<()> {
    let rounds = programs.rounds(ROUNDS);
    let (mut pgio, mut node) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        pgio.push(time(programs.pgio().args(["emit", "--room", "r1", "tick", "1"]))?);
        node.push(time(&mut programs.node("emit-once.js"))?);
    }
    report::heading(&format!(
        "Emitting one event, from the start of the program to its exit: median of {rounds} rounds"
    ));
    report::draw("");
    let [pgio, node] = [report::median(&mut pgio), report::median(&mut node)];
    report::time("npm emitter 0.1.1", node, "node emit-once.js");
    report::time("pgio", pgio, "pgio emit --room r1 tick 1");
    report::ratio("npm emitter : pgio", node.as_secs_f64() / pgio.as_secs_f64());
    Ok(())
}
