//! A network between the program and Postgres, with faults on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The behaviour of the network for connections and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Forward,
    /// Connections stay open, new ones are accepted, and no byte passes in either direction. Bytes that were sent in
    /// the meantime pass when the mode is [`Forward`](Self::Forward) again.
    Silent,
    /// Each connection becomes silent as soon as the server is ready for its first statement.
    SilentWhenReady,
    /// The first LISTEN of each connection arrives that much later, as if the server took so long.
    SlowFirstListen(Duration),
    /// All connections are reset, and new ones immediately.
    Reset,
}

/// The message of a server that is ready for a statement.
const READY: &[u8] = b"Z\0\0\0\x05I";

const LISTEN: &[u8] = b"LISTEN \"";

/// A TCP proxy for one server. It ends on drop.
pub struct Proxy {
    url: String,
    mode: Arc<watch::Sender<Mode>>,
    accepted: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Starts a proxy for the server of that URL.
    pub async fn start(url: &str) -> Proxy {
        let (account, place) = url.split_once('@').unwrap();
        let (server, database) = place.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{account}@{}/{database}", listener.local_addr().unwrap());
        let (mode, current) = watch::channel(Mode::Forward);
        let accepted = Arc::default();
        let task = tokio::spawn(accept(listener, server.to_owned(), current, Arc::clone(&accepted)));
        Proxy { url, mode: Arc::new(mode), accepted, _task: AbortOnDropHandle::new(task) }
    }

    /// The URL of the database, through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The number of connections that it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Changes the mode.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn accept(
    listener: TcpListener,
    server: String,
    mode: watch::Receiver<Mode>,
    accepted: Arc<AtomicUsize>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(connect(near, server.clone(), mode.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(mut near: TcpStream, server: String, mut mode: watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode != Mode::Silent).await.is_ok_and(|mode| *mode != Mode::Reset)
        && let Ok(mut far) = TcpStream::connect(&server).await
    {
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let (there, back) = (pump(near_in, far_out, mode.clone()), pump(far_in, near_out, mode.clone()));
        tokio::select! {
            _ = async { tokio::join!(there, back) } => return,
            _ = mode.wait_for(|mode| *mode == Mode::Reset) => {}
        }
    }
    near.set_zero_linger().unwrap();
}

/// Forwards bytes in one direction until the connection ends.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut mode: watch::Receiver<Mode>) {
    let mut bytes = vec![0; 65_536];
    let mut has_listened = false;
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !has_listened && bytes[..count].windows(LISTEN.len()).any(|window| window == LISTEN) {
            has_listened = true;
            let current = *mode.borrow();
            if let Mode::SlowFirstListen(delay) = current {
                tokio::time::sleep(delay).await;
            }
        }
        if mode.wait_for(|mode| *mode != Mode::Silent).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
        if bytes[..count].ends_with(READY)
            && mode.wait_for(|mode| *mode != Mode::SilentWhenReady).await.is_err()
        {
            return;
        }
    }
    // This tells the other side that this side has closed. An error means that the other side has closed as well.
    to.shutdown().await.ok();
}

/// A test of the proxy itself: a connection becomes silent, continues with all its bytes, and is reset.
#[tokio::test]
async fn each_relay_mode_reaches_its_clients() {
    use tokio::time::timeout;
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://user@{}/db", echo.local_addr().unwrap());
    let _echo = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let (stream, _) = echo.accept().await.unwrap();
            let (mut from, mut to) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
        }
    }));
    let proxy = Proxy::start(&url).await;
    let address = proxy.url().split(['@', '/']).nth(3).unwrap().to_owned();
    let mut client = TcpStream::connect(&address).await.unwrap();
    let mut answer = [0; 1];
    client.write_all(b"1").await.unwrap();
    client.read_exact(&mut answer).await.unwrap();

    proxy.set(Mode::Silent);
    client.write_all(b"2").await.unwrap();
    let mut late = TcpStream::connect(&address).await.unwrap();
    late.write_all(b"3").await.unwrap();
    let silence = Duration::from_millis(100);
    assert!(timeout(silence, client.read_exact(&mut answer)).await.is_err());
    assert!(timeout(silence, late.read_exact(&mut answer)).await.is_err());

    proxy.set(Mode::Forward);
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"2");
    late.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"3");

    proxy.set(Mode::Reset);
    assert!(client.read_exact(&mut answer).await.is_err());
    assert!(late.read_exact(&mut answer).await.is_err());
    // A new connection may be accepted, but does not last.
    if let Ok(mut refused) = TcpStream::connect(&address).await {
        assert!(refused.read_exact(&mut answer).await.is_err());
    }
}
