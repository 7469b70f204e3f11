//! A Socket.IO server with the Node adapter, in a process of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::clock::Moment;
use super::ledger::{Ledger, Receiver, Sender};
use super::program;
use super::support::node::{AdapterVersion, Drained, NodePeer, Server, ServerOptions, StreamOptions};

/// How often the records of a process are fetched.
const DRAIN: Duration = Duration::from_millis(150);

/// A Node server that broadcasts streams; its process is killed when this is dropped.
pub struct NodeServer {
    version: AdapterVersion,
    database: String,
    port: u16,
    /// The streams, with the namespace and the rate of each.
    streams: Vec<(Sender, &'static str, u32)>,
    ledger: Arc<Ledger>,
    running: Option<Running>,
    /// When the adapter reported errors.
    errors: Arc<Mutex<Vec<Moment>>>,
}

struct Running {
    peer: NodePeer,
    _watching: [AbortOnDropHandle<()>; 2],
}

impl NodeServer {
    /// Starts a server of `/` and `/files`; its streams start later.
    pub async fn start(
        version: AdapterVersion,
        database: String,
        streams: Vec<(Sender, &'static str, u32)>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let port = program::free_port();
        let errors = Arc::default();
        let mut server = Self { version, database, port, streams, ledger, running: None, errors };
        server.start_again().await;
        server
    }

    /// Starts the process and its streams, on the port that the server always has.
    pub async fn start_again(&mut self) {
        let peer = NodePeer::start().await;
        let options = ServerOptions::new(self.version, &self.database)
            .namespace("/files")
            .port(self.port)
            .option("cleanupInterval", super::world::CLEANUP_MS);
        let server = peer.server(options).await;
        for (sender, nsp, rate) in &self.streams {
            server.stream(nsp, &stream(*sender, *rate, &self.ledger)).await;
        }
        let watching = [drain(peer.clone(), self.ledger.clone()), watch_errors(server, self.errors.clone())];
        self.running = Some(Running { peer, _watching: watching });
    }

    /// Ends the process with SIGKILL.
    pub async fn kill(&mut self) {
        // First the tasks that would still send it requests.
        if let Some(Running { peer, _watching: watching }) = self.running.take() {
            drop(watching);
            peer.kill().await;
        }
    }

    pub async fn pid(&self) -> Option<u32> {
        self.running.as_ref()?.peer.pid().await
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The first moment at or after this one when the adapter reported an error.
    pub fn noticed_since(&self, moment: Moment) -> Option<Moment> {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.iter().copied().filter(|at| *at >= moment).min()
    }
}

/// How a sender's stream starts, or goes on.
pub fn stream(sender: Sender, rate: u32, ledger: &Ledger) -> StreamOptions {
    let binary = matches!(sender, Sender::AFiles | Sender::Node05Files);
    StreamOptions { name: sender.name().into(), rate, first: ledger.next_number(sender), binary }
}

/// Moves the records of a process into the ledger, again and again.
pub fn drain(peer: NodePeer, ledger: Arc<Ledger>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            match peer.drain_streams().await {
                Ok(drained) => enter(&ledger, &drained),
                Err(error) => eprintln!("soak: cannot fetch the records of a Node process: {error}"),
            }
            sleep(DRAIN).await;
        }
    }))
}

fn enter(ledger: &Ledger, drained: &Drained) {
    for (name, sent) in &drained.sent {
        let Some(sender) = Sender::named(name) else { continue };
        sent.iter().for_each(|sent| ledger.sent(sender, sent.0, Moment(sent.1)));
    }
    for (name, settled) in &drained.settled {
        let Some(sender) = Sender::named(name) else { continue };
        settled.iter().for_each(|settled| ledger.settled(sender, settled.0, settled.2 == 1));
    }
    for (name, received) in &drained.received {
        let Some(receiver) = Receiver::named(name) else { continue };
        for event in received {
            // Other events are no part of a stream.
            if let (Some(sender), Some(number)) = (Sender::named(&event.0), event.1) {
                ledger.received((sender, receiver), number, Moment(event.2));
            }
        }
    }
}

fn watch_errors(server: Server, errors: Arc<Mutex<Vec<Moment>>>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut known = 0;
        loop {
            let count = server.errors().await.len();
            if count > known {
                errors.lock().unwrap_or_else(PoisonError::into_inner).push(Moment::now());
                known = count;
            }
            sleep(DRAIN).await;
        }
    }))
}
