//! A TCP proxy before Postgres that breaks connections on demand.
//!
//! In: the mode of each direction, a new upstream, resets. Invariants: bytes keep their order; a silent direction holds
//! them back and forwards them when the silence ends, followed by a close that came meanwhile.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Chunks that one direction of a connection may hold back: 32 MiB at most. Then it stops to read.
const HELD_BACK: usize = 2048;

/// The treatment of all connections of a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mode {
    /// Forwards nothing to Postgres. A new connection does not reach Postgres, either.
    pub silent_to_server: bool,
    /// Forwards nothing that Postgres sends.
    pub silent_to_client: bool,
    /// How late each byte arrives.
    pub latency: Duration,
    /// How many bytes a second pass, for each connection and direction.
    pub bytes_per_second: Option<u32>,
    /// Resets every new connection.
    pub refuse: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Mode {
    fn is_silent(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self.silent_to_server,
            Direction::ToClient => self.silent_to_client,
        }
    }
}

struct Control {
    mode: watch::Sender<Mode>,
    /// Counts the resets.
    resets: watch::Sender<u64>,
    upstream: AtomicU16,
}

/// A running proxy on a port of 127.0.0.1.
pub struct Proxy {
    port: u16,
    control: Arc<Control>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Starts a proxy before a port of 127.0.0.1.
    pub async fn start(upstream: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let control = Arc::new(Control {
            mode: watch::Sender::new(Mode::default()),
            resets: watch::Sender::new(0),
            upstream: AtomicU16::new(upstream),
        });
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, control.clone())));
        Ok(Self { port, control, _accepting: accepting })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the mode, from now on and for all connections.
    pub fn set(&self, mode: Mode) {
        self.control.mode.send_replace(mode);
    }

    /// Resets all current connections (TCP RST on both sides).
    pub fn reset(&self) {
        self.control.resets.send_modify(|count| *count += 1);
    }

    /// Sends new connections to another port.
    pub fn set_upstream(&self, port: u16) {
        self.control.upstream.store(port, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    // Owns the connections: they end with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(connections.spawn(serve(client, control.clone()))),
                Err(error) => {
                    eprintln!("soak: a proxy cannot accept: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn serve(mut client: TcpStream, control: Arc<Control>) {
    let mut resets = control.resets.subscribe();
    let mut mode = control.mode.subscribe();
    if mode.borrow().refuse {
        return reset(&client);
    }
    tokio::select! {
        opened = mode.wait_for(|mode| !mode.silent_to_server) => if opened.is_err() { return },
        _ = resets.changed() => return reset(&client),
    }
    // A reset that comes while it connects takes effect below, on both sides.
    let upstream = control.upstream.load(Ordering::Relaxed);
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await else {
        return reset(&client);
    };
    // A proxy that collects small packets would add latency of its own.
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return reset(&client);
    }
    let is_reset = {
        let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
        let both = async {
            tokio::join!(
                pump(client_in, server_out, Direction::ToServer, control.mode.subscribe()),
                pump(server_in, client_out, Direction::ToClient, control.mode.subscribe()),
            )
        };
        tokio::select! {
            _ = both => false,
            _ = resets.changed() => true,
        }
    };
    if is_reset {
        reset(&client);
        reset(&server);
    }
}

/// Makes the end of this connection a reset, once it is dropped.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        eprintln!("soak: a connection cannot be reset: {error}");
    }
}

/// Moves bytes in one direction until that direction is closed.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut mode: watch::Receiver<Mode>,
) {
    let (queue, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(HELD_BACK);
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            match from.read(&mut chunk).await {
                // A reset closes this direction like an orderly end, after the bytes that came before it.
                Ok(0) | Err(_) => return,
                Ok(length) => chunk.truncate(length),
            }
            if queue.send((Instant::now(), chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((came, chunk)) = chunks.recv().await {
            let latency = mode.borrow().latency;
            sleep_until(came + latency).await;
            if open(&mut mode, direction).await.is_none() {
                return;
            }
            let rate = mode.borrow().bytes_per_second;
            if let Some(rate) = rate {
                sleep(Duration::from_secs_f64(chunk.len() as f64 / f64::from(rate))).await;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The close is silent as long as the bytes are. A peer that is closed already needs none.
        if open(&mut mode, direction).await.is_some() {
            to.shutdown().await.ok();
        }
    };
    tokio::join!(read, write);
}

/// Waits until the direction is not silent; `None` when the proxy ends.
async fn open(mode: &mut watch::Receiver<Mode>, direction: Direction) -> Option<()> {
    mode.wait_for(|mode| !mode.is_silent(direction)).await.ok().map(drop)
}
