//! Many clients in one process that cost next to nothing: what is measured is the server.

use std::io;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::publisher::Publisher;

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long no event comes until there are no more.
const SILENCE: Duration = Duration::from_secs(3);

/// The number of the events of [`until_reached`], some of which come late. Clients do not count them.
const READY: u64 = u64::MAX;

/// A client of Socket.IO over a websocket, in the main namespace.
pub struct Client {
    stream: TcpStream,
    /// What was read and not yet looked at: from `start` on.
    buffer: Vec<u8>,
    start: usize,
}

/// What a client has received.
pub struct Received {
    /// When the last event came.
    pub last: Instant,
    /// The number that each event carried.
    pub numbers: Vec<u64>,
}

/// Connects so many clients.
pub async fn connect(address: &str, count: usize) -> io::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        // Not more at once than a server's backlog takes.
        let some = (clients.len()..count).take(50).map(|_| Client::connect(address));
        clients.extend(try_join_all(some).await?);
    }
    Ok(clients)
}

/// Waits until events reach a server's clients: a Node server is there before it listens.
pub async fn until_reached(publisher: &Publisher, address: &str) -> io::Result<()> {
    let mut client = Client::connect(address).await?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        publisher.publish(READY).await?;
        if let Ok(text) = timeout(Duration::from_millis(50), client.next()).await
            && text?.starts_with(b"42")
        {
            return Ok(());
        }
    }
    Err(io::Error::other("no event reaches the server"))
}

/// Lets each client receive so many events.
pub async fn receive(clients: Vec<Client>, events: usize) -> io::Result<Vec<Received>> {
    let tasks = clients.into_iter().map(|client| tokio::spawn(client.receive(events)));
    try_join_all(tasks).await?.into_iter().collect()
}

/// How many events the clients receive until none comes for a while, or a client is disconnected.
pub async fn receive_all(clients: Vec<Client>) -> io::Result<usize> {
    let counts = try_join_all(clients.into_iter().map(|client| tokio::spawn(client.receive_all()))).await?;
    Ok(counts.into_iter().sum())
}

/// Lets each client receive so many events that carry the nanoseconds since `start`; how long each was on its way.
pub async fn receive_times(clients: Vec<Client>, events: usize, start: Instant) -> io::Result<Vec<Duration>> {
    let tasks = clients.into_iter().map(|client| tokio::spawn(client.receive_times(events, start)));
    let times: io::Result<Vec<_>> = try_join_all(tasks).await?.into_iter().collect();
    Ok(times?.concat())
}

/// Lets the clients acknowledge every event that asks for it, until this is dropped.
pub fn answer(clients: Vec<Client>) -> JoinSet<io::Result<()>> {
    clients.into_iter().map(Client::answer).collect()
}

impl Client {
    async fn connect(address: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut client = Self { stream, buffer: Vec::new(), start: 0 };
        while !client.skip_headers() {
            client.read().await?;
        }
        client.send("40").await?;
        while !client.next().await?.starts_with(b"40") {}
        Ok(client)
    }

    /// Joins a room, where clients may.
    pub async fn join(&mut self, room: &str) -> io::Result<()> {
        self.send(&format!("420[\"join\",\"{room}\"]")).await?;
        while !self.next().await?.starts_with(b"430") {}
        Ok(())
    }

    async fn receive(mut self, events: usize) -> io::Result<Received> {
        let mut numbers = Vec::with_capacity(events);
        while numbers.len() < events {
            numbers.push(self.next_number().await?);
        }
        Ok(Received { last: Instant::now(), numbers })
    }

    async fn receive_all(mut self) -> usize {
        let mut count = 0;
        while let Ok(Ok(_)) = timeout(SILENCE, self.next_number()).await {
            count += 1;
        }
        count
    }

    async fn receive_times(mut self, events: usize, start: Instant) -> io::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(events);
        for _ in 0..events {
            let sent = self.next_number().await?;
            times.push(start.elapsed().saturating_sub(Duration::from_nanos(sent)));
        }
        Ok(times)
    }

    async fn answer(mut self) -> io::Result<()> {
        loop {
            match self.next().await? {
                b"2" => self.send("3").await?,
                text => {
                    if let Some(id) = question_of(text) {
                        self.send(&format!("43{id}[1]")).await?;
                    }
                }
            }
        }
    }

    /// The number that the next event carries.
    async fn next_number(&mut self) -> io::Result<u64> {
        let number = async {
            loop {
                match self.next().await? {
                    b"2" => self.send("3").await?,
                    text => {
                        if let Some(number) = number_of(text) {
                            return Ok(number);
                        }
                    }
                }
            }
        };
        timeout(PATIENCE, number).await.unwrap_or_else(|_| Err(io::Error::other("an event did not come")))
    }

    /// Whether the HTTP headers have come; they are skipped.
    fn skip_headers(&mut self) -> bool {
        let end = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        end.is_some_and(|end| {
            self.start = end + 4;
            true
        })
    }

    /// The text of the next frame.
    async fn next(&mut self) -> io::Result<&[u8]> {
        let (from, to) = loop {
            if let Some(range) = frame(&self.buffer[self.start..]) {
                break (self.start + range.0, self.start + range.1);
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.read().await?;
        };
        self.start = to;
        Ok(&self.buffer[from..to])
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::other("the server has hung up")),
            _ => Ok(()),
        }
    }

    /// Sends a short text, masked with nothing.
    async fn send(&mut self, text: &str) -> io::Result<()> {
        let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await
    }
}

/// Where the payload of the first frame begins and ends, if all of it is there.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, length) = match bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= header + length).then_some((header, header + length))
}

/// The id in `427["question",1]`.
fn question_of(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.strip_prefix("42")?.split_once('[')?.0.parse().ok()
}

/// The number in `42["tick",7]`, if it counts.
fn number_of(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.strip_prefix("42[\"tick\",")?.strip_suffix(']')?.parse().ok().filter(|number| *number != READY)
}
