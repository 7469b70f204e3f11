//! The command line: one file for each command, and the code that commands share.

mod arguments;
mod attachments;
mod bench;
mod binary_json;
mod candidates;
mod client;
mod completions;
mod config;
mod confirm;
mod connection;
mod context;
mod disconnect;
mod doctor;
mod duration;
mod emit;
mod event_line;
#[cfg(test)]
mod examples;
mod exit;
mod expect;
mod glob;
mod join;
mod leave;
mod list_namespaces;
mod listing;
mod log;
mod man;
mod monitor;
mod namespaces;
mod nodes;
mod observer;
mod output;
mod probe;
mod request;
mod rooms;
mod screen;
mod serve;
mod server_emit;
mod signals;
mod size;
mod socket;
mod socket_ids;
mod socket_inventory;
mod sockets;
mod sql;
mod suggestion;
mod tail;
mod target;
mod timestamp;
mod top;
mod traffic;
mod values;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use arguments::{Global, Log};
use exit::Failure;

/// Operate Socket.IO clusters that run on Postgres.
///
/// pgio speaks the protocol of the Node packages @socket.io/postgres-adapter 0.3 to 0.5 and
/// @socket.io/postgres-emitter. It emits events to the clients of a cluster, prints the messages between its servers,
/// inspects rooms and sockets, and runs a server.
///
/// A TIME is a number with a unit: 500ms, 5s, 1m30s, 2h. In the adapter options, a number without a unit is milliseconds.
/// A SIZE is a number of bytes, or has a unit: 500kB, 1MB, 16MiB. A GLOB matches with *, ?, [a-z] and {a,b}.
#[derive(Parser)]
#[command(name = "pgio", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Exit status: 0 done, 1 failed, 2 usage, 3 database unreachable or refused,
4 too few nodes, sockets or acknowledgements in time, 130 interrupted.

Examples:
  pgio serve                      run a server, with a private Postgres
  pgio emit --room r1 ping '<>'   send an event to the clients in a room
  pgio tail                       print the messages between servers, live
  pgio nodes --watch              list the live servers, and each change
  pgio doctor                     check the database and the cluster")]
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
    Top(top::Top),
    Monitor(monitor::Monitor),
    Serve(Box<serve::Serve>),
    Nodes(nodes::Nodes),
    Namespaces(list_namespaces::ListNamespaces),
    Sockets(sockets::Sockets),
    Rooms(rooms::Rooms),
    Join(join::Join),
    Leave(leave::Leave),
    Disconnect(disconnect::Disconnect),
    ServerEmit(server_emit::ServerEmit),
    Attachments(attachments::Attachments),
    Sql(sql::Sql),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    Client(client::Client),
    Probe(probe::Probe),
    Context(context::Contexts),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Parses the command line, runs the command and returns the exit status.
#[doc(hidden)]
pub fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(candidates::command).var(completions::VARIABLE).complete();
    let Cli { mut global, command } = match config::parse_command_line() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    global.settle_output();
    global.start_log(command.log());
    if command.uses_a_database() {
        global.outranked.iter().for_each(|sentence| global.note(sentence));
    }
    let outcome = command.runtime().enable_all().build().map_err(Failure::from);
    let outcome = outcome.and_then(|runtime| {
        let outcome = runtime.block_on(command.run(&global));
        // A pending read of stdin must not delay the exit.
        runtime.shutdown_background();
        outcome
    });
    log::finish();
    exit::report(outcome, &global)
}

impl Command {
    /// The runtime of a command. A server uses all processors; other commands mostly wait for the network.
    fn runtime(&self) -> Builder {
        let mut builder = Builder::new_multi_thread();
        if !matches!(self, Self::Serve(_)) {
            builder.worker_threads(2);
        }
        builder
    }

    fn uses_a_database(&self) -> bool {
        !matches!(self, Self::Client(_) | Self::Completions(_) | Self::Context(_) | Self::Man(_))
    }

    fn log(&self) -> Log {
        match self {
            Self::Serve(serve) => serve.log(),
            Self::Monitor(_) => monitor::Monitor::log(),
            _ => Log::default(),
        }
    }

    async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Emit(emit) => emit.run(global).await,
            Self::Tail(tail) => exit::unless_interrupted(tail.run(global)).await,
            Self::Top(top) => exit::unless_interrupted(top.run(global)).await,
            Self::Monitor(monitor) => monitor.run(global).await,
            Self::Serve(serve) => serve.run(global).await,
            Self::Nodes(nodes) => exit::unless_interrupted(nodes.run(global)).await,
            Self::Namespaces(namespaces) => exit::unless_interrupted(namespaces.run(global)).await,
            Self::Sockets(sockets) => exit::unless_interrupted(sockets.run(global)).await,
            Self::Rooms(rooms) => exit::unless_interrupted(rooms.run(global)).await,
            Self::Join(join) => exit::unless_interrupted(join.run(global)).await,
            Self::Leave(leave) => exit::unless_interrupted(leave.run(global)).await,
            Self::Disconnect(disconnect) => exit::unless_interrupted(disconnect.run(global)).await,
            Self::ServerEmit(event) => exit::unless_interrupted(event.run(global)).await,
            Self::Attachments(attachments) => attachments.run(global).await,
            Self::Sql(sql) => sql.run(global).await,
            Self::Doctor(doctor) => exit::unless_interrupted(doctor.run(global)).await,
            Self::Bench(bench) => exit::unless_interrupted(bench.run(global)).await,
            Self::Client(client) => exit::unless_interrupted(client.run(global)).await,
            Self::Probe(probe) => exit::unless_interrupted(probe.run(global)).await,
            Self::Context(contexts) => contexts.run(global),
            Self::Completions(completions) => completions.run(),
            Self::Man(man) => man.run(),
        }
    }
}
