//! Completes the senders of `tail --uid`: the uids of live servers, by their first characters.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::Namespace;
use crate::cli::exit::Failure;
use crate::cluster::Cluster;
use crate::protocol::Uid;

/// The timeout for answers to an initial heartbeat. Servers answer at once.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// The length of a complete uid. The server with this uid need not be live yet.
const WHOLE: usize = 16;

/// Completes the given uids by those of the live servers. Sends a request only if a uid is incomplete.
///
/// # Errors
/// Returns a failure that names the first uid that matches no live server or several processes, or an error of the
/// cluster.
pub(super) async fn complete(
    cluster: &Cluster,
    namespaces: &[Namespace],
    given: &[String],
) -> Result<Vec<String>, Failure> {
    let is_whole = |uid: &String| uid.len() >= WHOLE || Uid::from(uid.as_str()).is_emitter();
    if given.iter().all(is_whole) {
        return Ok(given.to_vec());
    }
    let asked = namespaces.iter().map(async |nsp| cluster.nodes(nsp, ANSWER_WITHIN, usize::MAX).await);
    let nodes = try_join_all(asked).await.map(|nodes| nodes.into_iter().flatten().map(|node| node.uid))?;
    let live: Vec<Uid> = nodes.collect();
    let mut senders = Vec::new();
    for uid in given {
        match is_whole(uid) {
            true => senders.push(uid.clone()),
            false => senders.extend(that_begin_with(uid, &live).map_err(Failure::Other)?),
        }
    }
    Ok(senders)
}

/// The uids that begin with the prefix. All are uids of one process, which has another uid in each namespace.
fn that_begin_with(prefix: &str, live: &[Uid]) -> Result<BTreeSet<String>, String> {
    let found: BTreeSet<&Uid> = live.iter().filter(|uid| uid.as_str().starts_with(prefix)).collect();
    let processes: BTreeSet<&str> = found.iter().map(|uid| process_of(uid)).collect();
    match processes.len() {
        0 => Err(format!("no live server has a uid that begins with {prefix}")),
        1 => Ok(found.into_iter().map(Uid::to_string).collect()),
        _ => {
            let uids: Vec<_> = found.iter().map(|uid| uid.as_str()).collect();
            Err(format!("the uids of several servers begin with {prefix}: {}", uids.join(", ")))
        }
    }
}

/// The prefix that all uids of a process share. The uids of a Node server are unrelated.
fn process_of(uid: &Uid) -> &str {
    match uid.instance() {
        Some(_) => uid.as_str().get(..10).unwrap_or(uid.as_str()),
        None => uid.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_that_of_one_process() {
        let live: Vec<Uid> =
            ["6959033aaa000001", "6959033aaa000002", "7059033aaa000001", "70"].map(Uid::from).to_vec();
        let found = |prefix| that_begin_with(prefix, &live).map(|uids| uids.len());
        assert_eq!(found("6959"), Ok(2));
        assert_eq!(found("6959033aaa000002"), Ok(1));
        assert!(found("70").unwrap_err().ends_with(": 70, 7059033aaa000001"));
        assert_eq!(found("8").unwrap_err(), "no live server has a uid that begins with 8");
    }
}
