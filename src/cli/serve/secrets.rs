//! Warns of secrets that other users of the machine can read.

use std::ffi::OsString;
use std::path::Path;

/// Warns if the database URL in the arguments contains a password, since every user of the machine can see the
/// arguments.
pub(super) fn warn_of_arguments() {
    if has_password(std::env::args_os()) {
        tracing::warn!(
            "the password in --database-url is visible in the process list; use DATABASE_URL or ~/.pgpass"
        );
    }
}

fn has_password(args: impl Iterator<Item = OsString>) -> bool {
    const FLAG: &str = "--database-url";
    let mut is_next = false;
    for arg in args {
        let arg = arg.to_string_lossy();
        let url = match arg.strip_prefix(FLAG) {
            _ if is_next => Some(&*arg),
            Some("") => None,
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        if url.is_some_and(is_secret) {
            return true;
        }
        is_next = !is_next && arg == FLAG;
    }
    false
}

/// Whether a URL, or a text of keywords, contains a password.
fn is_secret(url: &str) -> bool {
    let authority = url.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or(rest));
    let user = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    let password = user.and_then(|user| user.split_once(':')).map_or("", |(_, password)| password);
    !password.is_empty() || url.split(['?', '&', ' ']).any(|pair| pair.starts_with("password="))
}

/// Warns if other users may read a file with a secret. As in Postgres, the group of a file of root may read it.
#[cfg(unix)]
pub(super) fn warn_of_file(path: &Path) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    // If the file cannot be read, another place reports the error. The permissions of a pipe, such as bash's <(...), do
    // not matter.
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let mode = metadata.permissions().mode();
    if metadata.is_file() && is_exposed(metadata.uid(), mode) {
        let mode = format!("{:o}", mode & 0o777);
        let hint = if metadata.uid() == ROOT { "chmod 640" } else { "chmod 600" };
        tracing::warn!(path = %path.display(), mode, hint, "other users may access this file, which holds a secret");
    }
}

#[cfg(unix)]
const ROOT: u32 = 0;

/// Whether users other than the owner may access the file. The group may read a file of root.
#[cfg(unix)]
fn is_exposed(owner: u32, mode: u32) -> bool {
    let others = if owner == ROOT { 0o037 } else { 0o077 };
    mode & others != 0
}

#[cfg(not(unix))]
pub(super) fn warn_of_file(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packages install keys as root:pgio with mode 640.
    #[cfg(unix)]
    #[test]
    fn the_group_of_root_may_read_a_secret() {
        for (owner, mode, is_found) in
            [(0, 0o640, false), (0, 0o644, true), (0, 0o660, true), (1000, 0o600, false), (1000, 0o640, true)]
        {
            assert_eq!(is_exposed(owner, mode), is_found, "{owner} {mode:o}");
        }
    }

    #[test]
    fn a_password_in_the_arguments_is_found() {
        let of = |args: &[&str]| has_password(args.iter().map(OsString::from));
        for args in [
            &["pgio", "--database-url", "postgres://a:b@c/d"][..],
            &["pgio", "serve", "--database-url=postgres://a:b@c"],
            &["pgio", "--database-url", "host=c password=b"],
            &["pgio", "--database-url", "postgres://c/d?user=a&password=b"],
        ] {
            assert!(of(args), "{args:?}");
        }
        for args in [
            &["pgio", "--database-url", "postgres://a@c:5432/d?x=://a:b@"][..],
            &["pgio", "--database-url", "postgres://c:5432"],
            &["pgio", "emit", "postgres://a:b@c"],
            &["pgio", "--database-url"],
        ] {
            assert!(!of(args), "{args:?}");
        }
    }
}
