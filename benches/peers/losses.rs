//! How many events of a flood reach the clients of servers with their default limits.

use std::io;

use super::clients;
use super::peers::Peer;
use super::programs::Programs;
use super::report;
use super::server::Server;

/// Clients, and events to each of them.
const FLOODS: [(usize, usize); 2] = [(1, 100_000), (100, 5_000)];

pub async fn run(programs: &Programs) -> io::Result<()> {
    for (count, events) in FLOODS {
        let clients = if count == 1 { "one client".into() } else { format!("{count} clients") };
        report::heading(&format!(
            "{events} small events at full speed to {clients}, default limits: received"
        ));
        for peer in Peer::ALL {
            let publisher = peer.publisher(programs).await?;
            let mut command = peer.server(programs, &["/".into()]);
            if let Peer::Socketioxide = peer {
                command.env("SOCKETIOXIDE_DEFAULTS", "1");
            }
            let server = Server::start(&mut command)?;
            clients::until_reached(&publisher, &server.address).await?;
            let clients = clients::connect(&server.address, count).await?;
            let receiving = tokio::spawn(clients::receive_all(clients));
            publisher.flood(publisher.prepare(events)).await?;
            let share = receiving.await?? as f64 / (count * events) as f64;
            report::share(peer.name(), share, peer.command());
        }
    }
    Ok(())
}
