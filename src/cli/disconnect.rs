//! `pgio disconnect`: sockets out of the cluster.

use clap::Args;

use super::arguments::Global;
use super::exit::Failure;
use super::request::Request;

/// Disconnect sockets
///
/// From their namespace; with --close their connections are closed, and with them the client's other namespaces. A client
/// that is told to leave does not come back by itself. Exit status 0 means that Postgres has committed the request, not
/// that a server has carried it out. Without --room and --except it asks first.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio disconnect --room r1              whoever is in r1
  pgio disconnect --close -r KqJ8bZ0fEyYpW-8dAAAB   one client, by its socket id
  pgio disconnect -n admin --except staff
  pgio disconnect --close --yes          everybody in /, without a question")]
pub(super) struct Disconnect {
    /// Close the connections, too
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
        request.send(global, question, disconnect, |which| format!("disconnected {which}")).await
    }
}
