//! The connection service file: named groups of settings.

use std::path::{Path, PathBuf};

use super::Environment;
use super::raw::{RawSettings, unknown};
use crate::{Error, Result};

/// Debian's directory of the system-wide file, the default of `PGSYSCONFDIR`.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// Fills missing settings from the service, if one is named.
pub(super) fn apply(raw: &mut RawSettings, environment: &Environment) -> Result<()> {
    let (name, origin) = match (raw.text("service"), environment.variable("PGSERVICE")) {
        (Some(name), _) => (name.to_owned(), "service"),
        (None, Some(name)) => (name.to_owned(), "PGSERVICE"),
        (None, None) => return Ok(()),
    };
    let own = environment.variable("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| environment.at_home(".pg_service.conf"));
    let system = environment.variable("PGSYSCONFDIR").unwrap_or(SYSTEM_DIRECTORY);
    let system = Path::new(system).join("pg_service.conf");
    for path in own.iter().chain([&system]) {
        match std::fs::read_to_string(path) {
            Ok(text) if read(&text, &name, path, raw)? => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file(path, &error)),
        }
    }
    let places: Vec<_> = own.iter().chain([&system]).map(|path| path.display().to_string()).collect();
    Err(unknown(origin, &format!("no service {name:?} in {}", places.join(" or "))))
}

/// Sets the settings of the service. Returns whether the text contains the service.
fn read(text: &str, service: &str, path: &Path, raw: &mut RawSettings) -> Result<bool> {
    let mut found = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let wrong = |reason: &str| Error::File {
            path: path.to_owned(),
            reason: format!("line {}: {reason}", number + 1),
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if found {
                break;
            }
            found = name == service;
        } else if found {
            let (keyword, value) = line.split_once('=').ok_or_else(|| wrong("not keyword=value"))?;
            let (keyword, value) = (keyword.trim(), value.trim());
            if keyword == "service" {
                return Err(wrong("a service cannot name another one"));
            }
            raw.set_default(keyword, value, format!("{keyword} in service {service:?}"))
                .map_err(|_| wrong(&format!("no such setting: {keyword}")))?;
        }
    }
    Ok(found)
}
