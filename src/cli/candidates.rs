//! Completion candidates for values: rooms, servers and namespaces of the live cluster, message types, time zones.
//!
//! A shell waits for the candidates while a person types. So all requests to the cluster share one short deadline, and
//! a request without an answer yields no candidates.

use std::time::Duration;

use clap::builder::ValueHint;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use tokio::time::timeout;

use super::namespaces::Finder;
use super::{complete_command_line, connection};
use crate::protocol::MessageKind;
use crate::{AdapterOptions, Cluster, Emitter, Namespace, Result};

/// The deadline of all requests together.
const DEADLINE: Duration = Duration::from_millis(1500);

/// The timeout for the answers of the servers.
const ANSWERS: Duration = Duration::from_millis(500);

/// The maximum number of candidates.
const MOST: usize = 200;

/// The command line, with completion candidates for the values of its flags and arguments.
pub(super) fn command() -> Command {
    with_candidates(complete_command_line())
}

fn with_candidates(command: Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = command.mut_args(offer);
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_candidates))
}

fn offer(arg: Arg) -> Arg {
    let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    match (arg.get_id().as_str(), value.as_deref()) {
        ("rooms" | "except" | "into" | "out_of", _) => arg.add(ArgValueCandidates::new(rooms)),
        ("sockets", Some("ID")) => arg.add(ArgValueCandidates::new(sockets)),
        ("uids", _) => arg.add(ArgValueCandidates::new(uids)),
        ("namespaces", _) => arg.add(ArgValueCandidates::new(namespaces)),
        ("types", _) => arg.add(ArgValueCandidates::new(types)),
        ("tz", _) => arg.add(ArgValueCandidates::new(time_zones)),
        (_, Some("FILE")) => arg.value_hint(ValueHint::FilePath),
        (_, Some("DIR")) => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    }
}

fn types() -> Vec<CompletionCandidate> {
    MessageKind::ALL.iter().map(|kind| CompletionCandidate::new(kind.name())).collect()
}

fn time_zones() -> Vec<CompletionCandidate> {
    jiff::tz::db().available().map(|name| CompletionCandidate::new(name.as_str())).collect()
}

fn rooms() -> Vec<CompletionCandidate> {
    of_cluster(async |cluster| {
        let sockets =
            Emitter::new(cluster.clone()).timeout(ANSWERS).await_discovered_only().fetch_sockets().await?;
        let rooms = sockets.answers.iter().flat_map(|answer| {
            let socket = &answer.value;
            socket.rooms.iter().filter(|room| **room != socket.id).cloned()
        });
        Ok(rooms.collect())
    })
}

fn sockets() -> Vec<CompletionCandidate> {
    of_cluster(async |cluster| {
        let sockets =
            Emitter::new(cluster.clone()).timeout(ANSWERS).await_discovered_only().fetch_sockets().await?;
        Ok(sockets.answers.into_iter().map(|answer| answer.value.id).collect())
    })
}

fn uids() -> Vec<CompletionCandidate> {
    of_cluster(async |cluster| {
        let nodes = cluster.nodes(Namespace::default(), ANSWERS, usize::MAX).await?;
        Ok(nodes.into_iter().map(|node| node.uid.to_string()).collect())
    })
}

fn namespaces() -> Vec<CompletionCandidate> {
    of_cluster(async |cluster| {
        let found = Finder::connect(connection::without_flags()?, cluster).await?.find().await?;
        Ok(found.namespaces().map(ToString::to_string).collect())
    })
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Option<T> {
    timeout(DEADLINE, work).await.ok()?.ok()
}

/// Sends a request to the cluster that the environment names. Returns the answer sorted and without duplicates. The
/// list is empty if the request fails or takes too long.
fn of_cluster(ask: impl AsyncFn(&Cluster) -> Result<Vec<String>>) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let answer = runtime.block_on(in_time(async {
        let mut options = AdapterOptions::default();
        if let Ok(prefix) = std::env::var("PGIO_CHANNEL_PREFIX") {
            options.channel_prefix = prefix;
        }
        let cluster = Cluster::connect(connection::without_flags()?, options).await?;
        ask(&cluster).await
    }));
    runtime.shutdown_background();
    let mut names = answer.unwrap_or_default();
    names.sort();
    names.dedup();
    names.into_iter().take(MOST).map(CompletionCandidate::new).collect()
}
