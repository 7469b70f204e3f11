//! A connection of a client, for those that abort it or ask what it carries.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::pending_namespaces::PendingNamespaces;
use super::quotas::Handshake;
use super::sessions::{Session, SessionConnection};
use crate::adapter::Sid;

/// A handle to a connection, with which the server can abort it.
pub(super) struct ConnectionHandle {
    pub(super) peer: SocketAddr,
    /// Wakes the tasks that wait for the client when the connection is aborted.
    abort: CancellationToken,
    /// Set by an abort of this connection. Every write to the client looks at it, so it is not the lock of the token. An
    /// abort of all connections is noticed by the next read or write that has to wait.
    is_aborted: AtomicBool,
    /// The session that upgraded from polling to this connection.
    pub(super) session: OnceLock<Sid>,
    /// The namespaces that wait for the decision on the clients of this connection.
    pub(super) pending_namespaces: PendingNamespaces,
    /// The session of the websocket, once the connection is one.
    opened: OnceLock<Arc<Session>>,
    /// The polling session of the last request.
    polling: Mutex<Option<Sid>>,
    permit: Mutex<ConnectionPermit>,
}

/// The permit that keeps a connection open.
pub(super) enum ConnectionPermit {
    /// It has not sent a request of a session yet, and counts as a handshake.
    Handshake(Handshake),
    /// It is one of the few connections of a session.
    SessionConnection { _claim: SessionConnection },
    /// None: the permit moved to the session that the connection has opened, or was released before the last response, or
    /// the connection comes from a trusted proxy.
    None,
}

impl ConnectionHandle {
    pub(super) fn new(peer: SocketAddr, abort: CancellationToken, permit: ConnectionPermit) -> Self {
        Self {
            peer,
            abort,
            is_aborted: AtomicBool::new(false),
            session: OnceLock::new(),
            pending_namespaces: PendingNamespaces::default(),
            opened: OnceLock::new(),
            polling: Mutex::default(),
            permit: Mutex::new(permit),
        }
    }

    /// Ends the connection: from now on its reads and writes fail.
    pub(super) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Release);
        self.abort.cancel();
    }

    /// Resolves once the connection is aborted, by itself or with all the others of the server.
    pub(super) fn aborted(&self) -> WaitForCancellationFutureOwned {
        self.abort.clone().cancelled_owned()
    }

    /// Records an abort of all connections, which only the token tells.
    pub(super) fn learn_abort(&self) -> io::Error {
        self.is_aborted.store(true, Ordering::Release);
        aborted()
    }

    /// Fails once the connection is aborted. A read or write that has to wait also needs its [`AbortWaker`].
    pub(super) fn check_abort(&self) -> io::Result<()> {
        if self.is_aborted.load(Ordering::Acquire) { Err(aborted()) } else { Ok(()) }
    }

    /// The connection becomes the websocket of a session, and stays it. A session has one websocket, so it needs no other
    /// permit.
    pub(super) fn upgrade(&self, session: &Arc<Session>) {
        self.opened.get_or_init(|| session.clone());
        self.take_handshake();
    }

    /// Takes the handshake if the connection counts as one: for the session that it opens, or before the last response.
    pub(super) fn take_handshake(&self) -> Option<Handshake> {
        let mut permit = self.permit();
        match std::mem::replace(&mut *permit, ConnectionPermit::None) {
            ConnectionPermit::Handshake(handshake) => Some(handshake),
            other => {
                *permit = other;
                None
            }
        }
    }

    /// The connection has sent a request of a session. It no longer counts as a handshake, unless the session has too
    /// many connections.
    pub(super) fn belong_to(&self, session: &Session) {
        let mut permit = self.permit();
        if matches!(*permit, ConnectionPermit::Handshake(_))
            && let Some(claim) = session.claim()
        {
            *permit = ConnectionPermit::SessionConnection { _claim: claim };
        }
    }

    fn permit(&self) -> MutexGuard<'_, ConnectionPermit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client of a websocket is not admitted yet.
    pub(super) fn is_unadmitted(&self) -> bool {
        self.opened.get().is_some_and(|session| !session.is_admitted())
    }

    pub(super) fn is_websocket(&self) -> bool {
        self.opened.get().is_some()
    }

    /// The next request on this connection is for this polling session.
    pub(super) fn set_polling(&self, sid: Option<Sid>) {
        self.pending_namespaces.restart();
        *self.polling.lock().unwrap_or_else(PoisonError::into_inner) = sid;
    }

    pub(super) fn polling(&self) -> Option<Sid> {
        *self.polling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "aborted by the server")
}
