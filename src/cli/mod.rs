//! The command line: one file a command, and what they share.

mod arguments;
mod census;
mod confirm;
mod connection;
mod disconnect;
mod duration;
mod emit;
mod event_line;
mod exit;
mod join;
mod leave;
mod nodes;
mod output;
mod rooms;
mod server_emit;
mod sockets;
mod tagged;
mod tail;
mod target;
mod values;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use arguments::Global;
use exit::Failure;

/// Operate Socket.IO clusters that run on Postgres.
///
/// pgio speaks the protocol of the Node packages @socket.io/postgres-adapter 0.3 to 0.5 and
/// @socket.io/postgres-emitter: it emits to the clients of such a cluster and shows what its servers say to each other.
#[derive(Parser)]
#[command(name = "pgio", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  pgio emit --room r1 ping '<>'     an event for the clients in a room
  pgio tail                         what the servers of the cluster say, live
  pgio tail -o json > today.jsonl   the same, to be kept
  pgio emit --from today.jsonl      and played again

Exit status: 0 done, 1 failed, 2 usage, 3 database unreachable or refused,
4 too few nodes or acknowledgements in time, 130 interrupted.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Emit(emit::Emit),
    Tail(tail::Tail),
    Nodes(nodes::Nodes),
    Sockets(sockets::Sockets),
    Rooms(rooms::Rooms),
    Join(join::Join),
    Leave(leave::Leave),
    Disconnect(disconnect::Disconnect),
    ServerEmit(server_emit::ServerEmit),
}

/// Parses the command line, runs the command and tells the exit status.
#[doc(hidden)]
pub fn main() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help_or_usage) => return exit::usage(&help_or_usage),
    };
    global.start_log();
    let outcome = Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Failure::from);
    let outcome = outcome.and_then(|runtime| {
        let outcome = runtime.block_on(command.run(&global));
        // A read of stdin that nobody waits for any more must not keep the program.
        runtime.shutdown_background();
        outcome
    });
    exit::report(outcome, &global)
}

impl Command {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Emit(emit) => emit.run(global).await,
            Self::Tail(tail) => exit::unless_interrupted(tail.run(global)).await,
            Self::Nodes(nodes) => exit::unless_interrupted(nodes.run(global)).await,
            Self::Sockets(sockets) => exit::unless_interrupted(sockets.run(global)).await,
            Self::Rooms(rooms) => exit::unless_interrupted(rooms.run(global)).await,
            Self::Join(join) => exit::unless_interrupted(join.run(global)).await,
            Self::Leave(leave) => exit::unless_interrupted(leave.run(global)).await,
            Self::Disconnect(disconnect) => exit::unless_interrupted(disconnect.run(global)).await,
            Self::ServerEmit(event) => exit::unless_interrupted(event.run(global)).await,
        }
    }
}
