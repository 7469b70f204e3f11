//! socketioxide without Postgres: a server that emits the events itself, with the adapter for a single server. It shows
//! what a server that is built on socketioxide costs at least.

use std::io;
use std::process::Stdio;

use super::programs::Programs;
use super::server::Server;
use super::work::{self, Work};

pub const NAME: &str = "socketioxide, no Postgres";
pub const COMMAND: &str = "socketioxide-peer alone";

pub fn start(programs: &Programs) -> io::Result<Server> {
    Server::start(programs.socketioxide().arg("alone").stdin(Stdio::piped()))
}

/// Lets it send so many events to so many new clients; a pace of 0 is a flood.
pub async fn measure(server: &mut Server, count: usize, events: usize, pace: u32) -> io::Result<Work> {
    let pause = 1_000_000_u32.checked_div(pace).unwrap_or(0);
    work::measure(server, count, events, &format!("{events} {pause}")).await
}
