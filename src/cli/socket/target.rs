//! Parses the URL of a server.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The default path of Socket.IO servers.
const DEFAULT_PATH: &str = "/socket.io/";

/// The characters that are escaped in a session id. Servers compare ids without decoding them, so only the necessary
/// characters are escaped.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The URL of a server: `http://host:port/path`. Its text omits the user, the password and the query.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cli) struct Target {
    is_tls: bool,
    /// The host, without the brackets of IPv6.
    host: String,
    port: u16,
    /// The path, which ends in a slash.
    path: String,
    query: Option<String>,
    authorization: Option<String>,
}

impl Target {
    /// Parses a URL; `http://` is optional. An error does not quote the URL, which may contain a password.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|error| format!("the URL of the server: {error}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err("the URL of the server has to begin with http, https, ws or wss".into()),
        };
        let authority = uri.authority().ok_or("the URL of the server names no host")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("the URL of the server names no host".into());
        }
        let has_port = !authority.as_str().ends_with(authority.host());
        let port = match authority.port_u16() {
            Some(0) => return Err("the URL of the server has port 0".into()),
            Some(port) => port,
            None if has_port => return Err("the URL of the server has no valid port".into()),
            None if is_tls => 443,
            None => 80,
        };
        let path = match uri.path().trim_end_matches('/') {
            "" => DEFAULT_PATH.to_owned(),
            path => format!("{path}/"),
        };
        let query = uri.query().filter(|query| !query.is_empty()).map(str::to_owned);
        let userinfo = authority.as_str().rsplit_once('@').map(|(userinfo, _)| userinfo);
        let authorization = userinfo.map(|userinfo| {
            let plain: Vec<u8> = percent_decode_str(userinfo).collect();
            format!("Basic {}", STANDARD.encode(plain))
        });
        Ok(Self { is_tls, host, port, path, query, authorization })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The `Authorization` header, if the URL names a user.
    pub(super) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// The origin of a page of the server: `http://host:port`.
    pub(in crate::cli) fn origin(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// The `Host` header.
    pub(in crate::cli) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The path and query of an Engine.IO request.
    pub(in crate::cli) fn request(&self, transport: &str, sid: Option<&str>) -> String {
        let mut request = format!("{}?EIO=4&transport={transport}", self.path);
        if let Some(sid) = sid {
            request.push_str("&sid=");
            request.extend(utf8_percent_encode(sid, RESERVED));
        }
        if let Some(query) = &self.query {
            request.push('&');
            request.push_str(query);
        }
        request
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())?;
        if self.path == DEFAULT_PATH { Ok(()) } else { f.write_str(self.path.trim_end_matches('/')) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, shown, request) in [
            ("localhost:3000", "http://localhost:3000", "/socket.io/?EIO=4&transport=polling"),
            ("http://h", "http://h", "/socket.io/?EIO=4&transport=polling"),
            ("wss://h:443/", "https://h", "/socket.io/?EIO=4&transport=polling"),
            ("https://h:8443/chat", "https://h:8443/chat", "/chat/?EIO=4&transport=polling"),
            (
                "http://[::1]:3000/socket.io?a=b",
                "http://[::1]:3000",
                "/socket.io/?EIO=4&transport=polling&a=b",
            ),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(
                (target.to_string().as_str(), target.request("polling", None).as_str()),
                (shown, request)
            );
        }
        assert_eq!(Target::parse("ws://[::1]").unwrap().host(), "::1");
        let target = Target::parse("h").unwrap();
        assert_eq!(
            target.request("websocket", Some("a-_&b")),
            "/socket.io/?EIO=4&transport=websocket&sid=a-_%26b"
        );
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let target = Target::parse("http://ops:s%20cret@h:81/?token=secret").unwrap();
        assert_eq!(target.authorization(), Some("Basic b3BzOnMgY3JldA=="));
        assert_eq!(target.to_string(), "http://h:81");
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_quoted() {
        for bad in [
            "",
            "http://",
            "ftp://h",
            "http://secret@",
            "http://h:secret",
            "http://h:99999",
            "h:0",
            "http://a b",
        ] {
            let reason = Target::parse(bad).err().unwrap_or_else(|| panic!("{bad} is taken"));
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
