//! The sessions of clients, from their handshake on.
//!
//! socketioxide uses the id of a session as `socket.id`, which other clients and servers see. So the clients that poll
//! get another, secret id: the server replaces the id in the response to the handshake, and puts the id of socketioxide
//! back into the URI of each later request. So the public id gives no access to a session, as in Node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use http::Uri;
use http::uri::PathAndQuery;

use super::client_buffers::{ClientBuffer, ClientBuffers};
use super::client_usage::ClientUsage;
use super::posted_event::PostedEvent;
use super::quotas::{ClientCount, Handshake};
use super::traffic::Traffic;
use crate::adapter::Sid;

/// The maximum number of connections of a session that do not count as handshakes. A polling client has two.
const CONNECTIONS: usize = 4;

/// The sessions of a server.
pub(super) struct Sessions {
    /// The sessions that were opened by polling, by their secret id.
    polling: Mutex<HashMap<Sid, Weak<Session>>>,
    traffic: Arc<Traffic>,
}

/// A session. socketioxide keeps it with the head of the first request, for as long as the client is connected.
pub(super) struct Session {
    sessions: Weak<Sessions>,
    /// Held until the client is admitted to a namespace.
    handshake: Mutex<Option<Handshake>>,
    is_admitted: AtomicBool,
    _count: ClientCount,
    pub(super) usage: Arc<ClientUsage>,
    buffer: OnceLock<Arc<ClientBuffer>>,
    /// Set if the session was opened by polling. Boxed, since most sessions are not.
    polling: OnceLock<Box<Polling>>,
}

/// The state of a polling session.
struct Polling {
    /// The id that the client knows.
    secret: Sid,
    /// The socket id, which socketioxide and other clients know.
    public: Sid,
    connections: Arc<AtomicUsize>,
    polls: AtomicUsize,
    /// Whether a websocket was opened for the session, or is being opened.
    has_websocket: AtomicBool,
    /// The bytes that the client has posted since its last poll.
    unpolled: AtomicUsize,
    event: Mutex<PostedEvent>,
}

/// A connection that belongs to a session.
pub(super) struct SessionConnection(Arc<AtomicUsize>);

/// The websocket of a session that was opened by polling. Another one may follow when it is dropped.
pub(super) struct Upgrade(Arc<Session>);

/// A poll that waits for packets.
pub(super) struct Poll<'a>(&'a Polling);

impl Sessions {
    /// Makes an empty table. `traffic` counts each session when it opens and when it ends.
    pub(super) fn new(traffic: Arc<Traffic>) -> Self {
        Self { polling: Mutex::default(), traffic }
    }

    /// Opens a session. Its client is not admitted yet.
    pub(super) fn open(self: &Arc<Self>, handshake: Handshake, count: ClientCount) -> Arc<Session> {
        self.traffic.connected();
        Arc::new(Session {
            sessions: Arc::downgrade(self),
            handshake: Mutex::new(Some(handshake)),
            is_admitted: AtomicBool::new(false),
            _count: count,
            usage: Arc::default(),
            buffer: OnceLock::new(),
            polling: OnceLock::new(),
        })
    }

    /// Gives a session that was opened by polling its secret id.
    pub(super) fn register(&self, session: &Arc<Session>, public: Sid) -> Sid {
        let polling = session.polling.get_or_init(|| {
            Box::new(Polling {
                secret: Sid::new(),
                public,
                connections: Arc::default(),
                polls: AtomicUsize::new(0),
                has_websocket: AtomicBool::new(false),
                unpolled: AtomicUsize::new(0),
                event: Mutex::default(),
            })
        });
        self.sessions().insert(polling.secret, Arc::downgrade(session));
        polling.secret
    }

    /// The session with this secret id.
    pub(super) fn get(&self, secret: Sid) -> Option<Arc<Session>> {
        self.sessions().get(&secret)?.upgrade()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Sid, Weak<Session>>> {
        self.polling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// The id of the session in socketioxide, if it was opened by polling.
    pub(super) fn public_id(&self) -> Option<Sid> {
        self.polling.get().map(|polling| polling.public)
    }

    /// The send buffer of the client, once there is one. The session keeps it, so that no other connection uses it, and
    /// so that leaving all namespaces does not empty it.
    pub(super) fn buffer(&self) -> Option<&Arc<ClientBuffer>> {
        self.buffer.get()
    }

    /// The send buffer of the client, whose id in socketioxide is `sid`.
    pub(super) fn buffer_in(&self, buffers: &Arc<ClientBuffers>, sid: Sid) -> Arc<ClientBuffer> {
        self.buffer.get_or_init(|| buffers.of(sid)).clone()
    }

    /// The client is admitted to a namespace.
    pub(super) fn admit(&self) {
        self.is_admitted.store(true, Ordering::Relaxed);
        self.handshake.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.is_admitted.load(Ordering::Relaxed)
    }

    /// Adds a connection to the session. `None` if the session does not poll, or has too many connections.
    pub(super) fn claim(&self) -> Option<SessionConnection> {
        let connections = &self.polling.get()?.connections;
        let more = |before| (before < CONNECTIONS).then_some(before + 1);
        connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(SessionConnection(connections.clone()))
    }

    /// A websocket of the session begins. `None` if the session has one already, or does not poll.
    pub(super) fn begin_upgrade(self: &Arc<Self>) -> Option<Upgrade> {
        let had_one = self.polling.get()?.has_websocket.swap(true, Ordering::AcqRel);
        (!had_one).then(|| Upgrade(self.clone()))
    }

    /// A poll begins.
    pub(super) fn poll(&self) -> Option<Poll<'_>> {
        let polling = self.polling.get()?;
        polling.polls.fetch_add(1, Ordering::Relaxed);
        Some(Poll(polling))
    }

    /// The event that the client has posted in part.
    pub(super) fn posted_event(&self) -> Option<MutexGuard<'_, PostedEvent>> {
        Some(self.polling.get()?.event.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds the bytes of a post. Returns false if the client has posted more than `limit` bytes without a poll: the
    /// responses of the server wait in memory.
    pub(super) fn post(&self, bytes: usize, limit: usize) -> bool {
        let Some(polling) = self.polling.get() else { return true };
        if polling.polls.load(Ordering::Relaxed) > 0 {
            return true;
        }
        polling.unpolled.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= limit
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(sessions) = self.sessions.upgrade() else { return };
        sessions.traffic.disconnected();
        if let Some(polling) = self.polling.get() {
            sessions.sessions().remove(&polling.secret);
        }
    }
}

impl Drop for SessionConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        if let Some(polling) = self.0.polling.get() {
            polling.has_websocket.store(false, Ordering::Release);
        }
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.0.polls.fetch_sub(1, Ordering::Relaxed);
        self.0.unpolled.store(0, Ordering::Relaxed);
    }
}

/// The session id in a URI. `None` for a request that opens a session.
pub(super) fn id_in(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))
}

/// The same URI with another session id.
pub(super) fn with_id(uri: &Uri, sid: Sid) -> Option<Uri> {
    let mut is_first = true;
    let pairs = uri.query()?.split('&').map(|pair| {
        let is_id = pair.starts_with("sid=") && std::mem::take(&mut is_first);
        if is_id { format!("sid={sid}") } else { pair.to_owned() }
    });
    let pairs: Vec<_> = pairs.collect();
    let path: PathAndQuery = format!("{}?{}", uri.path(), pairs.join("&")).parse().ok()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

/// Replaces the session id in the response to a handshake by polling. `secret` returns the new id.
pub(super) fn replace_id(open: &[u8], secret: impl FnOnce(Sid) -> Sid) -> Option<String> {
    const KEY: &str = "\"sid\":\"";
    let text = std::str::from_utf8(open).ok()?;
    let start = text.find(KEY)? + KEY.len();
    let end = start + text.get(start..)?.find('"')?;
    let secret = secret(text.get(start..end)?.parse().ok()?);
    Some(format!("{}{secret}{}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_uri_is_replaced() {
        let secret = Sid::new();
        let uri = |query: &str| format!("/socket.io/?{query}").parse::<Uri>().unwrap();
        let replaced = with_id(&uri("EIO=4&sid=AAAAAAAAAAAAAAAA&sid=b&t=1"), secret).unwrap();
        assert_eq!(replaced.to_string(), format!("/socket.io/?EIO=4&sid={secret}&sid=b&t=1"));
        assert_eq!(id_in(&replaced), Some(secret.as_str()));
        assert_eq!(id_in(&uri("EIO=4&xsid=7")), None);
        assert!(with_id(&"/socket.io/".parse().unwrap(), secret).is_none());
    }

    #[test]
    fn the_id_of_a_response_is_replaced() {
        let (public, secret) = (Sid::new(), Sid::new());
        let open = format!(r#"0{{"sid":"{public}","upgrades":["websocket"]}}"#);
        let replaced = replace_id(open.as_bytes(), |sid| {
            assert_eq!(sid, public);
            secret
        });
        assert_eq!(replaced.unwrap(), format!(r#"0{{"sid":"{secret}","upgrades":["websocket"]}}"#));
        assert_eq!(replace_id(b"{}", |sid| sid), None);
        assert_eq!(replace_id(b"0{\"sid\":\"short\"}", |sid| sid), None);
    }
}
