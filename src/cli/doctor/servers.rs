//! The Socket.IO servers: who answers, and whether they understand each other.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::finding::Finding;
use crate::cluster::{Cluster, Dialect};
use crate::protocol::Uid;
use crate::{Namespace, Result};

/// Asks in each namespace that has a channel.
pub(super) async fn check(cluster: &Cluster, namespaces: &[Namespace]) -> Result<Vec<Finding>> {
    let prefix = &cluster.options().channel_prefix;
    let usable = namespaces.iter().filter(|nsp| nsp.channel(prefix).is_ok());
    let judged = usable.map(async |nsp| Ok(judge(nsp, &cluster.dialects(nsp).await?)));
    try_join_all(judged).await
}

fn judge(nsp: &Namespace, dialects: &BTreeMap<Uid, Dialect>) -> Finding {
    let old = dialects.iter().filter(|(_, dialect)| **dialect == Dialect::WithoutNamespace);
    let old: Vec<_> = old.map(|(uid, _)| uid.as_str()).collect();
    let live = match dialects.len() {
        0 => return Finding::ok("servers", format!("none is live in {nsp}")),
        1 => format!("1 is live in {nsp}"),
        live => format!("{live} are live in {nsp}"),
    };
    match old.len() {
        0 => Finding::ok("servers", live),
        all if all == dialects.len() => Finding::ok("servers", format!("{live}, with adapter 0.3")),
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
