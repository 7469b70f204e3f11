//! `pgio server-emit`: sends events to the servers themselves.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use futures_util::future::try_join_all;
use serde_json::json;

use super::arguments::{Format, Global, TargetNamespaces};
use super::binary_json::{self, BinaryJson};
use super::connection::{Deadline, RetryBudget};
use super::exit::Failure;
use super::output::{lines::Lines, safe};
use super::{duration, socket_inventory, values};
use crate::cluster::Answer;
use crate::{Emitter, Value};

/// Send an event to the servers themselves, not to clients
///
/// Each server of the namespace receives the event (`io.on(EVENT, ...)` in Node). Exit status 0 means that Postgres has
/// committed the event, not that a server has received it. With --ack each server answers once. If a server does not
/// answer before the timeout, stderr names it, and the exit status is 4. ARG is as in `pgio emit`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio server-emit reload                       to every server
  pgio server-emit config '{\"limit\":10}'        with an argument
  pgio server-emit --ack version                print the answer of each server
  pgio server-emit --ack stats -o json | jq .answer.memory
  pgio server-emit -n admin --ack ready --timeout 1s && echo ready")]
pub(super) struct ServerEmit {
    /// The name of the event
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    event: String,
    /// The arguments of the event: JSON, text, or @FILE
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,
    #[command(flatten)]
    namespaces: TargetNamespaces,
    /// Send every ARG as text, even if it looks like JSON or @FILE
    #[arg(long)]
    string: bool,
    /// Request an answer from each server, and print the answers
    #[arg(long)]
    ack: bool,
    /// The timeout for the answers of the servers
    #[arg(long, value_parser = duration::parse_positive, default_value = "5s", value_name = "TIME", requires = "ack")]
    timeout: Duration,
}

impl ServerEmit {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        self.namespaces.check(global)?;
        let namespaces = self.namespaces.list();
        let args = values::parse_all(&self.args, self.string)?;
        let deadline = Deadline::after(self.timeout);
        let cluster = match self.ack {
            true => deadline.connect(global).await?,
            false => global.connect(&mut RetryBudget::none()).await?,
        };
        let emitters: Vec<_> =
            namespaces.iter().map(|nsp| Emitter::new(cluster.clone()).of(nsp.as_str())).collect();
        if self.ack {
            return self.ask(global, &emitters, &args, deadline).await;
        }
        for (done, emitter) in emitters.iter().enumerate() {
            let sent = emitter.server_side_emit(&self.event, values::Spread(&args)).await;
            sent.map_err(|error| Failure::from(error).after_namespaces(done, emitters.len()))?;
        }
        if global.output == Format::Json {
            let mut lines = Lines::stdout();
            lines.json(&json!({ "sent": namespaces.len() }))?;
            return lines.flush();
        }
        let namespaces: Vec<_> = namespaces.iter().map(ToString::to_string).collect();
        let (event, namespaces) = (&self.event, namespaces.join(" and "));
        global.note_on_terminal(&format!("sent {event} to all servers of {namespaces}"));
        Ok(())
    }

    /// Requests answers in all namespaces at the same time, and prints each answer with the uid of its node.
    async fn ask(
        &self,
        global: &Global,
        emitters: &[Emitter],
        args: &[Value],
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let ask = |emitter: &Emitter| {
            let emitter = emitter.clone();
            async move {
                emitter.server_side_emit_with_ack(&self.event, values::Spread(args), deadline.left()).await
            }
        };
        let mut missing = Vec::new();
        let mut lines = Lines::stdout();
        for (emitter, collected) in emitters.iter().zip(try_join_all(emitters.iter().map(ask)).await?) {
            missing.extend(socket_inventory::missing(emitter.namespace(), &collected, self.timeout));
            for Answer { node, value } in collected.answers {
                match global.output {
                    Format::Json => lines.json(&json!({ "node": node, "answer": BinaryJson(&value) }))?,
                    Format::Text => {
                        let (node, answer) = (safe::line(node.as_str()), binary_json::text(&value));
                        lines.text(&format!("\x1b[2m{node}\x1b[0m  {}", safe::line(&answer)))?;
                    }
                }
            }
        }
        lines.flush()?;
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::TooFew(missing.join("; "))),
        }
    }
}
