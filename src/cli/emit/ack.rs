//! `emit --ack`: what the clients answer.

use std::time::Duration;

use serde_json::json;

use super::Event;
use crate::cli::arguments::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::output::{lines::Lines, safe};
use crate::cli::tagged::{self, Tagged};
use crate::cli::values::Spread;
use crate::emitter::Acknowledgements;
use crate::{BroadcastOperator, Value};

/// Sends the event, prints the answers, and returns what is missing, if anything is.
pub(super) async fn ask(
    global: &Global,
    operator: &BroadcastOperator,
    event: &Event,
    timeout: Duration,
) -> Result<Option<String>, Failure> {
    let acks: Acknowledgements<Value> = operator.emit_with_ack(&event.name, Spread(&event.args)).await?;
    let mut lines = Lines::stdout();
    for answer in &acks.answers {
        match global.output {
            Format::Json => lines.json(&json!({ "answer": Tagged(answer) }))?,
            Format::Text => lines.text(&safe::line(&tagged::text(answer)))?,
        }
    }
    lines.flush()?;

    let came = acks.answers.len() as u64;
    if acks.nodes == 0 && acks.silent.is_empty() {
        return Ok(Some("no server is live there".to_owned()));
    }
    if !acks.is_complete() {
        let silent: Vec<_> = acks.silent.iter().map(ToString::to_string).collect();
        return Ok(Some(format!(
            "{came} of {} clients acknowledged within {timeout:?}; not complete: server {}",
            acks.expected,
            silent.join(", ")
        )));
    }
    let servers = if acks.nodes == 1 { "server" } else { "servers" };
    global.note_on_terminal(&format!("{came} acknowledged, on {} {servers}", acks.nodes));
    Ok(None)
}
