//! Access control: admits every user of this machine, or every client with a token.
//!
//! A program sends its token in a header. A browser exchanges the token for a session, whose id is in a cookie. Scripts
//! cannot read the cookie, and other sites cannot send it. Neither the token nor the id is ever in a URL.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, header};
use openssl::sha::sha256;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::server::{Credential, Tokens};

/// The beginning of the cookie's name. Browsers send a cookie to all ports of a host, so the port follows.
const COOKIE: &str = "pgio_monitor";

/// The lifetime of a session.
pub(super) const LASTS: Duration = Duration::from_secs(12 * 3600);

/// The maximum number of sessions. A new session evicts the oldest one.
const SESSIONS: usize = 256;

/// The number of random bytes in a session id.
const ID_BYTES: usize = 32;

/// The delay of the response to a wrong token, and the maximum number of delayed responses at a time.
const WRONG_TOKEN: Duration = Duration::from_secs(1);
const WRONG_TOKENS: usize = 8;

/// The access control of a monitor.
pub(super) struct Access {
    /// `None` if no token is required.
    tokens: Option<Tokens>,
    sessions: Mutex<VecDeque<Session>>,
    wrong: Semaphore,
}

/// The session of a browser that has sent a token.
struct Session {
    /// The hash of the id. The time of a comparison thus reveals nothing about the id.
    id: [u8; 32],
    credential: Credential,
    since: Instant,
}

/// The outcome of a login.
pub(super) enum Login {
    /// The id of the new session.
    Session(String),
    /// The token is unknown.
    Wrong,
    /// Too many responses to wrong tokens are already delayed.
    TooMany,
}

impl Access {
    pub(super) fn new(tokens: Option<Tokens>) -> Self {
        Self { tokens, sessions: Mutex::default(), wrong: Semaphore::new(WRONG_TOKENS) }
    }

    /// Whether requests need a token.
    pub(super) fn needs_token(&self) -> bool {
        self.tokens.is_some()
    }

    /// Whether a request with these headers is authorized.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        match &self.tokens {
            // A page of another site could resolve its own host name to this address (DNS rebinding).
            None => is_local_host(headers),
            Some(tokens) => {
                let token = bearer(headers).is_some_and(|token| tokens.find(token).is_some());
                token || cookies(headers).any(|id| self.has_session(tokens, id))
            }
        }
    }

    /// Delays the response to a wrong token. Returns false if too many responses are delayed already.
    pub(super) async fn delay_wrong(&self) -> bool {
        let Ok(_place) = self.wrong.try_acquire() else { return false };
        sleep(WRONG_TOKEN).await;
        true
    }

    /// Starts a session for a token, if the token is valid.
    pub(super) async fn log_in(&self, token: &str) -> Login {
        let found = self.tokens.as_ref().and_then(|tokens| tokens.find(token));
        let Some(credential) = found else {
            return if self.delay_wrong().await { Login::Wrong } else { Login::TooMany };
        };
        let mut bytes = [0; ID_BYTES];
        if let Err(error) = openssl::rand::rand_bytes(&mut bytes) {
            tracing::error!(%error, "no random bytes for a session");
            return Login::Wrong;
        }
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS {
            sessions.pop_front();
        }
        sessions.push_back(Session { id: sha256(id.as_bytes()), credential, since: Instant::now() });
        Login::Session(id)
    }

    /// Ends the session of a request.
    pub(super) fn log_out(&self, headers: &HeaderMap) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        for id in cookies(headers) {
            let id = sha256(id.as_bytes());
            sessions.retain(|session| session.id != id);
        }
    }

    fn has_session(&self, tokens: &Tokens, id: &str) -> bool {
        let id = sha256(id.as_bytes());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // The sessions of a token end when the token is no longer listed.
        sessions.retain(|session| session.since.elapsed() < LASTS && tokens.accepts(&session.credential));
        sessions.iter().any(|session| session.id == id)
    }
}

/// The cookie of a session. `None` deletes the cookie.
pub(super) fn cookie(id: Option<&str>, headers: &HeaderMap) -> String {
    let is_secure = headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    let secure = if is_secure { "; Secure" } else { "" };
    let (id, age) = id.map_or(("", 0), |id| (id, LASTS.as_secs()));
    let name = cookie_name(headers);
    format!("{name}={id}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

/// Whether a page of another site makes the request, other than by a link to the page. The browser says so.
pub(super) fn is_of_other_site(headers: &HeaderMap) -> bool {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let is_other = matches!(value("sec-fetch-site"), Some(b"cross-site" | b"same-site"));
    is_other && value("sec-fetch-mode") != Some(b"navigate")
}

/// The token in the headers of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let own_name = cookie_name(headers);
    pairs.filter(move |(name, _)| *name == own_name).map(|(_, value)| value)
}

/// The name of the cookie for the host of a request: two monitors on one machine do not replace each other's sessions.
fn cookie_name(headers: &HeaderMap) -> String {
    match host(headers).and_then(|authority| authority.port_u16()) {
        Some(port) => format!("{COOKIE}_{port}"),
        None => COOKIE.to_owned(),
    }
}

fn host(headers: &HeaderMap) -> Option<http::uri::Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

/// Whether the host is an address or localhost. Another name may belong to another site that resolves it to this
/// address.
fn is_local_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return true };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
        };
        pairs.iter().map(parse).collect()
    }

    fn with_tokens() -> (tempfile::NamedTempFile, Tokens, Access) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"secret\nother\n").unwrap();
        let tokens = Tokens::read(file.path()).unwrap();
        (file, tokens.clone(), Access::new(Some(tokens)))
    }

    #[test]
    fn without_tokens_a_name_that_leads_here_is_refused() {
        let access = Access::new(None);
        for host in ["127.0.0.1:9464", "localhost", "LOCALHOST:1", "[::1]:9464", "10.0.0.1"] {
            assert!(access.allows(&headers(&[("host", host)])), "{host}");
        }
        for host in ["evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example", "a b"] {
            assert!(!access.allows(&headers(&[("host", host)])), "{host}");
        }
    }

    #[test]
    fn monitors_on_different_ports_have_their_own_cookies() {
        let at = |host| cookie(Some("id"), &headers(&[("host", host)]));
        assert!(at("127.0.0.1:9464").starts_with("pgio_monitor_9464=id; "));
        assert!(at("[::1]:9465").starts_with("pgio_monitor_9465=id; "));
        assert!(at("pgio.example.com").starts_with("pgio_monitor=id; "));
        let both = "pgio_monitor_9464=first; pgio_monitor_9465=second; pgio_monitor=third";
        let sent =
            |host| cookies(&headers(&[("host", host), ("cookie", both)])).collect::<Vec<_>>().join(" ");
        assert_eq!([sent("a:9464"), sent("a:9465"), sent("a")], ["first", "second", "third"]);
    }

    #[tokio::test]
    async fn a_token_or_a_session_is_needed() {
        let (_file, _, access) = with_tokens();
        for (name, value) in [
            ("authorization", "Bearer wrong"),
            ("authorization", "Basic secret"),
            ("authorization", "secret"),
            ("cookie", "pgio_monitor=secret"),
            ("cookie", "pgio_monitor="),
        ] {
            assert!(!access.allows(&headers(&[(name, value)])), "{name}: {value}");
        }
        assert!(access.allows(&headers(&[("authorization", "bearer other")])));
        let wrong = tokio::join!(access.log_in("wrong"), access.log_in(""));
        assert!(matches!(wrong, (Login::Wrong, Login::Wrong)));
        let Login::Session(id) = access.log_in("secret").await else { panic!("no session") };
        let cookie = headers(&[("cookie", &format!("a=b; pgio_monitor={id}"))]);
        assert!(access.allows(&cookie));
        access.log_out(&cookie);
        assert!(!access.allows(&cookie));
    }

    #[tokio::test]
    async fn sessions_end_with_their_tokens_and_are_few() {
        let (file, tokens, access) = with_tokens();
        let Login::Session(first) = access.log_in("secret").await else { panic!("no session") };
        let cookie = |id: &str| headers(&[("cookie", &format!("pgio_monitor={id}"))]);
        std::fs::write(file.path(), "other\n").unwrap();
        tokens.reload().unwrap();
        assert!(!access.allows(&cookie(&first)));
        let Login::Session(oldest) = access.log_in("other").await else { panic!("no session") };
        for _ in 0..SESSIONS {
            assert!(matches!(access.log_in("other").await, Login::Session(_)));
        }
        assert!(!access.allows(&cookie(&oldest)));
    }
}
