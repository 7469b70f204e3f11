//! Reads the files of a running server again: those of keys or tokens, and those of TLS.
//!
//! A file that cannot be used changes nothing, and the log names it. Clients whose token or key is no longer listed are
//! disconnected.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::ClusterSocket;
use super::auth::{Authentication, Credential};
use super::disconnect::{Disconnector, Reason};
use super::file_watch::watch_files;
use super::shared_io::SharedIo;
use super::tls::TlsAcceptor;

/// Reloads the files of a server.
pub(super) struct Reloader {
    pub(super) authentication: Authentication,
    pub(super) tls: Option<Arc<TlsAcceptor>>,
    /// `None` if clients stay connected when their token or key is no longer listed.
    pub(super) revocation: Option<Revocation>,
}

/// Disconnects the clients whose token or key is no longer listed.
pub(super) struct Revocation {
    pub(super) io: SharedIo,
    pub(super) disconnector: Disconnector,
}

/// The files that are read together.
#[derive(Clone, Copy)]
enum Files {
    Secrets,
    Tls,
}

impl Reloader {
    /// Reads all files again, and logs the outcome.
    pub(super) fn reload(&self) {
        self.reload_files(Files::Secrets);
        self.reload_files(Files::Tls);
    }

    /// Starts to watch the files; dropping the handles ends that.
    pub(super) fn start(self: &Arc<Self>) -> Vec<AbortOnDropHandle<()>> {
        let watched = [Files::Secrets, Files::Tls].into_iter().filter(|files| !self.paths(*files).is_empty());
        let watch = |files| {
            let this = self.clone();
            watch_files(self.paths(files), move || this.reload_files(files))
        };
        watched.map(watch).collect()
    }

    fn paths(&self, files: Files) -> Vec<PathBuf> {
        match files {
            Files::Secrets => self.authentication.path().map(Path::to_owned).into_iter().collect(),
            Files::Tls => {
                let files = self.tls.as_ref().map(|tls| tls.files());
                let of = |files: &super::TlsFiles| {
                    let authorities = files.client_authorities.clone();
                    [files.certificate.clone(), files.key.clone()].into_iter().chain(authorities).collect()
                };
                files.map(of).unwrap_or_default()
            }
        }
    }

    fn reload_files(&self, files: Files) {
        match files {
            Files::Secrets => self.reload_secrets(),
            Files::Tls => self.reload_certificate(),
        }
    }

    fn reload_secrets(&self) {
        let Some(path) = self.authentication.path() else { return };
        match self.authentication.reload() {
            Ok(()) => {
                tracing::info!(path = %path.display(), "keys or tokens reloaded");
                self.disconnect_revoked();
            }
            Err(error) => tracing::error!(%error, "cannot reload keys or tokens; keeping the old ones"),
        }
    }

    fn reload_certificate(&self) {
        let Some(tls) = &self.tls else { return };
        match tls.reload() {
            Ok(()) => tracing::info!(path = %tls.files().certificate.display(), "certificate reloaded"),
            Err(error) => tracing::warn!(%error, "cannot reload the certificate; keeping the old one"),
        }
    }

    /// Disconnects the clients with a revoked token. The connect handler checks clients that are being admitted.
    fn disconnect_revoked(&self) {
        let Some(Revocation { io, disconnector }) = &self.revocation else { return };
        let Some(io) = io.get() else { return };
        let sockets = io.nsps().into_iter().flat_map(|nsp| nsp.sockets()).filter(|socket| socket.connected());
        for socket in sockets.filter(|socket| is_revoked(socket, &self.authentication)) {
            disconnector.disconnect_revoked(socket, Reason::Revoked);
        }
    }
}

/// Whether the token or key that admitted a socket is no longer listed.
pub(super) fn is_revoked(socket: &ClusterSocket, authentication: &Authentication) -> bool {
    socket.extensions.get::<Credential>().is_some_and(|credential| !authentication.accepts(&credential))
}
