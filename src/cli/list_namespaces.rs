//! `pgio namespaces`: lists the namespaces of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::arguments::{Format, Global};
use super::connection::RetryBudget;
use super::duration;
use super::exit::Failure;
use super::listing::Listing;
use super::namespaces::ObservedNamespaces;
use super::output::number;
use super::output::table::{Column, Table, cell};
use crate::cluster::NodeMonitor;
use crate::protocol::Uid;

/// Show the namespaces of the cluster, with the servers of each
///
/// Postgres does not show the channels of other sessions, so pgio reads three sources: the last statement of each
/// session (a Node server has executed LISTEN for its latest namespace), the answers of pgio nodes, and the rows of the
/// attachment table. The list omits a namespace that is in none of them. Only members of pg_read_all_stats see the
/// statements of other roles. Then pgio sends a request to the servers of each namespace. pgio is not a member of the
/// cluster: no server counts it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio namespaces                  all namespaces that pgio finds
  pgio namespaces -n '/org/*'      filter by a glob
  pgio namespaces -n / -n admin    the servers of these two
  pgio namespaces -o json | jq -r 'select(.servers == []).namespace'")]
pub(super) struct ListNamespaces {
    #[command(flatten)]
    namespaces: ObservedNamespaces,
    /// The time to wait for the answers of the servers
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, default_value = "1s")]
    wait: Duration,
    #[command(flatten)]
    listing: Listing,
}

/// A row of the list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    namespace: &'a str,
    /// The uids of its servers.
    servers: Vec<Uid>,
    found_by: Vec<&'static str>,
    #[serde(skip)]
    is_named: bool,
}

impl ListNamespaces {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let cluster = global.connect(&mut RetryBudget::none()).await?;
        let namespaces = self.namespaces.or_all();
        let observed = namespaces.find(global, &cluster).await?;
        let mut monitor = NodeMonitor::listen(&cluster, &observed.list).await?;
        monitor.request(false).await?;
        tokio::time::sleep(self.wait).await;
        cluster.ensure_loopback(self.wait)?;
        let mut servers: BTreeMap<_, BTreeSet<Uid>> = BTreeMap::new();
        for (node, _) in monitor.live_nodes().await? {
            servers.entry(node.nsp).or_default().insert(node.uid);
        }
        let rows = observed.list.iter().map(|nsp| Row {
            namespace: nsp.as_str(),
            servers: servers.remove(nsp).into_iter().flatten().collect(),
            is_named: observed.is_named(nsp),
            found_by: observed.sources(nsp).into_iter().map(|source| source.name()).collect(),
        });
        let rows: Vec<_> = rows.collect();
        // Drops a namespace without servers and sources, such as `/`, unless the user named it.
        let is_there = |row: &Row<'_>| !row.servers.is_empty() || !row.found_by.is_empty() || row.is_named;
        let rows: Vec<_> = rows.into_iter().filter(is_there).collect();
        let mut lines = self.listing.lines();
        let shown = self.listing.shown(&rows);
        match global.output {
            Format::Json => shown.iter().try_for_each(|row| lines.json(row))?,
            Format::Text if shown.is_empty() => {}
            Format::Text => table(shown).print(&mut lines)?,
        }
        lines.flush()?;
        self.listing.tell_total(global, rows.len(), "namespace");
        match self.listing.min.filter(|min| rows.len() < *min) {
            Some(min) => Err(Failure::TooFew(format!(
                "{}, and {} required",
                number::counted(rows.len() as u64, "namespace"),
                number::count_is(min as u64)
            ))),
            None => Ok(()),
        }
    }
}

fn table(rows: &[Row<'_>]) -> Table {
    let mut table = Table::new(vec![
        Column::text("NAMESPACE").sharing(),
        Column::number("SERVERS"),
        Column::text("UIDS").sharing(),
        Column::text("FOUND BY"),
    ]);
    for row in rows {
        let uids: Vec<_> = row.servers.iter().map(Uid::as_str).collect();
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        table.row(vec![
            cell(row.namespace),
            cell(&number::count(row.servers.len() as u64)),
            cell(&or_dash(uids.join(", "))),
            cell(&or_dash(row.found_by.join(", "))),
        ]);
    }
    table
}
