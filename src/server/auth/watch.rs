//! Reads the file of the keys or tokens again when it changes.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use super::Authentication;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What tells one state of a file from the next. `None` for a file that is missing.
type Fingerprint = Option<(u64, Option<SystemTime>, u64)>;

fn fingerprint(path: &Path) -> Fingerprint {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.len(), metadata.modified().ok(), inode))
}

/// Starts the task; dropping the handle ends it. Without a file there is no task.
pub(in crate::server) fn start(authentication: Authentication) -> Option<AbortOnDropHandle<()>> {
    let path = authentication.path()?.to_owned();
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = interval(INTERVAL);
        let mut before = fingerprint(&path);
        loop {
            ticks.tick().await;
            let now = {
                let path = path.clone();
                tokio::task::spawn_blocking(move || fingerprint(&path)).await.ok().flatten()
            };
            if now == before || now.is_none() {
                continue;
            }
            before = now;
            let authentication = authentication.clone();
            // An error is logged.
            tokio::task::spawn_blocking(move || authentication.reload_and_log()).await.ok();
        }
    })))
}
