//! Completes abbreviated socket ids, by the ids of connected sockets.

use std::collections::BTreeSet;
use std::time::Duration;

use super::exit::Failure;
use super::socket_inventory::{self, missing};
use crate::cluster::Collected;
use crate::{BroadcastOperator, Cluster, Emitter, Namespace, RemoteSocket};

/// The timeout for the lists of sockets of the servers.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The maximum number of candidates that an error names.
const SHOWN: usize = 5;

/// The ids of connected sockets that begin with the given texts. Sends a request only if there are texts.
///
/// # Errors
/// Returns a failure that names the first text with no matching id or with several, or an error of the cluster.
pub(super) async fn complete(
    cluster: &Cluster,
    namespaces: &[Namespace],
    given: &[String],
) -> Result<Vec<String>, Failure> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let emitter = Emitter::new(cluster.clone());
    let operators = namespaces.iter().map(|nsp| emitter.of(nsp.as_str()).timeout(ANSWER_WITHIN));
    let quick = operators.clone().map(BroadcastOperator::await_discovered_only);
    let lists = socket_inventory::lists(quick).await?;
    let ids: BTreeSet<&str> = listed_ids(&lists).collect();
    if given.iter().all(|text| ids.contains(text.as_str())) {
        return Ok(given.to_vec());
    }
    // A server that does not respond may have the socket, or another one whose id begins with the text.
    let lists = socket_inventory::lists(operators).await?;
    select(&lists, namespaces, given).map_err(|mut reason| {
        for (nsp, list) in namespaces.iter().zip(&lists) {
            if let Some(missing) = missing(nsp, list, ANSWER_WITHIN) {
                reason += &format!("; {missing}");
            }
        }
        Failure::Other(reason)
    })
}

/// The ids of listed sockets that begin with the given texts, or the reason why one is unknown or ambiguous.
fn select(
    lists: &[Collected<RemoteSocket>],
    namespaces: &[Namespace],
    given: &[String],
) -> Result<Vec<String>, String> {
    let ids: BTreeSet<&str> = listed_ids(lists).collect();
    let place: Vec<_> = namespaces.iter().map(Namespace::as_str).collect();
    let place = place.join(" and ");
    given.iter().map(|text| that_begins_with(text, &ids, &place)).collect()
}

fn listed_ids(lists: &[Collected<RemoteSocket>]) -> impl Iterator<Item = &str> {
    lists.iter().flat_map(|list| &list.answers).map(|answer| answer.value.id.as_str())
}

/// The only id that begins with the text. A whole id is unique, even if other ids begin with it.
fn that_begins_with(text: &str, ids: &BTreeSet<&str>, place: &str) -> Result<String, String> {
    if ids.contains(text) {
        return Ok(text.to_owned());
    }
    let found: Vec<&str> = ids.range(text..).take_while(|id| id.starts_with(text)).copied().collect();
    match found.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => Err(format!("no socket of {place} has an id that begins with {text}")),
        ids if ids.len() <= SHOWN => {
            Err(format!("the ids of several sockets of {place} begin with {text}: {}", ids.join(", ")))
        }
        ids => Err(format!(
            "the ids of several sockets of {place} begin with {text}: {} and {} more",
            ids[..SHOWN].join(", "),
            ids.len() - SHOWN
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_socket_may_be_meant() {
        let ids = BTreeSet::from(["-4x", "abc1", "abc2", "abd", "abd1", "b1", "b2", "b3", "b4", "b5", "b6"]);
        let found = |text| that_begins_with(text, &ids, "/");
        assert_eq!(found("abc1").as_deref(), Ok("abc1"));
        assert_eq!(found("-").as_deref(), Ok("-4x"));
        assert_eq!(found("abd").as_deref(), Ok("abd"), "a whole id");
        assert_eq!(found("abc").unwrap_err(), "the ids of several sockets of / begin with abc: abc1, abc2");
        assert!(found("b").unwrap_err().ends_with(": b1, b2, b3, b4, b5 and 1 more"));
        assert_eq!(found("zz").unwrap_err(), "no socket of / has an id that begins with zz");
    }
}
