//! A member of a cluster that asks all others: a server of Node or of socketioxide, which is told to over HTTP, or pgio's
//! library in this program.

use std::io;
use std::time::Duration;

use pgio::cluster::Subscription;
use pgio::{Emitter, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::peers::Peer;
use super::programs::Programs;
use super::server::Server;

/// How long it waits for the acknowledgements of clients, as the servers do.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it asks until it knows the whole cluster.
const ATTEMPTS: usize = 100;

pub enum Asker {
    Server(Server),
    /// With a subscription that lasts, as a server has one: it knows the other members, and does not wait for them to
    /// be discovered at each request.
    Library {
        emitter: Emitter,
        _subscription: Subscription,
    },
}

/// What it asks for.
#[derive(Clone, Copy)]
pub enum Question {
    /// An acknowledgement of each client.
    Acks,
    /// All sockets.
    Sockets,
}

impl Asker {
    pub async fn start(programs: &Programs, peer: Peer) -> io::Result<Self> {
        match peer {
            Peer::Node | Peer::Socketioxide => peer.start(programs).map(Self::Server),
            Peer::Pgio => {
                let emitter = Emitter::connect(programs.url()).await.map_err(io::Error::other)?;
                let subscription = emitter.cluster().subscribe(["/"], |_| false).await;
                Ok(Self::Library { emitter, _subscription: subscription.map_err(io::Error::other)? })
            }
        }
    }

    /// What asks, for the reader of the figures.
    pub fn command(peer: Peer, question: Question) -> &'static str {
        match (peer, question) {
            (Peer::Node, Question::Acks) => "io.timeout(20000).emitWithAck(…)   # in another server",
            (Peer::Node, Question::Sockets) => "io.fetchSockets()   # in another server",
            (Peer::Socketioxide, Question::Acks) => "io.timeout(…).emit_with_ack(…)   # in another server",
            (Peer::Socketioxide, Question::Sockets) => "io.fetch_sockets()   # in another server",
            (Peer::Pgio, Question::Acks) => "emitter.timeout(…).emit_with_ack(…)   # in this program",
            (Peer::Pgio, Question::Sockets) => "emitter.fetch_sockets()   # in this program",
        }
    }

    /// How many answers it got.
    pub async fn ask(&self, question: Question) -> io::Result<usize> {
        match (self, question) {
            (Self::Server(server), Question::Acks) => get(&server.address, "/acks").await,
            (Self::Server(server), Question::Sockets) => get(&server.address, "/sockets").await,
            (Self::Library { emitter, .. }, Question::Acks) => {
                let clients = emitter.timeout(PATIENCE);
                let acks = clients.emit_with_ack::<Value>("question", 1).await;
                Ok(acks.map_err(io::Error::other)?.answers.len())
            }
            (Self::Library { emitter, .. }, Question::Sockets) => {
                Ok(emitter.fetch_sockets().await.map_err(io::Error::other)?.answers.len())
            }
        }
    }

    /// Asks until so many answer: a server knows the others only after a while.
    pub async fn until(&self, question: Question, answers: usize) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            if self.ask(question).await.is_ok_and(|count| count == answers) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(io::Error::other(format!("{answers} answers never came")))
    }
}

/// The count that a server answers with.
async fn get(address: &str, path: &str) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    match response.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => body.trim().parse().map_err(io::Error::other),
        _ => Err(io::Error::other(format!("{path} failed: {response}"))),
    }
}
