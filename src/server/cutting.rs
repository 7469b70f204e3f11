//! Cutting clients off whose buffer is full: socketioxide cannot tell them anything any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use http::{Method, Request, Uri};
use socketioxide::TransportType;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service;

use super::wire::Line;
use super::{ClusterIo, ClusterSocket};
use crate::adapter::Sid;

/// Why a client is cut off.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason {
    /// It does not read as fast as it is sent to.
    TooSlow,
    /// It emits faster than the cluster can take.
    TooFast,
    /// It came to a namespace in the moment in which that went.
    NamespaceGone,
}

impl Reason {
    fn label(self) -> &'static str {
        match self {
            Self::TooSlow => "too_slow",
            Self::TooFast => "too_fast",
            Self::NamespaceGone => "namespace_gone",
        }
    }
}

/// A mark on a socket that is being cut off: once is enough.
#[derive(Clone)]
struct CutOff;

/// Cuts clients off.
#[derive(Clone)]
pub(super) struct Cutter {
    upgrades: Arc<Upgrades>,
    polling: mpsc::UnboundedSender<Sid>,
}

/// Closes polling sessions, one after another.
pub(super) struct PollingCutter {
    sids: mpsc::UnboundedReceiver<Sid>,
    path: String,
}

/// Makes a cutter, and its other half for clients that poll at `path`.
pub(super) fn cutter(upgrades: Arc<Upgrades>, path: &str) -> (Cutter, PollingCutter) {
    // Unbounded, but no session is in it twice.
    let (polling, sids) = mpsc::unbounded_channel();
    (Cutter { upgrades, polling }, PollingCutter { sids, path: path.to_owned() })
}

impl Cutter {
    /// Cuts off a socket of this server; nothing happens where it is gone.
    pub(super) fn cut(&self, io: &ClusterIo, nsp: &str, sid: Sid, reason: Reason) {
        if let Some(socket) = io.of(nsp).and_then(|nsp| nsp.get_socket(sid)) {
            self.cut_socket(&socket, reason);
        }
    }

    /// Cuts off a socket.
    pub(super) fn cut_socket(&self, socket: &ClusterSocket, reason: Reason) {
        if socket.extensions.insert(CutOff).is_some() {
            return;
        }
        let transport = socket.transport_type();
        let first = socket.req_parts().extensions.get::<Arc<Line>>();
        let address = first.map(|line| line.peer.ip().to_string());
        metrics::counter!("pgio_clients_cut_off_total", "reason" => reason.label()).increment(1);
        tracing::warn!(
            sid = %socket.id, nsp = socket.ns(), address, ?transport, reason = reason.label(),
            "a client is cut off"
        );
        match self.upgrades.get(socket.id) {
            Some(line) => line.cut.cancel(),
            None if transport == TransportType::Websocket => {
                first.inspect(|line| line.cut.cancel());
            }
            // Its connections may be a proxy's, shared with others. The other half lives as long as the server.
            None => drop(self.polling.send(socket.id)),
        }
    }
}

impl PollingCutter {
    /// Works for as long as this is kept.
    pub(super) fn start(self, app: Router) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(self.run(app)))
    }

    /// A session ends when its client posts a close packet, and so it does when we post one.
    async fn run(mut self, mut app: Router) {
        while let Some(sid) = self.sids.recv().await {
            let uri = format!("{}/?EIO=4&transport=polling&sid={sid}", self.path);
            let Ok(uri) = uri.parse::<Uri>() else { continue };
            let mut request = Request::new(Body::from("1"));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri;
            let Ok(response) = app.call(request).await;
            tracing::debug!(%sid, status = %response.status(), "a polling session was closed");
        }
    }
}

/// The connections to which sessions have come over from polling.
#[derive(Default)]
pub(super) struct Upgrades(Mutex<HashMap<Sid, Arc<Line>>>);

impl Upgrades {
    /// Takes notice of a request, in case it is for an upgrade.
    pub(super) fn see<B>(&self, request: &Request<B>, line: &Arc<Line>) {
        if !request.headers().contains_key(http::header::UPGRADE) {
            return;
        }
        let query = request.uri().query().unwrap_or_default();
        let sid = query.split('&').find_map(|pair| pair.strip_prefix("sid=")?.parse::<Sid>().ok());
        if let Some(sid) = sid
            && line.upgraded.set(sid).is_ok()
        {
            self.lines().insert(sid, line.clone());
        }
    }

    fn get(&self, sid: Sid) -> Option<Arc<Line>> {
        self.lines().get(&sid).cloned()
    }

    pub(super) fn forget(&self, sid: Sid, line: &Arc<Line>) {
        let mut lines = self.lines();
        if lines.get(&sid).is_some_and(|known| Arc::ptr_eq(known, line)) {
            lines.remove(&sid);
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Sid, Arc<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
