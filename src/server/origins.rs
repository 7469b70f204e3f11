//! The origin check: the `Origin` header decides which pages may connect, by websocket and by polling.
//!
//! A browser sends the header with each websocket and each request of another origin. Other programs send no such
//! header, and pass.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use http::{HeaderMap, HeaderValue, header};

use super::options::CorsOrigins;
use crate::{Error, Result};

const X_FORWARDED_HOST: &str = "x-forwarded-host";

/// A pattern of origins, such as `https://*.example.com`. `*` stands for any text without a slash, `*` alone for every
/// origin.
#[derive(Debug, Clone)]
pub struct OriginPattern(GlobMatcher);

impl FromStr for OriginPattern {
    type Err = Error;

    /// # Errors
    /// [`Error::Setting`] for a text that is not a pattern, or that no origin matches.
    fn from_str(pattern: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Setting { setting: "origins".into(), reason };
        if pattern != "*" && pattern != "null" && !pattern.contains("://") {
            let reason = format!("{pattern:?} matches no origin; write it like https://app.example.com");
            return Err(wrong(reason));
        }
        let pattern = if pattern == "*" { "**" } else { pattern };
        let glob = GlobBuilder::new(&pattern.to_ascii_lowercase()).literal_separator(true).build();
        let glob = glob.map_err(|error| wrong(error.kind().to_string()))?;
        Ok(Self(glob.compile_matcher()))
    }
}

/// The rule for the `Origin` header.
#[derive(Debug, Clone)]
pub(super) enum OriginRule {
    /// No check: every page may connect.
    Any,
    /// The pages of this server's own host, and of these origins.
    SameHost(Vec<HeaderValue>),
    /// The pages of the origins that match.
    Matching(Vec<OriginPattern>),
}

impl OriginRule {
    /// Builds the rule from the options. If a token is required, every page may connect, since a page of another origin
    /// can do no more than any other program.
    pub(super) fn new(patterns: Vec<OriginPattern>, cors: &CorsOrigins, needs_token: bool) -> Self {
        match cors {
            _ if !patterns.is_empty() => Self::Matching(patterns),
            _ if needs_token => Self::Any,
            CorsOrigins::Any => Self::Any,
            CorsOrigins::These(origins) => Self::SameHost(origins.clone()),
            CorsOrigins::None => Self::SameHost(Vec::new()),
        }
    }

    /// Whether pages of every origin may connect.
    pub(super) fn is_any(&self) -> bool {
        match self {
            Self::Any => true,
            Self::SameHost(_) => false,
            Self::Matching(patterns) => patterns.iter().any(|OriginPattern(glob)| glob.glob().glob() == "**"),
        }
    }

    /// Whether a request may connect. `is_proxy` says whether its connection comes from a trusted proxy.
    pub(super) fn allows(&self, headers: &HeaderMap, is_proxy: bool) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let text = origin.to_str().ok().map(str::to_ascii_lowercase);
        match self {
            Self::Any => true,
            Self::Matching(patterns) => {
                text.is_some_and(|text| patterns.iter().any(|OriginPattern(glob)| glob.is_match(&text)))
            }
            Self::SameHost(others) => {
                others.contains(origin)
                    || text
                        .as_deref()
                        .and_then(host_of_origin)
                        .is_some_and(|host| is_host(headers, host, is_proxy))
            }
        }
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::SameHost(others) if others.is_empty() => f.write_str("same host"),
            Self::SameHost(others) => write!(f, "same host and {others:?}"),
            Self::Matching(patterns) => {
                let patterns: Vec<_> =
                    patterns.iter().map(|OriginPattern(glob)| glob.glob().glob()).collect();
                write!(f, "{patterns:?}")
            }
        }
    }
}

/// Whether a host is the one that the request is for. Ports may differ, since proxies change them.
fn is_host(headers: &HeaderMap, host: &str, is_proxy: bool) -> bool {
    let forwarded = is_proxy.then(|| headers.get(X_FORWARDED_HOST)).flatten();
    let asked = forwarded.or_else(|| headers.get(header::HOST));
    let asked = asked.and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase);
    asked.is_some_and(|asked| without_port(asked.trim()) == host)
}

fn host_of_origin(origin: &str) -> Option<&str> {
    Some(without_port(origin.split_once("://")?.1))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // Excludes the last colon of an IPv6 address without a port.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.is_empty() => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn allows(rule: &OriginRule, origin: &str, host: &str) -> bool {
        rule.allows(&headers(&[("origin", origin), ("host", host)]), false)
    }

    #[test]
    fn pages_of_the_same_host_pass_by_default() {
        let rule = OriginRule::new(Vec::new(), &CorsOrigins::None, false);
        assert_eq!(rule.to_string(), "same host");
        for (origin, host) in [
            ("https://a.example", "a.example"),
            ("http://A.example:8080", "a.example:3000"),
            ("http://[::1]:8080", "[::1]"),
        ] {
            assert!(allows(&rule, origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://b.example", "a.example"),
            ("https://a.example.evil.example", "a.example"),
            ("null", "a.example"),
            ("file://", "a.example"),
        ] {
            assert!(!allows(&rule, origin, host), "{origin} {host}");
        }
        assert!(rule.allows(&headers(&[("host", "a.example")]), false));
        let forwarded =
            headers(&[("origin", "https://a.example"), ("host", "inner"), (X_FORWARDED_HOST, "a.example")]);
        assert!(rule.allows(&forwarded, true) && !rule.allows(&forwarded, false));
    }

    #[test]
    fn configured_origins_override_the_default() {
        let cors = CorsOrigins::parse(&["https://c.example"]).unwrap();
        let rule = OriginRule::new(Vec::new(), &cors, false);
        assert!(
            allows(&rule, "https://c.example", "a.example")
                && allows(&rule, "https://a.example", "a.example")
        );
        assert!(!allows(&rule, "https://d.example", "a.example"));
        assert!(allows(&OriginRule::new(Vec::new(), &cors, true), "https://d.example", "a.example"));
        assert!(allows(
            &OriginRule::new(Vec::new(), &CorsOrigins::Any, false),
            "https://d.example",
            "a.example"
        ));
        let rule = OriginRule::new(vec!["https://*.example.com".parse().unwrap()], &cors, true);
        assert!(allows(&rule, "https://App.example.com", "a.example"));
        for origin in ["https://evil.com/.example.com", "http://app.example.com", "https://c.example"] {
            assert!(!allows(&rule, origin, "a.example"), "{origin}");
        }
        let every = OriginRule::new(vec!["*".parse().unwrap()], &CorsOrigins::None, false);
        assert!(allows(&every, "https://d.example", "a.example") && allows(&every, "null", "a.example"));
        for bad in ["[a", "example.com", "https://["] {
            assert!(bad.parse::<OriginPattern>().is_err(), "{bad}");
        }
    }
}
