//! The state file of a persistent directory, by which other commands find the running server.

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The file in a persistent directory that holds a [`State`].
const STATE_FILE: &str = "server.json";
/// The file whose lock shows that the directory is in use.
const LOCK_FILE: &str = "lock";

/// The state directory of private servers: `PGIO_STATE_DIR`, or `pgio` in `$XDG_STATE_HOME` or `~/.local/state`. For root
/// it is `/var/lib/pgio`, which the server's user can reach.
pub fn state_directory() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = set("PGIO_STATE_DIR") {
        return Some(directory);
    }
    if Uid::effective().is_root() {
        return Some(PathBuf::from("/var/lib/pgio"));
    }
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(state.join("pgio"))
}

/// The URL of this user's private server in `postgres` below the [`state_directory`], if it runs.
pub fn running() -> Option<String> {
    running_in(&state_directory()?.join("postgres"))
}

/// The URL of the private server in a persistent directory, if it runs.
pub fn running_in(directory: &Path) -> Option<String> {
    let state = State::read(directory).ok()??;
    state.live_owner()?;
    // The owner's pid may be reused, but its lock is released.
    match File::open(directory.join(LOCK_FILE)).ok()?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(url(&state.password, state.port)),
        _ => None,
    }
}

/// The URL of a private server.
pub(super) fn url(password: &str, port: u16) -> String {
    format!("postgres://pgio:{password}@127.0.0.1:{port}/pgio")
}

/// The state that is kept in a persistent directory.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub password: String,
    /// The last port; 0 before the first start.
    pub port: u16,
    /// The process that runs the server; none while it starts and after an orderly stop.
    pub owner: Option<u32>,
}

impl State {
    /// The state in a persistent directory, if it was ever used.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(STATE_FILE);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(&path, &error)),
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| Error::file(&path, &error)),
        }
    }

    /// Replaces the state, durably and atomically.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(STATE_FILE);
        let draft = path.with_extension("draft");
        let replace = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            serde_json::to_writer(&mut file, self)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        replace().map_err(|error| Error::file(&path, &error))
    }

    /// The owner's process id, if it is alive.
    pub(super) fn live_owner(&self) -> Option<u32> {
        let owner = self.owner?;
        let pid = Pid::from_raw(i32::try_from(owner).ok()?);
        matches!(kill(pid, None), Ok(()) | Err(Errno::EPERM)).then_some(owner)
    }
}

/// Opens the lock of a persistent directory, without taking it.
pub(super) fn open_lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
    file.map_err(|error| Error::file(&path, &error))
}
