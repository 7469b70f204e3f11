//! `pgio join`: makes sockets join rooms.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::arguments::Global;
use super::exit::Failure;
use super::request::Request;

/// Make sockets join rooms
///
/// Exit status 0 means that Postgres has committed the request, not that a server has executed it. Sockets that connect
/// later are not affected. Without --room, --socket and --except it asks for confirmation, or needs --yes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio join --room r1 r2                 add the sockets of r1 to r2
  pgio join vip --socket KqJ8            one socket, by its id
  pgio join everyone -n admin --yes      all sockets of a namespace
  pgio join a b --room r1 --except a     into two rooms")]
pub(super) struct Join {
    /// The rooms to join
    #[arg(required = true, value_name = "ROOM", value_parser = NonEmptyStringValueParser::new())]
    into: Vec<String>,
    #[command(flatten)]
    request: Request,
}

impl Join {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let Self { into, request } = self;
        let rooms = into.join(", ");
        let join = async |operator: crate::BroadcastOperator| operator.join(into.as_slice()).await;
        let question = |which: &str| format!("make {which} join {rooms}");
        request.send(global, question, join, |which| format!("requested that {which} join {rooms}")).await
    }
}
