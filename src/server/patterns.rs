//! The patterns of hosted namespaces.
//!
//! socketioxide gets catch-all routes for all dynamic namespaces, and the server itself refuses the names that match
//! no pattern. With one route for each pattern, socketioxide would answer those names, since a pattern may conflict
//! with a catch-all route.

use matchit::Router;

use super::options::Hosted;
use crate::{Error, Result};

/// The routes of all dynamic namespaces. A msgpack packet may name any text, also one without a slash at its start, or
/// none. A catch-all route does not match the empty name.
pub(super) const ROUTES: [&str; 2] = ["", "{*name}"];

/// The patterns that are hosted.
pub(super) struct HostedPatterns(Router<()>);

impl HostedPatterns {
    /// # Errors
    /// [`Error::Setting`] for a pattern that is invalid, or that conflicts with another one.
    pub(super) fn new(hosted: &[Hosted]) -> Result<Self> {
        let mut router = Router::new();
        for pattern in hosted {
            let Hosted::Pattern(pattern) = pattern else { continue };
            router.insert(pattern, ()).map_err(|error| Error::Setting {
                setting: "namespaces".into(),
                reason: format!("{pattern:?} is not a valid pattern: {error}"),
            })?;
        }
        Ok(Self(router))
    }

    pub(super) fn contain(&self, nsp: &str) -> bool {
        self.0.at(nsp).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// socketioxide itself would answer any number of requests for other names, with their whole length.
    #[test]
    fn each_name_has_a_route() {
        let mut router = Router::new();
        for route in ROUTES {
            router.insert(route, ()).unwrap();
        }
        for nsp in ["", "/", "//", "/a", "/a/", "/org/7", "a", "a/b", "?", "\0", "{", "{*name}", "é"] {
            assert!(router.at(nsp).is_ok(), "{nsp:?}");
        }
    }

    #[test]
    fn a_name_belongs_to_a_pattern() {
        let hosted = ["/", "/org/{id}", "/{room}", "/files/{*path}"].map(Hosted::new);
        let patterns = HostedPatterns::new(&hosted).unwrap();
        for (nsp, is_hosted) in [
            // Hosted by name, not by a pattern.
            ("/", false),
            ("/a", true),
            ("/org/7", true),
            ("/org/7/8", false),
            ("/files/a/b", true),
            ("/other/a", false),
            ("a", false),
            ("org/7", false),
            ("", false),
        ] {
            assert_eq!(patterns.contain(nsp), is_hosted, "{nsp}");
        }
        assert!(HostedPatterns::new(&["/{a}", "/{b}"].map(Hosted::new)).is_err());
        assert!(HostedPatterns::new(&["/a{b".into()].map(Hosted::Pattern)).is_err());
    }
}
