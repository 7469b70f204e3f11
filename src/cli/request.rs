//! A request to all servers to do something with sockets: `join`, `leave`, `disconnect`.

use clap::Args;
use serde_json::json;

use super::arguments::{Format, Global, TargetNamespaces};
use super::confirm::{Consent, confirm};
use super::connection::RetryBudget;
use super::exit::Failure;
use super::expect::{Expectation, warn_of_nobody};
use super::output::lines::Lines;
use super::target::Target;
use crate::{BroadcastOperator, Result};

/// For which sockets, and under which conditions.
#[derive(Args)]
pub(super) struct Request {
    #[command(flatten)]
    namespaces: TargetNamespaces,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    expectation: Expectation,
    #[command(flatten)]
    consent: Consent,
}

impl Request {
    /// Sends the request. Asks for confirmation first if it targets all sockets. `ask` formats the question, and `done`
    /// formats the final note, both from a description of the sockets.
    pub(super) async fn send(
        mut self,
        global: &Global,
        ask: impl Fn(&str) -> String,
        send: impl AsyncFn(BroadcastOperator) -> Result<()>,
        done: impl Fn(&str) -> String,
    ) -> Result<(), Failure> {
        self.namespaces.check(global)?;
        let namespaces = self.namespaces.list();
        if self.target.is_everyone() {
            let which = self.target.describe(&namespaces);
            let settings = global.settings()?;
            let question = format!("{} on {} at {}", ask(&which), settings.database(), settings.target());
            confirm(&question, self.consent.yes).await?;
        }
        let cluster = global.connect(&mut RetryBudget::none()).await?;
        self.target.complete(&cluster, &namespaces).await?;
        let which = self.target.describe(&namespaces);
        let targets: Vec<_> =
            namespaces.iter().map(|nsp| (nsp.clone(), self.target.operator(&cluster, nsp))).collect();
        self.expectation.check(&targets, &which).await?;
        if !self.expectation.is_given() && !self.target.is_everyone() {
            warn_of_nobody(global, &targets, &which).await;
        }
        let count = targets.len();
        for (done, (_, operator)) in targets.into_iter().enumerate() {
            send(operator).await.map_err(|error| Failure::from(error).after_namespaces(done, count))?;
        }
        match global.output {
            Format::Json => {
                let mut lines = Lines::stdout();
                lines.json(&json!({ "sent": count }))?;
                lines.flush()
            }
            Format::Text => {
                global.note_on_terminal(&done(&which));
                Ok(())
            }
        }
    }
}
