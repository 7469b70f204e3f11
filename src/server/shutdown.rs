//! The end of a server: graceful shutdown, and drop.

use futures_util::FutureExt;
use socketioxide::TransportType;
use tokio::time::{Instant, timeout, timeout_at};

use super::Server;

impl Server {
    /// Stops accepting clients, tells the other servers that this one leaves, disconnects all clients, and waits until
    /// they have closed their connections. After the grace period the remaining connections are closed by force.
    pub async fn shut_down(mut self) {
        let deadline = Instant::now() + self.grace;
        self.closing.cancel();
        // Each step has a deadline, so that enough time is left to disconnect the clients.
        let step = self.grace / 4;
        if timeout(step, &mut self.relaying).await.is_err() {
            tracing::warn!("events of clients were not relayed in time");
        }
        if let Some(admin_ui) = &mut self.admin_ui
            && timeout(step, admin_ui).await.is_err()
        {
            tracing::warn!("cannot tell the Admin UI in time that the clients leave");
        }
        match timeout(step, self.adapter.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot announce the departure of this server"),
            Err(_) => {
                tracing::warn!(
                    "cannot announce the departure of this server: no answer from Postgres in time"
                );
            }
        }
        let disconnect_clients = async {
            if let Some(io) = self.io.get() {
                io.close().await;
            }
            if let Err(error) = (&mut self.accepting).await {
                tracing::error!(%error, "the accept loop failed");
            }
            if let Some(admin) = &mut self.admin
                && let Err(error) = admin.await
            {
                tracing::error!(%error, "the accept loop of the admin address failed");
            }
            self.open.close();
            self.open.wait().await;
        };
        if timeout_at(deadline, disconnect_clients).await.is_err() {
            tracing::warn!(connections = self.open.len(), "closing connections after the shutdown deadline");
        }
    }
}

impl Drop for Server {
    /// Ends everything that would outlive the server: the sessions of its clients, and the adapters of its namespaces,
    /// which would go on sending heartbeats.
    fn drop(&mut self) {
        let Some(io) = self.io.take() else { return };
        let _context = self.runtime.enter();
        // The first poll makes the adapter drop its reference to the io. The two refer to each other.
        drop(self.adapter.close().now_or_never());
        let sockets: Vec<_> = io.nsps().into_iter().flat_map(|nsp| nsp.sockets()).collect();
        for nsp in io.nsps() {
            io.delete_ns(nsp.ns_path());
        }
        // Websockets end with their connections. A polling session ends at the first poll of this future, since nothing
        // blocks it.
        for socket in sockets.iter().filter(|socket| socket.transport_type() == TransportType::Polling) {
            if self.sessions.close(socket.id).now_or_never().is_none() {
                tracing::debug!(sid = %socket.id, "cannot end a polling session, so it ends at its ping timeout");
            }
        }
    }
}
