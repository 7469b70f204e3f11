//! What a client receives, on stdout.

use std::time::SystemTime;

use serde::Serialize;

use crate::cli::arguments::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::tagged::{self, Tagged};
use crate::cli::tail::text;
use crate::cli::timestamp;
use crate::{Namespace, Value};

/// An event line, with what a client knows of it: not who sent it, nor to which rooms.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventLine<'a> {
    time: String,
    namespace: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    event: &'a str,
    args: Vec<Tagged<'a>>,
    wants_ack: bool,
}

#[derive(Serialize)]
struct AnswerLine<'a> {
    time: String,
    namespace: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    event: &'a str,
    args: Vec<Tagged<'a>>,
}

pub(super) struct Printer<'a> {
    global: &'a Global,
    lines: Lines,
    nsp: Namespace,
}

impl<'a> Printer<'a> {
    pub(super) fn new(global: &'a Global, nsp: Namespace, wide: bool) -> Self {
        let lines = if wide || global.verbose > 0 { Lines::stdout().uncut() } else { Lines::stdout() };
        Self { global, lines, nsp }
    }

    /// An event that the server sent.
    pub(super) fn event(&mut self, event: &str, args: Vec<Value>, wants_ack: bool) -> Result<(), Failure> {
        let (time, namespace) = (SystemTime::now(), self.nsp.as_str());
        match self.global.output {
            Format::Json => self.lines.json(&EventLine {
                time: json_time(time),
                namespace,
                kind: "broadcast",
                event,
                args: tagged::all(&args),
                wants_ack,
            })?,
            Format::Text => {
                let remark = if wants_ack { "  wants an acknowledgement" } else { "" };
                let width = self.lines.width();
                self.lines.text(&text::client_line(time, &self.nsp, event, &args, remark, width))?;
            }
        }
        self.lines.flush()
    }

    /// The answer to an event of ours.
    pub(super) fn answer(&mut self, event: &str, args: &[Value]) -> Result<(), Failure> {
        let (time, namespace) = (SystemTime::now(), self.nsp.as_str());
        match self.global.output {
            Format::Json => self.lines.json(&AnswerLine {
                time: json_time(time),
                namespace,
                kind: "ack",
                event,
                args: tagged::all(args),
            })?,
            Format::Text => {
                let (width, remark) = (self.lines.width(), "  acknowledged");
                self.lines.text(&text::client_line(time, &self.nsp, event, args, remark, width))?;
            }
        }
        self.lines.flush()
    }
}

fn json_time(time: SystemTime) -> String {
    format!("{:.3}", timestamp::of(time))
}
