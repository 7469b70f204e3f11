//! The least that a server can do for its clients: one `write` of the frame for each of them, and nothing else. It is a
//! process of its own: `peers bare-write CLIENTS EVENTS PAUSE`, with the microseconds between two events.
//!
//! Its clients are those of the real servers, so it answers their handshakes. It begins when it gets a line.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use super::server::Server;
use super::work::{self, Work};

pub const NAME: &str = "bare write, no Postgres";
pub const COMMAND: &str = "one write(2) a frame and client";

/// The name of the role.
pub const ROLE: &str = "bare-write";

/// What the process does.
pub fn play(mut arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let mut number = || -> io::Result<u64> {
        let text = arguments.next().ok_or_else(|| io::Error::other("an argument is missing"))?;
        text.parse().map_err(io::Error::other)
    };
    let (clients, events, pause) = (number()?, number()?, Duration::from_micros(number()?));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{{\"address\":\"{}\"}}", listener.local_addr()?);
    let mut sockets = (0..clients).map(|_| greet(listener.accept()?.0)).collect::<io::Result<Vec<_>>>()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    for event in 0..events {
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        let frame = frame(&format!("42[\"tick\",{event}]"));
        sockets.iter_mut().try_for_each(|socket| socket.write_all(&frame))?;
    }
    // Until it is killed: its figures are read before.
    io::stdin().read_line(&mut line).map(|_| ())
}

/// Lets a client in.
fn greet(mut socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?;
    // "40", masked.
    io::Read::read_exact(&mut reader, &mut [0; 8])?;
    socket.write_all(&frame("40{}"))?;
    Ok(socket)
}

/// A short text as a frame.
fn frame(text: &str) -> Vec<u8> {
    [&[0x81, text.len() as u8], text.as_bytes()].concat()
}

/// Runs the process with so many clients; a pace of 0 is a flood.
pub async fn measure(count: usize, events: usize, pace: u32) -> io::Result<Work> {
    let pause = 1_000_000_u32.checked_div(pace).unwrap_or(0);
    let mut command = super::own_role(ROLE)?;
    command.args([count.to_string(), events.to_string(), pause.to_string()]).stdin(Stdio::piped());
    let mut server = Server::start(&mut command)?;
    work::measure(&mut server, count, events, "").await
}
