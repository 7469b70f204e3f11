//! Garbage collection of namespaces that a pattern created: any client can create one, so an empty one is deleted.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use super::Hosted;
use super::shared_io::SharedIo;

/// The time for which a namespace must be empty before it is deleted, so that a client that reconnects finds it.
pub(super) const EMPTY_FOR: Duration = Duration::from_secs(10);

/// Starts the task; dropping the handle ends it. Namespaces that are hosted by name are never deleted.
pub(super) fn start(io: SharedIo, hosted: &[Hosted]) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(run(io, hosted_by_name(hosted))))
}

/// The namespaces that exist from the start.
pub(super) fn hosted_by_name(hosted: &[Hosted]) -> HashSet<String> {
    hosted.iter().filter_map(Hosted::name).map(ToString::to_string).collect()
}

async fn run(io: SharedIo, permanent: HashSet<String>) {
    let mut ticks = interval(EMPTY_FOR);
    let mut empty_before = HashSet::new();
    loop {
        ticks.tick().await;
        let Some(io) = io.get() else { return };
        let mut empty = HashSet::new();
        for nsp in io.nsps() {
            let path = nsp.ns_path().to_owned();
            if permanent.contains(&path) || !nsp.sockets().is_empty() {
                continue;
            }
            if empty_before.contains(&path) {
                tracing::debug!(nsp = path, "deleting an empty namespace");
                io.delete_ns(&path);
            } else {
                empty.insert(path);
            }
        }
        empty_before = empty;
    }
}
