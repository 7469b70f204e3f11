//! How other commands find the private server that runs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid};
use serde::{Deserialize, Serialize};

use super::files::DataDirectory;
use crate::{Error, Result};

const FILE: &str = "running.json";

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Running {
    url: String,
    /// The process that owns the server; when it is gone, the server is.
    owner: u32,
}

/// Where a private server keeps what it keeps: `PGIO_STATE_DIR`, or `pgio` in `$XDG_STATE_HOME` or `~/.local/state`. For
/// root a directory that the server's user can reach: `/var/lib/pgio`.
pub fn state_directory() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = set("PGIO_STATE_DIR") {
        return Some(directory);
    }
    if Uid::effective().is_root() {
        return Some(PathBuf::from("/var/lib/pgio"));
    }
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(state.join("pgio"))
}

/// The URL of this user's private server, if one runs: one that was started in `postgres` below the
/// [`state_directory`].
pub fn running() -> Option<String> {
    let text = fs::read(state_directory()?.join("postgres").join(FILE)).ok()?;
    let Running { url, owner } = serde_json::from_slice(&text).ok()?;
    let owner = Pid::from_raw(i32::try_from(owner).ok()?);
    // Somebody else's process is one, too.
    matches!(kill(owner, None), Ok(()) | Err(Errno::EPERM)).then_some(url)
}

/// Says that a server runs.
pub(super) fn announce(data: &DataDirectory, url: &str) -> Result<()> {
    let path = data.root().join(FILE);
    let running = Running { url: url.to_owned(), owner: std::process::id() };
    let text = serde_json::to_vec(&running).map_err(|e| Error::Private(e.to_string()))?;
    // In place at once, so that nobody reads half of it.
    let draft = path.with_extension("draft");
    let written = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft);
    written
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&draft, &path))
        .map_err(|e| Error::Private(format!("{}: {e}", path.display())))
}

/// Takes that back.
pub(super) fn withdraw(data: &DataDirectory) {
    let path = data.root().join(FILE);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(%error, path = %path.display(), "a stale file stays");
    }
}
