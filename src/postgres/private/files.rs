//! The directory of a private server: `data`, `log`, `password`, and the lock that says whose it is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use super::binaries::Binaries;
use super::user::ServerUser;
use crate::{Error, Result};

/// The superuser, and the name of the database.
pub(super) const SUPERUSER: &str = "pgio";

/// A directory for one server, held by one owner.
#[derive(Debug, Clone)]
pub(super) struct DataDirectory {
    root: PathBuf,
    password: String,
    temporary: bool,
    _lock: Arc<Flock<File>>,
}

impl DataDirectory {
    /// Makes it, or takes over what an earlier owner left.
    pub(super) fn prepare(persistent: Option<&Path>, binaries: &Binaries, user: &ServerUser) -> Result<Self> {
        let temporary = persistent.is_none();
        let root = persistent.map_or_else(temporary_name, Path::to_owned);
        let failed = |e: std::io::Error| Error::Private(format!("{}: {e}", root.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(failed)?;
        user.own(&root)?;
        let lock = lock(&root)?;

        let password_file = root.join("password");
        if !root.join("data/PG_VERSION").exists() {
            // What a start left that was interrupted is of no use.
            remove_if_there(&root.join("data")).map_err(failed)?;
            let password = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
            write_private(&password_file, &password).map_err(failed)?;
            user.own(&password_file)?;
            init(&root, binaries, user)?;
        }
        let password = fs::read_to_string(&password_file).map_err(failed)?;
        Ok(Self { root, password, temporary, _lock: Arc::new(lock) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Written by the watchdog when the server has ended.
    pub(super) fn ended_file(&self) -> PathBuf {
        self.root.join("ended")
    }

    pub(super) fn forget_last_end(&self) -> Result<()> {
        match fs::remove_file(self.ended_file()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::Private(e.to_string())),
            _ => Ok(()),
        }
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// While this file is there, the watchdog leaves a temporary directory alone.
    pub(super) fn keep(&self, keep: bool) -> Result<()> {
        let marker = self.root.join("keep");
        let done = if keep { fs::write(&marker, "") } else { fs::remove_file(&marker) };
        done.map_err(|e| Error::Private(format!("{}: {e}", marker.display())))
    }

    /// Who may connect: what was asked for, then everybody on this machine with a password.
    pub(super) fn write_access(&self, lines: &[String]) -> Result<()> {
        let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        text += "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";
        text += "host replication all 127.0.0.1/32 scram-sha-256\n";
        let file = self.cluster().join("pg_hba.conf");
        fs::write(&file, text).map_err(|e| Error::Private(format!("{}: {e}", file.display())))
    }
}

fn temporary_name() -> PathBuf {
    std::env::temp_dir().join(format!("pgio-{:016x}", fastrand::u64(..)))
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

/// The lock goes with the process that holds it, however that ends.
fn lock(root: &Path) -> Result<Flock<File>> {
    let path = root.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|e| Error::Private(format!("{}: {e}", path.display())))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, _)| Error::Private(format!("{} is in use by another private Postgres", root.display())))
}

fn init(root: &Path, binaries: &Binaries, user: &ServerUser) -> Result<()> {
    let mut initdb = Command::new(binaries.program("initdb"));
    initdb
        .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--wal-segsize=1"])
        .arg(format!("--username={SUPERUSER}"))
        .arg("--pwfile")
        .arg(root.join("password"))
        .arg("--pgdata")
        .arg(root.join("data"))
        .current_dir("/")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    user.run(&mut initdb);
    let output = initdb.output().map_err(|e| Error::Private(format!("initdb: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason =
        said.lines().find(|line| line.contains("error:") || line.contains("FATAL")).unwrap_or(said.trim());
    Err(Error::Private(format!("initdb: {reason}")))
}
