//! The user that the private server runs as: the current user, or an unprivileged user if that is root.

use std::env;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User};

use crate::{Error, Result};

/// The users that run Postgres instead of root, which Postgres refuses. The first existing one is used.
const INSTEAD_OF_ROOT: [&str; 2] = ["postgres", "nobody"];

/// The environment variables that the server inherits. Others may hold secrets, or settings for clients.
const ENVIRONMENT: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "TZ"];

/// The server's user.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// User and group to switch to; `None` if this process is not root.
    other: Option<(u32, u32)>,
}

impl Account {
    /// The owner of an existing `directory`, else the default user.
    pub(super) fn choose(directory: &Path) -> Result<Self> {
        if !Uid::effective().is_root() {
            return Ok(Self { other: None });
        }
        if let Ok(metadata) = directory.metadata()
            && metadata.uid() != 0
        {
            return Ok(Self { other: Some((metadata.uid(), metadata.gid())) });
        }
        let user = INSTEAD_OF_ROOT.iter().find_map(|name| User::from_name(name).ok().flatten());
        let user = user.ok_or_else(|| {
            let names = INSTEAD_OF_ROOT.join(" or ");
            Error::Private(format!("Postgres refuses to run as root, and no user {names} exists to run it"))
        })?;
        Ok(Self { other: Some((user.uid.as_raw(), user.gid.as_raw())) })
    }

    /// Whether the server runs as another user.
    pub(super) fn is_other(&self) -> bool {
        self.other.is_some()
    }

    /// Gives a directory of ours to the server's user.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match self.other {
            Some((user, group)) => chown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }

    /// A command that runs as the server's user, in a clean environment.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").current_dir("/");
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        if let Some((user, group)) = self.other {
            // This also drops the supplementary groups.
            command.uid(user).gid(group);
        }
        command
    }

    /// Writes a file for the server, as its user: root would follow a symbolic link that this user has placed there.
    pub(super) fn write(&self, path: &Path, contents: &str) -> Result<()> {
        let fail = |error: io::Error| Error::file(path, &error);
        let mut child = self
            .command("sh")
            .args(["-c", r#"umask 077 && rm -f "$1" && cat >"$1""#, "sh"])
            .arg(path)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(contents.as_bytes()));
        let output = child.wait_with_output().map_err(fail)?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::File { path: path.into(), reason });
        }
        written.map_err(fail)
    }
}
