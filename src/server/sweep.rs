//! Namespaces of a pattern go when nobody is in them any more: anyone can make one by asking for it.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use super::{ClusterIo, Hosted};

/// How long a namespace is empty at least before it goes, so that a client that comes back finds it.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// Sweeps for as long as this is kept. Namespaces that are hosted by name stay.
pub(super) fn start(io: ClusterIo, hosted: &[Hosted]) -> AbortOnDropHandle<()> {
    let names = hosted.iter().filter_map(|hosted| match hosted {
        Hosted::One(nsp) => Some(nsp.to_string()),
        Hosted::Pattern(_) => None,
    });
    AbortOnDropHandle::new(tokio::spawn(run(io, names.collect())))
}

async fn run(io: ClusterIo, stay: HashSet<String>) {
    let mut ticks = interval(PAUSE);
    let mut empty_before = HashSet::new();
    loop {
        ticks.tick().await;
        let mut empty = HashSet::new();
        for nsp in io.nsps() {
            let path = nsp.ns_path().to_owned();
            if stay.contains(&path) || !nsp.sockets().is_empty() {
                continue;
            }
            if empty_before.contains(&path) {
                tracing::debug!(nsp = path, "an empty namespace goes");
                io.delete_ns(&path);
            } else {
                empty.insert(path);
            }
        }
        empty_before = empty;
    }
}
