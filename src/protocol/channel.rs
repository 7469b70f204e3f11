//! Namespaces, and the Postgres channel of each.

use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// The longest channel name in bytes: `NAMEDATALEN` of Postgres minus one. `pg_notify` refuses a longer name, while
/// `LISTEN` silently truncates it, so that a Node server listens on a channel without messages.
pub const MAX_CHANNEL_BYTES: usize = 63;

/// The name of the [discovery channel](Channel::discovery) after the prefix. No namespace has it, since a namespace
/// begins with a slash.
const DISCOVERY: &str = "#pgio";

/// The prefix of the namespaces of loopback probes. No server serves them.
pub(crate) const PROBES: &str = "/pgio/echo/";

/// A Socket.IO namespace: `/`, `/admin`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// The namespace of that name; a missing leading slash is added, as in Node's `io.of("admin")`.
    ///
    /// ```
    /// assert_eq!(pgio::Namespace::new("admin"), pgio::Namespace::new("/admin"));
    /// assert_eq!(pgio::Namespace::new(""), pgio::Namespace::default());
    /// ```
    pub fn new(name: &str) -> Self {
        if name.starts_with('/') { Self(name.into()) } else { Self(format!("/{name}").into()) }
    }

    /// The name, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The channel of this namespace: `<prefix>#<namespace>`.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the name is longer than [`MAX_CHANNEL_BYTES`], or has a NUL character.
    pub fn channel(&self, prefix: &str) -> Result<Channel> {
        let name = format!("{prefix}#{self}");
        let refuse = |reason: String| Err(Error::Namespace { namespace: self.to_string(), reason });
        if name.contains('\0') {
            return refuse(
                "it contains a NUL character, which Postgres does not accept in a channel name".into(),
            );
        }
        if name.len() > MAX_CHANNEL_BYTES {
            let bytes = name.len();
            return refuse(format!(
                "its channel {name:?} has {bytes} bytes, and Postgres takes {MAX_CHANNEL_BYTES}"
            ));
        }
        Ok(Channel(name.into()))
    }
}

impl Default for Namespace {
    /// The main namespace, `/`.
    fn default() -> Self {
        Self("/".into())
    }
}

impl From<&str> for Namespace {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Namespace {
    fn from(name: String) -> Self {
        Self::new(&name)
    }
}

impl From<&String> for Namespace {
    fn from(name: &String) -> Self {
        Self::new(name)
    }
}

impl From<&Namespace> for Namespace {
    fn from(nsp: &Namespace) -> Self {
        nsp.clone()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The valid name of a Postgres notification channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// The discovery channel of a cluster, for the requests that ask pgio nodes for their namespaces. It belongs to no
    /// namespace, so no Node server listens to it.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the prefix is too long, or has a NUL character.
    #[cfg(feature = "adapter")]
    pub(crate) fn discovery(prefix: &str) -> Result<Self> {
        let nsp = Namespace::default().channel(prefix)?;
        let name = format!("{prefix}{DISCOVERY}");
        match name.len() > MAX_CHANNEL_BYTES {
            true => Err(Error::Namespace {
                namespace: nsp.to_string(),
                reason: format!("no room for {DISCOVERY} in a channel name of {MAX_CHANNEL_BYTES} bytes"),
            }),
            false => Ok(Self(name.into())),
        }
    }

    /// Whether the channel is internal to pgio: it belongs to no namespace that a server serves.
    pub(crate) fn is_internal(&self) -> bool {
        is_internal(&self.0)
    }

    /// The name, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace of this channel. `None` if the channel does not have that prefix.
    pub fn namespace(&self, prefix: &str) -> Option<Namespace> {
        self.0.strip_prefix(prefix)?.strip_prefix('#').map(Namespace::new)
    }
}

/// Whether a channel of that name is internal to pgio: it belongs to no namespace that a server serves.
pub(crate) fn is_internal(channel: &str) -> bool {
    channel.ends_with(DISCOVERY) || channel.contains(&format!("#{PROBES}"))
}

impl std::borrow::Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(all(test, feature = "adapter"))]
mod tests {
    use super::*;

    #[test]
    fn the_discovery_channel_is_that_of_no_namespace() {
        let discovery = Channel::discovery("socket.io").unwrap();
        assert_eq!(discovery.as_str(), "socket.io#pgio");
        for name in ["pgio", "/pgio", "", "#pgio", "/x#pgio"] {
            assert_ne!(Namespace::new(name).channel("socket.io").unwrap(), discovery, "{name}");
        }
        assert!(
            discovery.is_internal() && !Namespace::new("pgio").channel("socket.io").unwrap().is_internal()
        );
        assert!(Channel::discovery(&"p".repeat(59)).is_err());
    }
}
