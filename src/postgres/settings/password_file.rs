//! The password file: lines of `host:port:database:user:password`, of which the first match wins.

use std::path::Path;

use super::host::Host;
use super::raw::RawSettings;
use super::{Environment, tls::is_readable_by_others};
use crate::{Error, Result};

/// Looks up the password of each host. As in libpq, a missing file is no error, and a file that other users can read is not
/// used.
pub(super) fn apply(
    hosts: &mut [Host],
    raw: &RawSettings,
    dbname: &str,
    user: &str,
    environment: &Environment,
) -> Result<()> {
    let Some(path) = raw.path("passfile").or_else(|| environment.at_home(".pgpass")) else { return Ok(()) };
    let Some(lines) = read(&path)? else { return Ok(()) };
    for host in hosts {
        let wanted = [&host.name_for_password(), &host.port.to_string(), dbname, user];
        host.password = lines.lines().find_map(|line| password(line, wanted));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>> {
    let metadata = match path.metadata() {
        Ok(metadata) if metadata.is_file() => metadata,
        _ => return Ok(None),
    };
    if is_readable_by_others(&metadata) {
        let path = path.display();
        tracing::warn!(%path, hint = "chmod 600", "the password file is ignored: other users can read it");
        return Ok(None);
    }
    let unreadable = |error: std::io::Error| Error::file(path, &error);
    std::fs::read_to_string(path).map(Some).map_err(unreadable)
}

/// The password of a line, if the line matches.
fn password(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let field;
        (field, rest) = next_field(rest)?;
        if field != "*" && unescape(field) != wanted {
            return None;
        }
    }
    Some(unescape(rest)).filter(|password| !password.is_empty())
}

/// Splits at the first colon without a backslash before it.
fn next_field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = c == ':' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

fn unescape(field: &str) -> String {
    let mut chars = field.chars();
    std::iter::from_fn(|| match chars.next() {
        Some('\\') => chars.next(),
        other => other,
    })
    .collect()
}
