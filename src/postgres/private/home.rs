//! The directories of a private server: temporary or persistent.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::account::Account;
use super::state::{State, open_lock};
use crate::{Error, Result};

/// How long a new owner waits for a server to stop whose owner was killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The directory of a private server.
#[derive(Debug)]
pub(super) enum Home {
    /// The watchdog creates and removes it.
    Temporary { cluster: PathBuf },
    /// `directory` belongs to this user, and holds the lock, the state and `cluster`, which belongs to the server's user.
    Persistent { directory: PathBuf, cluster: PathBuf, lock: File },
}

impl Home {
    /// A new name in the system's directory for temporary files.
    pub(super) fn temporary() -> Result<Self> {
        let name = format!("pgio-{}", super::random_hex::<8>()?);
        Ok(Self::Temporary { cluster: std::env::temp_dir().join(name) })
    }

    /// Creates the directory if needed, and locks it.
    pub(super) async fn persistent(directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory).map_err(|error| Error::file(directory, &error))?;
        let cluster = directory.join("cluster");
        let account = Account::choose(&cluster)?;
        create_traversable(&directory, account.is_other())
            .map_err(|error| Error::file(&directory, &error))?;
        let lock = lock(&directory).await?;
        match DirBuilder::new().mode(0o700).create(&cluster) {
            Ok(()) => account.give(&cluster).map_err(|error| Error::file(&cluster, &error))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file(&cluster, &error)),
        }
        Ok(Self::Persistent { directory, cluster, lock })
    }

    /// The directory that belongs to the server's user.
    pub(super) fn cluster(&self) -> &Path {
        match self {
            Self::Temporary { cluster } | Self::Persistent { cluster, .. } => cluster,
        }
    }

    /// Postgres' data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.cluster().join("data")
    }

    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary { .. })
    }

    /// The lock in a form that a child process can keep.
    pub(super) fn lock_for_child(&self) -> Result<Stdio> {
        match self {
            Self::Temporary { .. } => Ok(Stdio::null()),
            Self::Persistent { directory, lock, .. } => {
                lock.try_clone().map(Stdio::from).map_err(|error| Error::file(directory, &error))
            }
        }
    }

    /// The state that an earlier owner has saved.
    pub(super) fn state(&self) -> Result<Option<State>> {
        match self {
            Self::Temporary { .. } => Ok(None),
            Self::Persistent { directory, .. } => State::read(directory),
        }
    }

    /// Saves the state for other processes and for the next start.
    pub(super) fn save_state(&self, password: &str, port: u16, owner: Option<u32>) -> Result<()> {
        match self {
            Self::Temporary { .. } => Ok(()),
            Self::Persistent { directory, .. } => {
                State { password: password.to_owned(), port, owner }.write(directory)
            }
        }
    }
}

/// Creates a directory and its missing parents. If the server runs as another user, that user needs to traverse them, but
/// not to read them, whatever the umask is. A directory that exists is changed only if it holds an earlier private server.
fn create_traversable(directory: &Path, for_other: bool) -> io::Result<()> {
    let missing: Vec<_> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    DirBuilder::new().recursive(true).mode(if for_other { 0o711 } else { 0o700 }).create(directory)?;
    if !for_other {
        return Ok(());
    }
    for created in missing {
        fs::set_permissions(created, Permissions::from_mode(0o711))?;
    }
    let mode = fs::metadata(directory)?.permissions().mode();
    if mode & 0o001 == 0 && directory.join("cluster").exists() {
        fs::set_permissions(directory, Permissions::from_mode(mode | 0o001))?;
    }
    Ok(())
}

/// Takes the lock. Waits for a server without an owner, since its watchdog is stopping it.
async fn lock(directory: &Path) -> Result<File> {
    let lock = open_lock(directory)?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(Error::file(directory, &error)),
            Err(TryLockError::WouldBlock) => {}
        }
        if let Some(owner) = State::read(directory)?.and_then(|state| state.live_owner()) {
            return Err(Error::Private(format!("{} is in use by process {owner}", directory.display())));
        }
        if Instant::now() > deadline {
            return Err(Error::Private(format!("{} is still in use", directory.display())));
        }
        sleep(POLL_INTERVAL).await;
    }
}
