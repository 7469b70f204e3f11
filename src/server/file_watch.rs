//! Watches files for changes, by their metadata.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

/// The polling interval of the files. A changed file is read when it has been stable for one interval (debounce).
const INTERVAL: Duration = Duration::from_secs(1);

/// Calls `reload` after each change of these files, on a thread that may block. Dropping the handle ends the watch.
pub(crate) fn watch_files(
    paths: Vec<PathBuf>,
    reload: impl Fn() + Send + Sync + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(watch(paths, Arc::new(reload))))
}

async fn watch(paths: Vec<PathBuf>, reload: Arc<impl Fn() + Send + Sync + 'static>) {
    let mut ticks = interval(INTERVAL);
    let (mut read, mut before) = (states(&paths), None);
    loop {
        ticks.tick().await;
        let now = {
            let paths = paths.clone();
            tokio::task::spawn_blocking(move || states(&paths)).await.ok().flatten()
        };
        let is_settled = now == before;
        before.clone_from(&now);
        if now.is_none() || now == read || !is_settled {
            continue;
        }
        read = now;
        let reload = reload.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || reload()).await {
            tracing::error!(%error, "cannot reload files");
        }
    }
}

/// The state of a file: if it differs, the file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState {
    length: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

/// The states of all files; `None` while one is missing, as in the middle of a replacement.
fn states(paths: &[PathBuf]) -> Option<Vec<FileState>> {
    let state = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(FileState { length: metadata.len(), modified: metadata.modified().ok(), inode })
    };
    paths.iter().map(state).collect()
}
