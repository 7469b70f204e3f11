//! `pgio nodes`: lists the live nodes.

mod node_table;
mod table;
mod watch;

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, timeout_at};

use super::arguments::{Format, Global};
use super::connection::RetryBudget;
use super::duration;
use super::exit::Failure;
use super::namespaces::{Observed, ObservedNamespaces};
use super::output::lines::Lines;
use super::output::number;
use super::socket_inventory;
use crate::cluster::NodeMonitor;
use crate::{Cluster, Namespace};
use node_table::{Change, NodeTable};

/// Show which servers are live
///
/// Sends a request to all servers, and lists those that answer: the round-trip time, the number of sockets, and the
/// address and application_name of the connection to Postgres, as far as this role may see them. pgio is not a member
/// of the cluster: no server counts it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio nodes                        list the live servers of /
  pgio nodes -n / -n admin          in two namespaces
  pgio nodes --min 3 -q >/dev/null  health probe: status 4 if fewer are live
  pgio nodes --watch                live table; q quits
  pgio nodes --watch -o json        one line for each change, for programs")]
pub(super) struct Nodes {
    #[command(flatten)]
    namespaces: ObservedNamespaces,
    /// The time to wait for answers
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, default_value = "1s")]
    wait: Duration,
    /// Exit with status 4 if fewer than N servers are live in any of the namespaces [default: no check]
    #[arg(long, value_name = "N", conflicts_with = "watch")]
    min: Option<usize>,
    /// Do not count sockets: each count makes every server send a list of its sockets
    #[arg(long)]
    no_sockets: bool,
    /// Keep running, and show changes: a live table on a terminal, else one line for each change
    #[arg(long)]
    watch: bool,
    /// The interval between the requests of --watch
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, default_value = "5s", requires = "watch")]
    every: Duration,
}

impl Nodes {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let cluster = global.connect(&mut RetryBudget::none()).await?;
        let observed = self.namespaces.find(global, &cluster).await?;
        let monitor = NodeMonitor::listen(&cluster, &observed.list).await?;
        match self.watch {
            true => watch::run(&self, global, monitor, observed.watch()).await,
            false => self.once(global, &cluster, monitor, &observed).await,
        }
    }

    async fn once(
        &self,
        global: &Global,
        cluster: &Cluster,
        mut monitor: NodeMonitor,
        observed: &Observed,
    ) -> Result<(), Failure> {
        let mut nodes = NodeTable::new(cluster.options());
        monitor.request(!self.no_sockets).await?;
        // If the end of the wait overflows the clock, there is no deadline.
        let deadline = Instant::now().checked_add(self.wait);
        loop {
            let event = match deadline {
                Some(deadline) => timeout_at(deadline, monitor.next()).await,
                None => Ok(monitor.next().await),
            };
            let Ok(Some(event)) = event else { break };
            if let Change::Lost(error) = nodes.apply(event) {
                return Err(error.into());
            }
        }
        cluster.ensure_loopback(self.wait)?;
        nodes.update(monitor.live_nodes().await?);
        match monitor.backends(&nodes.unknown_backends()).await {
            Ok(backends) => nodes.know_backends(&backends),
            Err(error) => global.warn(&format!("addresses are unknown: {error}")),
        }
        let live: Vec<_> = nodes.nodes().filter(|node| node.is_live()).collect();
        let mut lines = Lines::stdout();
        match global.output {
            Format::Json => live.iter().try_for_each(|node| lines.json(node))?,
            Format::Text if live.is_empty() => {}
            Format::Text => table::of(&live, table::Kind::Once).print(&mut lines)?,
        }
        lines.flush()?;
        for nsp in &observed.list {
            let of_nsp = live.iter().map(|node| node.name()).filter(|name| name.nsp == *nsp);
            let unresponsive = cluster.unresponsive(nsp, of_nsp.map(|name| &name.uid)).await;
            if unresponsive.servers() > 0 {
                let (names, wait) = (socket_inventory::names(&[], &unresponsive), self.wait);
                global.warn(&format!("not in the list, no answer in {nsp} within {wait:?}: {names}"));
            }
        }
        self.judge(global, observed, |nsp| live.iter().filter(|node| node.nsp() == nsp).count())
    }

    /// Checks that enough nodes are live in each namespace.
    fn judge(
        &self,
        global: &Global,
        observed: &Observed,
        live: impl Fn(&Namespace) -> usize,
    ) -> Result<(), Failure> {
        let mut too_few = Vec::new();
        if let Some(min) = self.min.filter(|min| *min > 0 && observed.list.is_empty()) {
            too_few.push(format!("no server was found, and {} required", number::count_is(min as u64)));
        }
        for nsp in &observed.list {
            match (live(nsp), self.min) {
                // The sessions that listen to a found namespace may not be servers.
                (0, _) if !observed.is_named(nsp) => {}
                (0, None | Some(0)) => global.note(&format!("no server is live in {nsp}")),
                (live, Some(min)) if live < min => {
                    too_few.push(too_few_live(live, nsp, min));
                }
                _ => {}
            }
        }
        match too_few.is_empty() {
            true => Ok(()),
            false => Err(Failure::TooFew(too_few.join("; "))),
        }
    }
}

/// A sentence about a namespace with fewer live servers than required.
pub(super) fn too_few_live(live: usize, nsp: &Namespace, required: usize) -> String {
    let verb = if live == 1 { "server is" } else { "servers are" };
    format!("{live} {verb} live in {nsp}, and {} required", number::count_is(required as u64))
}
