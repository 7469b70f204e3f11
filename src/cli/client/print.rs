//! Prints the events that a client receives on stdout.

use std::time::SystemTime;

use serde::Serialize;

use crate::cli::arguments::{Format, Global};
use crate::cli::binary_json::{self, BinaryJson};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::tail::text;
use crate::cli::timestamp;
use crate::{Namespace, Value};

/// An event line of a client. It has no sender and no rooms, since a client knows neither.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time: String,
    namespace: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    event: &'a str,
    args: Vec<BinaryJson<'a>>,
    /// Present only in events of the server, not in acknowledgements.
    #[serde(skip_serializing_if = "Option::is_none")]
    wants_ack: Option<bool>,
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

    /// Prints an event of the server.
    pub(super) fn event(&mut self, event: &str, args: &[Value], wants_ack: bool) -> Result<(), Failure> {
        let remark = if wants_ack { "  wants an acknowledgement" } else { "" };
        self.print("broadcast", event, args, Some(wants_ack), remark)
    }

    /// Prints the acknowledgement of the event of `--emit`.
    pub(super) fn answer(&mut self, event: &str, args: &[Value]) -> Result<(), Failure> {
        self.print("ack", event, args, None, "  acknowledged")
    }

    /// Prints and flushes one line, since the next line may take a while.
    fn print(
        &mut self,
        kind: &'static str,
        event: &str,
        args: &[Value],
        wants_ack: Option<bool>,
        remark: &str,
    ) -> Result<(), Failure> {
        let time = SystemTime::now();
        match self.global.output {
            Format::Json => self.lines.json(&Line {
                time: format!("{:.3}", timestamp::of(time)),
                namespace: self.nsp.as_str(),
                kind,
                event,
                args: binary_json::all(args),
                wants_ack,
            })?,
            Format::Text => {
                let width = self.lines.width();
                self.lines.text(&text::client_line(time, &self.nsp, event, args, remark, width))?;
            }
        }
        self.lines.flush()
    }
}
