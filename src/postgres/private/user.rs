//! As whom the server runs. Postgres refuses to run as root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

use crate::{Error, Result};

/// Users to step down to from root, in this order.
const INSTEAD_OF_ROOT: [&str; 2] = ["postgres", "nobody"];

/// The user that owns the data and runs the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerUser {
    /// Whoever runs this program.
    Myself,
    /// Somebody else, because this program runs as root.
    Other { uid: Uid, gid: Gid },
}

impl ServerUser {
    pub(super) fn choose() -> Result<Self> {
        if !Uid::effective().is_root() {
            return Ok(Self::Myself);
        }
        let other = INSTEAD_OF_ROOT.iter().find_map(|name| User::from_name(name).ok().flatten());
        match other {
            Some(User { uid, gid, .. }) => Ok(Self::Other { uid, gid }),
            None => Err(Error::Private(format!(
                "Postgres refuses to run as root, and there is no user {} to run it",
                INSTEAD_OF_ROOT.join(" or ")
            ))),
        }
    }

    /// Makes a directory or file theirs.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        match self {
            Self::Myself => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
                .map_err(|e| Error::Private(format!("{}: {e}", path.display()))),
        }
    }

    /// Makes a command run as them, with nothing of root left.
    pub(super) fn run(&self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }
}
