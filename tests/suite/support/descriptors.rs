//! A `pgio serve` without free file descriptors.

use nix::sys::resource::{Resource, setrlimit};

use super::pgio_serve::{PgioServe, command};
use super::raw_websocket::RawWebsocket;

/// The hard limit of the server.
const HARD_LIMIT: u64 = 200;

/// Starts a server with few file descriptors, and as many clients as it accepts.
pub async fn full_of_clients(url: &str, soft_limit: u64) -> (PgioServe, Vec<RawWebsocket>) {
    let mut command = command(["serve", "--listen", "127.0.0.1:0", "--database-url", url]);
    let limit =
        move || setrlimit(Resource::RLIMIT_NOFILE, soft_limit, HARD_LIMIT).map_err(std::io::Error::from);
    // SAFETY: setrlimit is one system call.
    unsafe { command.pre_exec(limit) };
    let serve = PgioServe::spawn(command).await;
    let mut clients = Vec::new();
    while clients.len() < 200
        && let Some(client) = RawWebsocket::try_open(serve.address()).await
    {
        clients.push(client);
    }
    (serve, clients)
}
