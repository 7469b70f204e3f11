//! The Socket.IO servers: who answers, and whether they understand each other.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::finding::Finding;
use crate::cluster::{Cluster, LiveNode, NspSupport};
use crate::{Namespace, Result};

/// How long servers have to answer an initial heartbeat, which they do at once.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Asks in each namespace that has a channel.
pub(super) async fn check(cluster: &Cluster, namespaces: &[Namespace]) -> Result<Vec<Finding>> {
    let prefix = &cluster.options().channel_prefix;
    let usable = namespaces.iter().filter(|nsp| nsp.channel(prefix).is_ok());
    let judged =
        usable.map(async |nsp| Ok(judge(nsp, &cluster.nodes(nsp, ANSWER_WITHIN, usize::MAX).await?)));
    try_join_all(judged).await
}

fn judge(nsp: &Namespace, nodes: &[LiveNode]) -> Finding {
    let old = nodes.iter().filter(|node| node.nsp_support == NspSupport::WithoutNsp);
    let old: Vec<_> = old.map(|node| node.uid.as_str()).collect();
    let live = match nodes.len() {
        0 => return Finding::ok("servers", format!("none is live in {nsp}")),
        1 => format!("1 is live in {nsp}"),
        live => format!("{live} are live in {nsp}"),
    };
    match old.len() {
        0 => Finding::ok("servers", live),
        all if all == nodes.len() => Finding::ok("servers", format!("{live}, with adapter 0.3")),
        some => Finding::warn(
            "servers",
            format!(
                "{live}, {some} of them with adapter 0.3, whose broadcasts and requests newer Node servers drop: {}",
                old.join(", ")
            ),
            "upgrade @socket.io/postgres-adapter there",
        ),
    }
}
