//! Detects emitters that newer servers do not understand: `@socket.io/postgres-emitter` 0.1.1 sends no namespace
//! (`nsp`), and adapter 0.4 and later silently drop messages without one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::finding::Finding;
use crate::cli::output::number::counted;
use crate::cluster::{Cluster, Event, LiveNode, Liveness, NspSupport, Subscription};
use crate::postgres::health::Examiner;
use crate::protocol::Header;
use crate::{Namespace, Result};

/// The longest time to listen. A deadline that is further away could overflow the clock.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Listens to the messages of emitters.
pub(super) struct Watch(Subscription);

/// The messages of emitters without a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WithoutNsp {
    /// The number of received messages, by the namespace of their channel.
    heard: BTreeMap<Namespace, usize>,
    /// The number of rows in the attachment table.
    rows: usize,
}

impl Watch {
    pub(super) async fn start(cluster: &Cluster, namespaces: &[&Namespace]) -> Result<Self> {
        let wants = |header: Option<&Header>| header.is_some_and(|header| header.uid.is_emitter());
        Ok(Self(cluster.subscribe(namespaces.iter().copied(), wants).await?))
    }

    /// Listens for this time, then reads the rows of the attachment table.
    pub(super) async fn end(mut self, listen: Duration, examiner: &Examiner) -> WithoutNsp {
        let mut found = WithoutNsp::default();
        let deadline = Instant::now() + listen.min(LONGEST);
        while let Ok(Some(event)) = timeout_at(deadline, self.0.next()).await {
            let Event::Message(received) = event else { continue };
            // The notification of an attachment has no namespace in any version.
            if let Some(header) = received.content.header()
                && received.attachment.is_none()
                && !has_nsp(&received.text)
            {
                *found.heard.entry(header.nsp).or_default() += 1;
            }
        }
        match examiner.documents().await {
            Ok(documents) => found.rows = documents.of_old_emitters,
            Err(error) => tracing::debug!(%error, "the attachment table is not looked at"),
        }
        found
    }
}

fn has_nsp(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        nsp: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_str::<Envelope>(text).map_or(true, |envelope| envelope.nsp.is_some())
}

/// The finding about servers that drop the messages, or `None` if there are no such messages. `servers` has the servers
/// of each namespace.
pub(super) fn judge(found: &WithoutNsp, servers: &[(&Namespace, Vec<LiveNode>)]) -> Option<Finding> {
    let count = found.heard.values().sum::<usize>() + found.rows;
    if count == 0 {
        return None;
    }
    let is_concerned = |nsp: &Namespace| found.rows > 0 || found.heard.contains_key(nsp);
    // A server that holds a lock is pgio, and takes the namespace from the channel.
    let drops =
        |node: &&LiveNode| node.nsp_support == NspSupport::WithNsp && node.liveness == Liveness::Heartbeats;
    let servers = servers.iter().filter(|(nsp, _)| is_concerned(nsp)).flat_map(|(_, nodes)| nodes);
    let dropping: Vec<_> = servers.filter(drops).map(|node| node.uid.as_str()).collect();
    let messages = counted(count as u64, "message");
    let sent = format!(
        "{messages} came from an emitter that sends no namespace (@socket.io/postgres-emitter 0.1.1)"
    );
    Some(match dropping.as_slice() {
        [] => Finding::ok("emitters", format!("{sent}, which every live server understands")),
        some => Finding::warn(
            "emitters",
            format!(
                "{sent}, and servers with adapter 0.4 or later drop them: {}",
                super::servers::some(some)
            ),
            "emit with pgio emit, the crate or the SQL functions (pgio sql install), or from a Node server",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;
    use crate::protocol::Uid;

    #[test]
    fn only_servers_of_its_namespace_drop_a_message() {
        let node = |uid: &str, nsp_support, liveness| LiveNode {
            uid: Uid::from(uid),
            last_heard: std::time::Instant::now(),
            nsp_support,
            liveness,
        };
        let new = node("new", NspSupport::WithNsp, Liveness::Heartbeats);
        let old = node("old", NspSupport::WithoutNsp, Liveness::Heartbeats);
        let ours = node("ours", NspSupport::WithNsp, Liveness::Lock);
        let [main, admin] = ["/", "/admin"].map(Namespace::new);
        let servers = [(&main, vec![old, ours]), (&admin, vec![new])];
        let heard = |nsp: &Namespace| WithoutNsp { heard: [(nsp.clone(), 2)].into(), rows: 0 };
        assert_eq!(judge(&WithoutNsp::default(), &servers), None);
        assert_eq!(judge(&heard(&main), &servers).unwrap().status, Status::Ok);
        assert_eq!(judge(&heard(&admin), &servers).unwrap().status, Status::Warn);
        assert_eq!(
            judge(&WithoutNsp { rows: 1, ..Default::default() }, &servers).unwrap().status,
            Status::Warn
        );
        assert!(
            has_nsp(r#"{"uid":"emitter","nsp":"/"}"#) && !has_nsp(r#"{"uid":"emitter","data":{"nsp":1}}"#)
        );
    }
}
