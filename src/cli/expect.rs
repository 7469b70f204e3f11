//! `--expect N`: sends nothing unless at least N sockets would receive the event.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use super::arguments::Global;
use super::exit::Failure;
use super::output::number;
use super::socket_inventory;
use crate::cluster::Collected;
use crate::{BroadcastOperator, Namespace, RemoteSocket};

/// The timeout for the lists of sockets of the servers.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout of the check that runs without `--expect`.
const GLANCE: Duration = Duration::from_secs(2);

/// The required number of sockets.
#[derive(Args)]
pub(super) struct Expectation {
    /// Count the selected sockets first: if there are fewer than N, send nothing and exit with status 4 [default: no check]
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
}

impl Expectation {
    /// Whether the user passed `--expect`.
    pub(super) fn is_given(&self) -> bool {
        self.expect.is_some()
    }

    /// Fails if the operators target fewer sockets than expected, in all namespaces together.
    pub(super) async fn check(
        &self,
        targets: &[(Namespace, BroadcastOperator)],
        which: &str,
    ) -> Result<(), Failure> {
        let Some(expected) = self.expect else { return Ok(()) };
        let operators = targets.iter().map(|(_, operator)| operator.clone().timeout(TIMEOUT));
        let count_of = |lists: &[Collected<RemoteSocket>]| -> u64 {
            lists.iter().map(|list| list.answers.len() as u64).sum()
        };
        let quick = operators.clone().map(BroadcastOperator::await_discovered_only);
        if count_of(&socket_inventory::lists(quick).await?) >= expected {
            return Ok(());
        }
        // A server that does not respond may have the missing sockets.
        let lists = socket_inventory::lists(operators).await?;
        let count = count_of(&lists);
        if count >= expected {
            return Ok(());
        }
        let (found, expected) = (number::counted(count, "socket"), number::count_is(expected));
        let mut reason = format!("found {found}, and {expected} expected: {which}; nothing was sent");
        // The servers without an answer may have the missing sockets.
        for ((nsp, _), list) in targets.iter().zip(&lists) {
            if let Some(missing) = socket_inventory::missing(nsp, list, TIMEOUT) {
                reason += &format!("; {missing}");
            }
        }
        Err(Failure::TooFew(reason))
    }
}

/// Warns on a terminal if the operators target no socket. On a terminal a typing error is likely, and half a second
/// matters little. Call this before sending the request.
pub(super) async fn warn_of_nobody(global: &Global, targets: &[(Namespace, BroadcastOperator)], which: &str) {
    if global.quiet || !std::io::stderr().is_terminal() {
        return;
    }
    let operators =
        targets.iter().map(|(_, operator)| operator.clone().timeout(GLANCE).await_discovered_only());
    match socket_inventory::lists(operators).await {
        Ok(lists) if lists.iter().all(|list| list.answers.is_empty() && list.is_complete()) => {
            global.warn(&format!("no socket matches: {which}"));
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "which sockets match is not known"),
    }
}
