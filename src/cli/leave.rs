//! `pgio leave`: makes sockets leave rooms.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::arguments::Global;
use super::exit::Failure;
use super::request::Request;

/// Make sockets leave rooms
///
/// Exit status 0 means that Postgres has committed the request, not that a server has executed it. Without
/// --room, --socket and --except it asks for confirmation, or needs --yes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio leave r1 --room r1                empty a room
  pgio leave r1 r2 --except staff        all sockets that are not in staff
  pgio leave vip --socket KqJ8           one socket, by its id
  pgio leave r1 -n / -n admin --yes      all sockets of two namespaces")]
pub(super) struct Leave {
    /// The rooms to leave
    #[arg(required = true, value_name = "ROOM", value_parser = NonEmptyStringValueParser::new())]
    out_of: Vec<String>,
    #[command(flatten)]
    request: Request,
}

impl Leave {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let Self { out_of, request } = self;
        let rooms = out_of.join(", ");
        let leave = async |operator: crate::BroadcastOperator| operator.leave(out_of.as_slice()).await;
        let question = |which: &str| format!("make {which} leave {rooms}");
        request.send(global, question, leave, |which| format!("requested that {which} leave {rooms}")).await
    }
}
