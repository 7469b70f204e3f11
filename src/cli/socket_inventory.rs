//! The socket inventory: the sockets of the whole cluster, and the servers that did not answer.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::arguments::Global;
use super::connection::Deadline;
use super::exit::Failure;
use super::namespaces::ObservedNamespaces;
use super::output::number;
use super::target::Target;
use crate::cluster::{Answer, Collected, Unresponsive};
use crate::protocol::Uid;
use crate::{BroadcastOperator, Namespace, RemoteSocket};

/// The maximum number of sessions in a message.
const SHOWN_SESSIONS: usize = 5;

/// A socket with its namespace and node.
pub(super) struct Located {
    pub(super) nsp: Namespace,
    pub(super) node: Uid,
    pub(super) socket: RemoteSocket,
}

/// The sockets of the servers that answered in time.
pub(super) struct SocketInventory {
    pub(super) sockets: Vec<Located>,
    /// The namespaces without a server.
    empty: Vec<Namespace>,
    missing: Vec<String>,
}

/// Requests the sockets of all servers of all namespaces concurrently.
pub(super) async fn take(
    global: &Global,
    namespaces: &ObservedNamespaces,
    mut target: Target,
    timeout: Duration,
) -> Result<SocketInventory, Failure> {
    let deadline = Deadline::after(timeout);
    let cluster = deadline.connect(global).await?;
    let observed = namespaces.find(global, &cluster).await?;
    target.complete(&cluster, &observed.list).await?;
    let operators = observed.list.iter().map(|nsp| target.operator(&cluster, nsp).timeout(deadline.left()));
    let all = lists(operators).await?;
    let mut inventory = SocketInventory { sockets: Vec::new(), empty: Vec::new(), missing: Vec::new() };
    for (nsp, collected) in observed.list.iter().zip(all) {
        match collected.nodes + collected.silent.len() {
            0 if collected.is_complete() && !observed.is_named(nsp) => {}
            0 if collected.is_complete() => inventory.empty.push(nsp.clone()),
            _ => inventory.missing.extend(missing(nsp, &collected, timeout)),
        }
        inventory.sockets.extend(
            collected.answers.into_iter().map(|Answer { node, value: socket }| Located {
                nsp: nsp.clone(),
                node,
                socket,
            }),
        );
    }
    Ok(inventory)
}

/// The lists of sockets of several operators, which are requested concurrently.
pub(super) async fn lists(
    operators: impl Iterator<Item = BroadcastOperator>,
) -> crate::Result<Vec<Collected<RemoteSocket>>> {
    try_join_all(operators.map(async |operator| operator.fetch_sockets().await)).await
}

impl SocketInventory {
    /// Fails if some servers did not list their sockets, or if fewer than `min` of `what` were found. Prints a note for
    /// each namespace without a server.
    pub(super) fn judge(
        self,
        global: &Global,
        found: usize,
        what: &str,
        min: Option<usize>,
    ) -> Result<(), Failure> {
        self.empty.iter().for_each(|nsp| global.note(&format!("no server is live in {nsp}")));
        let mut reasons = self.missing;
        if let Some(min) = min.filter(|min| found < *min) {
            let found = number::count(found as u64);
            reasons.insert(0, format!("{found} {what}, and {} required", number::count_is(min as u64)));
        }
        match reasons.is_empty() {
            true => Ok(()),
            false => Err(Failure::TooFew(reasons.join("; "))),
        }
    }
}

/// A sentence about the missing answers of servers, or `None` if the answers are complete.
pub(super) fn missing<T>(nsp: &Namespace, collected: &Collected<T>, timeout: Duration) -> Option<String> {
    let Collected { silent, unresponsive, nodes, unread, .. } = collected;
    let without_answer = silent.len() + unresponsive.servers();
    let servers = nodes + without_answer;
    if servers == 0 {
        return Some(format!("no server is live in {nsp}"));
    }
    if collected.is_complete() {
        return None;
    }
    if without_answer == 0 {
        return Some(format!("the connection was interrupted: there may be more servers in {nsp}"));
    }
    let (of, names) = (number::counted(servers as u64, "server"), names(silent, unresponsive));
    let mut missing = format!("{without_answer} of {of} of {nsp} did not answer within {timeout:?}: {names}");
    // The first reason is enough, since it usually applies to all.
    if let Some(Answer { node, value: why }) = unread.first() {
        missing += &format!("; cannot decode the answer from {node}: {why}");
    }
    Some(missing)
}

/// The servers without an answer: their uids. For those whose uid is not known, the sessions on which they listen.
pub(super) fn names(silent: &[Uid], unresponsive: &Unresponsive) -> String {
    let mut names: Vec<_> = silent.iter().map(|uid| uid.as_str().to_owned()).collect();
    let Unresponsive { node_servers, node_sessions, pgio, .. } = unresponsive;
    names.extend(pgio.iter().map(|session| format!("the pgio server that listens as {session}")));
    let mut listed: Vec<_> = node_sessions.iter().take(SHOWN_SESSIONS).map(ToString::to_string).collect();
    if let Some(more @ 1..) = node_sessions.len().checked_sub(SHOWN_SESSIONS) {
        listed.push(format!("{more} more"));
    }
    let listed = listed.join(", ");
    match node_servers {
        0 => {}
        1 if node_sessions.len() == 1 => names.push(format!("the Node server that listens as {listed}")),
        all if *all == node_sessions.len() => names.push(format!("the Node servers that listen as {listed}")),
        some => names.push(format!("{some} of the Node servers that listen as {listed}")),
    }
    names.join(", ")
}
