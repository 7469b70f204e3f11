//! Connection strings of the form `postgres://user:password@host:port,host:port/database?setting=value`.

use percent_encoding::percent_decode_str;

use super::raw::{RawSettings, is_plain, unknown};
use crate::{Error, Result};

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Whether the text looks like a URL.
pub(super) fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// Parses it. An error never quotes a part that may contain a password.
pub(super) fn parse(text: &str) -> Result<RawSettings> {
    let Some(rest) = SCHEMES.iter().find_map(|scheme| text.trim().strip_prefix(scheme)) else {
        return Err(malformed("it has to begin with postgres:// or postgresql://"));
    };
    let mut raw = RawSettings::default();
    // In libpq, the user and password extend up to an @ before the first slash.
    let has_credentials = rest.split('/').next().is_some_and(|head| head.contains('@'));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.contains('@') || has_credentials != authority.contains('@') {
        return Err(malformed("a password with / or ? in it must be percent-encoded"));
    }
    let (user_and_password, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user_and_password.split_once(':').unwrap_or((user_and_password, ""));
    set(&mut raw, "user", user)?;
    set(&mut raw, "password", password)?;
    set(&mut raw, "dbname", database)?;
    set_hosts(&mut raw, hosts)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            // As in JDBC, which libpq accepts too.
            Some(("ssl", "true")) => raw.set("sslmode", "require".into())?,
            Some((keyword, value)) => raw.set(&decode(keyword)?, decode(value)?)?,
            // Any other text may be part of a password.
            None if is_plain(pair) => return Err(malformed(&format!("{pair:?} has no value"))),
            None => return Err(malformed("a setting after the ? has no value")),
        }
    }
    Ok(raw)
}

fn set_hosts(raw: &mut RawSettings, hosts: &str) -> Result<()> {
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(bracketed) => {
                let (address, rest) =
                    bracketed.split_once(']').ok_or_else(|| malformed("a [ has no ] after the address"))?;
                (address, rest.strip_prefix(':').unwrap_or(rest))
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decode(name)?);
        ports.push(port.to_owned());
    }
    if names.iter().any(|name| !name.is_empty()) {
        raw.set("host", names.join(","))?;
    }
    if ports.iter().any(|port| !port.is_empty()) {
        raw.set("port", ports.join(","))?;
    }
    Ok(())
}

fn set(raw: &mut RawSettings, keyword: &str, encoded: &str) -> Result<()> {
    if encoded.is_empty() { Ok(()) } else { raw.set(keyword, decode(encoded)?) }
}

fn decode(encoded: &str) -> Result<String> {
    let text = percent_decode_str(encoded).decode_utf8();
    let text = text.map_err(|_| malformed("a percent-encoded part is not UTF-8"))?;
    if text.contains('\0') { Err(malformed("it holds a NUL character")) } else { Ok(text.into_owned()) }
}

fn malformed(reason: &str) -> Error {
    unknown("the database URL", reason)
}
