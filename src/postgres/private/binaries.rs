//! Finds the programs of a Postgres server.

use std::env;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The directories of packages, besides the PATH: one for each version, or one for all versions.
const DIRECTORIES: [&str; 5] = [
    "/usr/lib/postgresql",
    "/usr/pgsql-*",
    "/usr/local/pgsql",
    "/opt/homebrew/opt/postgresql@*",
    "/usr/libexec",
];

/// A directory with `initdb` and `postgres` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries(PathBuf);

impl Binaries {
    /// The programs in this directory, else in `PGIO_POSTGRES_BIN`, else on the PATH, else the newest on the machine.
    pub(super) fn find(directory: Option<&Path>) -> Result<Self> {
        let named =
            directory.map(Path::to_owned).or_else(|| env::var_os("PGIO_POSTGRES_BIN").map(PathBuf::from));
        if let Some(named) = named {
            let missing = || Error::Private(format!("{} has no initdb and postgres", named.display()));
            return complete(&named).ok_or_else(missing);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path = env::split_paths(&path).find_map(|directory| complete(&directory));
        on_path.or_else(newest_installed).ok_or_else(|| {
            Error::Private("Postgres is not installed here (on Debian: apt-get install postgresql)".into())
        })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.0
    }
}

fn complete(directory: &Path) -> Option<Binaries> {
    // The server runs in another current directory.
    let directory = std::path::absolute(directory).ok()?;
    let is_there = |program: &str| directory.join(program).is_file();
    (is_there("initdb") && is_there("postgres")).then_some(Binaries(directory))
}

fn newest_installed() -> Option<Binaries> {
    let candidates = DIRECTORIES.iter().flat_map(|place| match place.split_once('*') {
        Some((prefix, _)) => {
            let (parent, start) = prefix.rsplit_once('/').unwrap_or(("/", prefix));
            children(Path::new(parent)).into_iter().filter(|child| name(child).starts_with(start)).collect()
        }
        None => std::iter::once(PathBuf::from(place)).chain(children(Path::new(place))).collect::<Vec<_>>(),
    });
    let found = candidates
        .filter_map(|place| complete(&place.join("bin")).map(|binaries| (version(&place), binaries)));
    found.max_by_key(|(version, _)| *version).map(|(_, binaries)| binaries)
}

fn children(directory: &Path) -> Vec<PathBuf> {
    // A missing directory counts as empty.
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The number in `15`, `pgsql-16`, `postgresql@17`.
fn version(path: &Path) -> u32 {
    let digits: String =
        name(path).chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}
