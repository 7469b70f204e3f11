//! Checks the Socket.IO servers: whether they answer, whether their versions are compatible, and the cost of their
//! heartbeats.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::emitters;
use super::finding::Finding;
use crate::cli::output::number::count;
use crate::cli::socket_inventory::names;
use crate::cluster::{Cluster, LiveNode, Liveness, NspSupport, Unresponsive};
use crate::postgres::health::Examiner;
use crate::{Namespace, Result};

/// The timeout for answers to an initial heartbeat. Servers answer at once.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Checks the servers of each namespace that has a valid channel, and listens to emitters for the time `listen`.
pub(super) async fn check(
    cluster: &Cluster,
    namespaces: &[Namespace],
    examiner: &Examiner,
    listen: Duration,
) -> Result<Vec<Finding>> {
    let prefix = &cluster.options().channel_prefix;
    let usable: Vec<_> = namespaces.iter().filter(|nsp| nsp.channel(prefix).is_ok()).collect();
    let watch = emitters::Watch::start(cluster, &usable).await?;
    let asked = usable.into_iter().map(async |nsp| {
        let nodes = cluster.nodes(nsp, ANSWER_WITHIN, usize::MAX).await?;
        // At once, since servers may come and go while this listens to emitters.
        let unresponsive = cluster.unresponsive(nsp, nodes.iter().map(|node| &node.uid)).await;
        Ok((nsp, nodes, unresponsive))
    });
    let (nodes, without_nsp) = tokio::join!(try_join_all(asked), watch.end(listen, examiner));
    let nodes = nodes?;
    let findings = nodes.iter().map(|(nsp, nodes, unresponsive)| judge(nsp, nodes, unresponsive));
    let mut findings: Vec<_> = findings.collect();
    let all_answered = nodes.iter().all(|(_, _, unresponsive)| unresponsive.servers() == 0);
    let nodes: Vec<_> = nodes.into_iter().map(|(nsp, nodes, _)| (nsp, nodes)).collect();
    let emitters = emitters::judge(&without_nsp, &nodes);
    let nodes: Vec<_> = nodes.into_iter().map(|(_, nodes)| nodes).collect();
    findings.push(judge_heartbeats(&nodes, all_answered, cluster.options().heartbeat_interval));
    findings.extend(emitters);
    Ok(findings)
}

/// Judges the cost of the heartbeats, and names the servers that make them necessary. `namespaces` has the servers of
/// each namespace.
fn judge_heartbeats(namespaces: &[Vec<LiveNode>], all_answered: bool, interval: Duration) -> Finding {
    let sends_heartbeats = |node: &&LiveNode| node.liveness == Liveness::Heartbeats;
    let loud: Vec<_> =
        namespaces.iter().flatten().filter(sends_heartbeats).map(|node| node.uid.as_str()).collect();
    if loud.is_empty() {
        let detail = match namespaces.iter().all(Vec::is_empty) {
            true => "none, since no server is live",
            false if all_answered => "none needed: all servers hold an advisory lock",
            false => "none needed by the servers that answered: all of them hold an advisory lock",
        };
        return Finding::ok("heartbeats", detail);
    }
    // A process of pgio sends the heartbeats of all its namespaces in one commit.
    let answering: BTreeSet<_> = namespaces
        .iter()
        .filter(|nodes| nodes.iter().any(|node| sends_heartbeats(&node)))
        .flatten()
        .filter(|node| !sends_heartbeats(node))
        .map(|node| node.uid.instance())
        .collect();
    let each = Duration::from_hours(24).as_secs_f64() / interval.as_secs_f64().max(0.001);
    let commits = count(((loud.len() + answering.len()) as f64 * each).round() as u64);
    let who = match loud.len() {
        1 => format!("1 server holds no advisory lock: {}", loud[0]),
        count => format!("{count} servers hold no advisory lock: {}", some(&loud)),
    };
    Finding::warn(
        "heartbeats",
        format!("heartbeats cost {commits} commits a day, which write WAL; {who}"),
        "Node servers need heartbeats; run pgio serve without --heartbeats always, with a role that may read pg_locks",
    )
}

/// The first few uids.
pub(super) fn some(uids: &[&str]) -> String {
    const SHOWN: usize = 5;
    let more = if uids.len() > SHOWN { ", ..." } else { "" };
    uids[..uids.len().min(SHOWN)].join(", ") + more
}

fn judge(nsp: &Namespace, nodes: &[LiveNode], unresponsive: &Unresponsive) -> Finding {
    let old = nodes.iter().filter(|node| node.nsp_support == NspSupport::WithoutNsp);
    let old: Vec<_> = old.map(|node| node.uid.as_str()).collect();
    let silent = match unresponsive.servers() {
        0 => String::new(),
        _ => format!("; no answer from {}", names(&[], unresponsive)),
    };
    let live = match nodes.len() {
        0 if silent.is_empty() => {
            let advice = "start one, or check -n: pgio namespaces lists those with servers";
            return Finding::warn("servers", format!("none is live in {nsp}"), advice);
        }
        1 => format!("1 is live in {nsp}"),
        live => format!("{live} are live in {nsp}"),
    };
    match old.len() {
        _ if !silent.is_empty() => Finding::warn(
            "servers",
            format!("{live}{silent}"),
            "the process does not respond: restart it. If it no longer exists, SELECT pg_terminate_backend(PID) ends its session",
        ),
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::finding::Status;
    use super::*;
    use crate::protocol::{Instance, Uid};

    #[test]
    fn heartbeats_cost_commits_while_a_server_has_no_lock() {
        let node = |uid: Uid, liveness| LiveNode {
            uid,
            last_heard: Instant::now(),
            nsp_support: NspSupport::WithNsp,
            liveness,
        };
        let [one, two] = [1, 2].map(Instance::from);
        let quiet = |instance: Instance, number| node(instance.uid(number), Liveness::Lock);
        let interval = Duration::from_secs(5);
        let none = judge_heartbeats(&[vec![], vec![]], true, interval);
        assert_eq!(none.status, Status::Ok);
        let quiet_cluster = judge_heartbeats(&[vec![quiet(one, 1), quiet(two, 1)]], true, interval);
        assert_eq!(quiet_cluster.status, Status::Ok);
        let old = node("old".into(), Liveness::Heartbeats);
        let namespaces =
            [vec![quiet(one, 1), old.clone()], vec![quiet(one, 2), quiet(two, 1), old], vec![quiet(two, 2)]];
        let mixed = judge_heartbeats(&namespaces, true, interval);
        assert_eq!(mixed.status, Status::Warn);
        // The old server sends heartbeats in two namespaces. Each of the two processes that answer it adds one commit.
        let text = mixed.object()["detail"].to_string();
        assert!(text.contains("69,120 commits a day") && text.contains("2 servers"), "{text}");
    }
}
