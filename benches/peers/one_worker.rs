//! `pgio serve` with one worker thread.

use std::io;

use super::peers::Peer;
use super::programs::Programs;
use super::server::Server;

pub const NAME: &str = "pgio, one worker thread";
pub const COMMAND: &str = "TOKIO_WORKER_THREADS=1 pgio serve";

pub fn start(programs: &Programs) -> io::Result<Server> {
    Server::start(Peer::Pgio.server(programs, &["/".into()]).env("TOKIO_WORKER_THREADS", "1"))
}
