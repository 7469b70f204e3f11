//! Checks a room that receives no events: its sockets, and rooms with a similar name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use strsim::damerau_levenshtein;

use super::finding::Finding;
use crate::cli::output::number::counted;
use crate::cluster::{Answer, Cluster, Collected};
use crate::protocol::{RemoteSocket, Uid};
use crate::{Emitter, Namespace, Result};

/// The timeout for the lists of sockets of the servers.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The maximum number of shown rooms with a similar name.
const SHOWN: usize = 3;

/// Checks the rooms in each namespace that has a valid channel.
pub(super) async fn check(
    cluster: &Cluster,
    namespaces: &[Namespace],
    rooms: &[String],
) -> Result<Vec<Finding>> {
    let prefix = &cluster.options().channel_prefix;
    let usable = namespaces.iter().filter(|nsp| nsp.channel(prefix).is_ok());
    let asked = usable.map(async |nsp| {
        let operator = Emitter::new(cluster.clone()).of(nsp.as_str()).timeout(ANSWER_WITHIN);
        Ok((nsp, operator.fetch_sockets().await?))
    });
    let inventories = try_join_all(asked).await?;
    let judged =
        inventories.iter().flat_map(|(nsp, sockets)| rooms.iter().map(|room| judge(nsp, room, sockets)));
    Ok(judged.collect())
}

fn judge(nsp: &Namespace, room: &str, sockets: &Collected<RemoteSocket>) -> Finding {
    let answers = &sockets.answers;
    let inside: Vec<&Answer<RemoteSocket>> =
        answers.iter().filter(|answer| answer.value.rooms.iter().any(|name| name == room)).collect();
    let silent = match sockets.silent.len() + sockets.unresponsive.servers() {
        0 => String::new(),
        count => format!("; {} did not answer", counted(count as u64, "server")),
    };
    if !inside.is_empty() {
        let servers: BTreeSet<&Uid> = inside.iter().map(|answer| &answer.node).collect();
        let (sockets, servers) =
            (counted(inside.len() as u64, "socket"), counted(servers.len() as u64, "server"));
        return Finding::ok("room", format!("{sockets} on {servers} in {room} of {nsp}{silent}"));
    }
    if answers.is_empty() {
        let detail = format!("no socket is in {room}, and none is connected to {nsp}{silent}");
        return Finding::warn(
            "room",
            detail,
            "see whether clients connect to this namespace, with -n for another",
        );
    }
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in answers {
        // Each socket is in a room with its own id, which does not count.
        for name in answer.value.rooms.iter().filter(|name| **name != answer.value.id) {
            *names.entry(name).or_default() += 1;
        }
    }
    let all = counted(answers.len() as u64, "socket");
    let similar: Vec<_> = names
        .iter()
        .filter(|(name, _)| is_similar(name, room))
        .take(SHOWN)
        .map(|(name, count)| format!("{name} ({})", counted(*count as u64, "socket")))
        .collect();
    let detail = format!("none of {all} of {nsp} is in {room}{silent}");
    match similar.is_empty() {
        true => Finding::warn(
            "room",
            detail,
            "see whether the servers call socket.join with this name; pgio rooms lists the rooms",
        ),
        false => Finding::warn(
            "room",
            format!("{detail}; there are rooms of a similar name: {}", similar.join(", ")),
            "names of rooms have to be equal in every letter; for Node servers the number 42 and the text \"42\" are two rooms",
        ),
    }
}

/// Whether one name may be a typing error for the other.
fn is_similar(name: &str, room: &str) -> bool {
    let (name, room) = (name.trim().to_lowercase(), room.trim().to_lowercase());
    let limit = (room.chars().count() / 4).max(1);
    name == room || (room.chars().count() > 2 && damerau_levenshtein(&name, &room) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_differ_by_a_letter_or_by_case() {
        for (name, is_so) in
            [("Lobby", true), ("lobby ", true), ("loby", true), ("staff", false), ("lob", false)]
        {
            assert_eq!(is_similar(name, "lobby"), is_so, "{name}");
        }
        assert!(!is_similar("r2", "r1"), "of two letters each is like any other");
    }
}
