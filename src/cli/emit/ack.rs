//! `emit --ack`: requests and prints the acknowledgements of clients.

use std::time::Duration;

use serde_json::json;

use super::Sent;
use crate::cli::arguments::{Format, Global};
use crate::cli::binary_json::{self, BinaryJson};
use crate::cli::exit::Failure;
use crate::cli::output::{lines::Lines, number, safe};
use crate::cli::socket_inventory;
use crate::emitter::Acknowledgements;
use crate::protocol::Uid;
use crate::{Namespace, Value};

/// The acknowledgements of one event in all its namespaces.
pub(super) struct Tally {
    timeout: Duration,
    acks: u64,
    expected: u64,
    servers: usize,
    silent: Vec<Uid>,
    /// The number of servers that listen and sent nothing.
    unresponsive: usize,
    /// The missing acknowledgements, one sentence for each namespace.
    missing: Vec<String>,
}

impl Tally {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            acks: 0,
            expected: 0,
            servers: 0,
            silent: Vec::new(),
            unresponsive: 0,
            missing: Vec::new(),
        }
    }

    /// Prints and counts the answers of a namespace.
    pub(super) fn add(
        &mut self,
        global: &Global,
        nsp: &Namespace,
        acks: Acknowledgements<Value>,
    ) -> Result<(), Failure> {
        let mut lines = Lines::stdout();
        for answer in &acks.answers {
            match global.output {
                Format::Json => lines.json(&json!({ "answer": BinaryJson(answer) }))?,
                Format::Text => lines.text(&safe::line(&binary_json::text(answer)))?,
            }
        }
        lines.flush()?;

        let came = acks.answers.len() as u64;
        if acks.nodes == 0 && acks.silent.is_empty() && acks.unresponsive.servers() == 0 {
            self.missing.push(format!("no server is live in {nsp}"));
        } else if !acks.is_complete() {
            let why = match socket_inventory::names(&acks.silent, &acks.unresponsive) {
                names if names.is_empty() => "the connection was interrupted".to_owned(),
                names => format!("no complete answer from {names}"),
            };
            // The clients of a server without an answer are not counted.
            let of = if came < acks.expected { format!(" of {}", acks.expected) } else { String::new() };
            let within = self.timeout;
            self.missing.push(format!("{came}{of} clients acknowledged within {within:?}: {why}"));
        }
        self.acks += came;
        self.expected += acks.expected;
        self.servers += acks.nodes;
        self.silent.extend(acks.silent);
        self.unresponsive += acks.unresponsive.servers();
        Ok(())
    }

    /// Why there are fewer acknowledgements than required.
    fn too_few(&self, target: &str, min: u64) -> String {
        let required = number::count_is(min);
        if self.expected > 0 || !self.silent.is_empty() {
            let (clients, within) = (number::counted(self.acks, "client"), self.timeout);
            let unresponsive =
                if self.unresponsive > 0 { format!("; {}", self.missing.join("; ")) } else { String::new() };
            return format!(
                "{clients} acknowledged within {within:?}, and {required} required{unresponsive}"
            );
        }
        let why = match self.missing.is_empty() {
            true => format!("no socket matches {target}"),
            false => self.missing.join("; "),
        };
        format!("no client received the event, and {required} required: {why}")
    }

    /// Checks the number of acknowledgements: all clients have to acknowledge, or at least `min`. `target` names the
    /// sockets of the event.
    pub(super) fn finish(self, global: &Global, target: &str, min: Option<u64>) -> Result<Sent, Failure> {
        if let (Some(_), Format::Json) = (min, global.output) {
            let mut lines = Lines::stdout();
            lines.json(&json!({
                "acks": self.acks,
                "expected": self.expected,
                "silent": self.silent,
                "unresponsive": self.unresponsive,
            }))?;
            lines.flush()?;
        }
        match min {
            Some(min) if self.acks < min => {
                return Ok(Sent::AcksMissing(Failure::TooFew(self.too_few(target, min))));
            }
            None if !self.missing.is_empty() => {
                return Ok(Sent::AcksMissing(Failure::TooFew(self.missing.join("; "))));
            }
            _ => {}
        }
        if self.expected == 0 && self.missing.is_empty() {
            global.warn(&format!("no client received the event: no socket matches {target}"));
        } else {
            let servers = if self.servers == 1 { "server" } else { "servers" };
            global.note_on_terminal(&format!("{} acknowledged, on {} {servers}", self.acks, self.servers));
        }
        Ok(Sent::Whole)
    }
}
