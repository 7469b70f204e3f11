//! The hosts to try, in their order.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::raw::RawSettings;
use crate::Result;

/// The default directory of the server's socket, in Debian's libpq and most others.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// One candidate server.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::postgres) struct Host {
    pub(in crate::postgres) address: Address,
    pub(in crate::postgres) port: u16,
    pub(in crate::postgres) password: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::postgres) enum Address {
    /// The directory of a Unix-domain socket.
    Socket(PathBuf),
    /// The name for the check of the certificate, and the address if no DNS look-up is needed.
    Tcp { name: String, address: Option<IpAddr> },
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Socket(directory) => write!(f, "{}/.s.PGSQL.{}", directory.display(), self.port),
            Address::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Address::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Combines `host`, `hostaddr` and `port`: lists of equal length, or one port for all.
pub(super) fn hosts(raw: &RawSettings) -> Result<Vec<Host>> {
    let names = list(raw, "host");
    let addresses = list(raw, "hostaddr");
    let ports = list(raw, "port");
    let count = names.len().max(addresses.len()).max(1);
    for (keyword, list) in [("host", &names), ("hostaddr", &addresses)] {
        if !list.is_empty() && list.len() != count {
            return Err(raw.wrong(keyword, format!("{} entries for {count} hosts", list.len())));
        }
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(raw.wrong("port", format!("{} ports for {count} hosts", ports.len())));
    }
    (0..count)
        .map(|at| {
            let port = ports.get(if ports.len() == 1 { 0 } else { at }).copied().unwrap_or_default();
            let port = match port {
                "" => 5432,
                port => port
                    .parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| raw.wrong("port", format!("{port:?} is not a port number")))?,
            };
            let name = names.get(at).copied().unwrap_or_default();
            let address = match addresses.get(at).copied().unwrap_or_default() {
                "" => None,
                text => {
                    let wrong = |_| raw.wrong("hostaddr", format!("{text:?} is not an IP address"));
                    Some(text.parse().map_err(wrong)?)
                }
            };
            Ok(Host { address: place(name, address), port, password: None })
        })
        .collect()
}

fn place(name: &str, address: Option<IpAddr>) -> Address {
    match (name, address) {
        (name, None) if name.starts_with('/') => Address::Socket(name.into()),
        ("", Some(address)) => Address::Tcp { name: address.to_string(), address: Some(address) },
        ("", None) if Path::new(SOCKET_DIRECTORY).is_dir() => Address::Socket(SOCKET_DIRECTORY.into()),
        ("", None) => Address::Tcp { name: "localhost".into(), address: None },
        (name, address) => Address::Tcp { name: name.into(), address },
    }
}

fn list<'a>(raw: &'a RawSettings, keyword: &str) -> Vec<&'a str> {
    raw.text(keyword).map(|text| text.split(',').map(str::trim).collect()).unwrap_or_default()
}

impl Host {
    /// The name that a line of the password file must have.
    pub(super) fn name_for_password(&self) -> String {
        match &self.address {
            Address::Socket(directory) if directory == Path::new(SOCKET_DIRECTORY) => "localhost".into(),
            Address::Socket(directory) => directory.display().to_string(),
            Address::Tcp { name, .. } => name.clone(),
        }
    }
}
