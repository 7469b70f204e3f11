//! `pgio disconnect`: sockets out of the cluster.

use clap::Args;

use super::arguments::{Global, Namespaces};
use super::confirm::confirm;
use super::exit::Failure;
use super::target::Target;

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
    namespaces: Namespaces,
    #[command(flatten)]
    target: Target,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Disconnect {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let Self { close, namespaces, target, yes } = self;
        let namespaces = namespaces.list();
        let which = target.describe(&namespaces);
        if target.is_everyone() {
            confirm(&format!("disconnect {which}"), yes).await?;
        }
        let disconnect = async |operator: crate::BroadcastOperator| operator.disconnect(close).await;
        target.tell(global, &namespaces, disconnect, &format!("disconnected {which}")).await
    }
}
