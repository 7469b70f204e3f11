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
mod deferred;
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
mod node_sessions;
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

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Builder;

use arguments::{Global, Log};
use deferred::Deferred;
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

/// The commands. A deferred one has the first line of its help here as well, for the list of commands.
#[derive(Subcommand)]
enum Command {
    /// Send an event to the clients of the cluster
    Emit(Deferred<emit::Emit>),
    /// Show the live traffic of the cluster, with attachments decoded
    Tail(Deferred<tail::Tail>),
    /// Show the live traffic of the cluster in a table: rates by event, room or sender
    Top(Deferred<top::Top>),
    /// Serve a web page, Prometheus metrics and a JSON API about a cluster
    Monitor(Deferred<monitor::Monitor>),
    // Not deferred: its help lists its own groups of flags before the global ones.
    Serve(Box<serve::Serve>),
    /// Show which servers are live
    Nodes(Deferred<nodes::Nodes>),
    /// Show the namespaces of the cluster, with the servers of each
    Namespaces(Deferred<list_namespaces::ListNamespaces>),
    /// Show the sockets of the whole cluster
    Sockets(Deferred<sockets::Sockets>),
    /// Show the rooms of the whole cluster
    Rooms(Deferred<rooms::Rooms>),
    /// Make sockets join rooms
    Join(Deferred<join::Join>),
    /// Make sockets leave rooms
    Leave(Deferred<leave::Leave>),
    /// Disconnect sockets
    Disconnect(Deferred<disconnect::Disconnect>),
    /// Send an event to the servers themselves, not to clients
    ServerEmit(Deferred<server_emit::ServerEmit>),
    /// Manage the attachment table: create it, inspect it, clean it up
    Attachments(Deferred<attachments::Attachments>),
    /// Emit from SQL: install functions that any database client and any trigger can call
    Sql(Deferred<sql::Sql>),
    /// Check the database, the channels and the servers for problems
    Doctor(Deferred<doctor::Doctor>),
    /// Measure this cluster: emit rate, delivery rate, latency
    Bench(Deferred<bench::Bench>),
    /// Connect to a Socket.IO server as a client, and print the events that it sends
    Client(Deferred<client::Client>),
    // Not deferred: its own --output replaces the global flag.
    Probe(probe::Probe),
    /// Manage the named clusters of the configuration file
    Context(Deferred<context::Contexts>),
    /// Print a script that lets a shell complete pgio's commands and flags
    Completions(Deferred<completions::Completions>),
    /// Print the manual page, or write the pages of all commands into a directory
    Man(Deferred<man::Man>),
}

/// The command line, with the arguments of all commands.
fn complete_command_line() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
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
    exit::report(outcome)
}

impl Command {
    /// The runtime of a command. A server uses all processors. `emit` is limited by the server process of its session, so
    /// a second thread would only take its time. Other commands mostly wait for the network.
    fn runtime(&self) -> Builder {
        match self {
            Self::Serve(_) => Builder::new_multi_thread(),
            Self::Emit(_) => Builder::new_current_thread(),
            _ => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(2);
                builder
            }
        }
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
            Self::Emit(Deferred(emit)) => emit.run(global).await,
            Self::Tail(Deferred(tail)) => exit::unless_interrupted(tail.run(global)).await,
            Self::Top(Deferred(top)) => exit::unless_interrupted(top.run(global)).await,
            Self::Monitor(Deferred(monitor)) => monitor.run(global).await,
            Self::Serve(serve) => serve.run(global).await,
            Self::Nodes(Deferred(nodes)) => exit::unless_interrupted(nodes.run(global)).await,
            Self::Namespaces(Deferred(namespaces)) => exit::unless_interrupted(namespaces.run(global)).await,
            Self::Sockets(Deferred(sockets)) => exit::unless_interrupted(sockets.run(global)).await,
            Self::Rooms(Deferred(rooms)) => exit::unless_interrupted(rooms.run(global)).await,
            Self::Join(Deferred(join)) => exit::unless_interrupted(join.run(global)).await,
            Self::Leave(Deferred(leave)) => exit::unless_interrupted(leave.run(global)).await,
            Self::Disconnect(Deferred(disconnect)) => exit::unless_interrupted(disconnect.run(global)).await,
            Self::ServerEmit(Deferred(event)) => exit::unless_interrupted(event.run(global)).await,
            Self::Attachments(Deferred(attachments)) => attachments.run(global).await,
            Self::Sql(Deferred(sql)) => sql.run(global).await,
            Self::Doctor(Deferred(doctor)) => exit::unless_interrupted(doctor.run(global)).await,
            Self::Bench(Deferred(bench)) => exit::unless_interrupted(bench.run(global)).await,
            Self::Client(Deferred(client)) => client.run(global).await,
            Self::Probe(probe) => probe.run(global).await,
            Self::Context(Deferred(contexts)) => contexts.run(global),
            Self::Completions(Deferred(completions)) => completions.run(),
            Self::Man(Deferred(man)) => man.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_the_same_description_in_the_list_and_in_its_help() {
        let complete = complete_command_line();
        for listed in Cli::command().get_subcommands() {
            let own = complete.find_subcommand(listed.get_name()).unwrap();
            let describe = |command: &clap::Command| command.get_about().map(ToString::to_string);
            assert_eq!(describe(listed), describe(own), "{}", own.get_name());
            assert!(listed.get_arguments().count() <= own.get_arguments().count());
        }
    }
}
