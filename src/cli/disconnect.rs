//! `pgio disconnect`: disconnects sockets.

use clap::Args;

use super::arguments::Global;
use super::exit::Failure;
use super::request::Request;

/// Disconnect sockets
///
/// Disconnects sockets from their namespace. With --close, the servers close the connections, and so
/// disconnect the clients from all namespaces. A client that a server disconnects does not reconnect automatically. Exit
/// status 0 means that Postgres has committed the request, not that a server has executed it. Without
/// --room, --socket and --except it asks for confirmation, or needs --yes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio disconnect --room r1              the sockets in r1
  pgio disconnect --close --socket KqJ8   one client, by its socket id
  pgio disconnect -n admin --except staff
  pgio disconnect --close --yes          all sockets of /, unconfirmed")]
pub(super) struct Disconnect {
    /// Close the connections as well
    #[arg(long)]
    close: bool,
    #[command(flatten)]
    request: Request,
}

impl Disconnect {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let Self { close, request } = self;
        let disconnect = async |operator: crate::BroadcastOperator| operator.disconnect(close).await;
        let question = |which: &str| format!("disconnect {which}");
        request
            .send(global, question, disconnect, |which| format!("requested that {which} be disconnected"))
            .await
    }
}
