//! The servers that are measured beside each other: Node's, socketioxide's and ours.

use std::io;
use std::process::Command;

use super::format::Format;
use super::programs::Programs;
use super::publisher::Publisher;
use super::server::Server;

#[derive(Clone, Copy)]
pub enum Peer {
    Node,
    Socketioxide,
    Pgio,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::Node, Self::Socketioxide, Self::Pgio];

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Socketioxide => "socketioxide",
            Self::Pgio => "pgio",
        }
    }

    /// The command of its server, for the reader of the figures.
    pub fn command(self) -> &'static str {
        match self {
            Self::Node => "node server.js   # @socket.io/postgres-adapter 0.5.0",
            Self::Socketioxide => "socketioxide-peer serve   # socketioxide-postgres 0.2.0",
            Self::Pgio => "pgio serve",
        }
    }

    /// A server with these namespaces, ready to be started. Clients may join rooms.
    pub fn server(self, programs: &Programs, namespaces: &[String]) -> Command {
        match self {
            Self::Node => {
                let mut command = programs.node("server.js");
                command.args(namespaces);
                command
            }
            Self::Socketioxide => {
                let mut command = programs.socketioxide();
                command.arg("serve").args(namespaces);
                command
            }
            Self::Pgio => {
                let mut command = programs.pgio();
                command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--allow-join", "*"]);
                // All clients are on one address.
                command.args(["--max-clients-per-address", "100000"]);
                for namespace in namespaces {
                    command.args(["-n", namespace]);
                }
                command
            }
        }
    }

    /// Its server, started, with the main namespace.
    pub fn start(self, programs: &Programs) -> io::Result<Server> {
        Server::start(&mut self.server(programs, &["/".into()]))
    }

    /// What publishes events that its servers understand.
    pub async fn publisher(self, programs: &Programs) -> io::Result<Publisher> {
        let format = match self {
            Self::Node | Self::Pgio => Format::of_node(),
            Self::Socketioxide => Format::of_socketioxide(programs)?,
        };
        Publisher::connect(programs.url(), format).await
    }
}
