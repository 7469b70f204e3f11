//! `pgio attachments stats`: the number, size and age of the rows, dead rows, and the next cleanup.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{age, millis};
use crate::cli::arguments::{Format, Global};
use crate::cli::duration;
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::number::{count, size};
use crate::cli::output::safe;
use crate::postgres::{AttachmentTable, Cleaner, Statistics};

/// The bounds between the age groups. The cleanup interval is one more bound.
const BOUNDS: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3600),
    Duration::from_secs(86_400),
];

/// The length of the longest bar, in characters.
const BAR: u64 = 30;

/// The maximum number of listed servers that clean up.
const CLEANERS: usize = 5;

/// Show the number, size and age of the rows in the attachment table
///
/// Rows older than --cleanup-interval are expired: a server deletes them at its next cleanup. Dead rows (dead tuples)
/// are deleted rows whose space VACUUM has not freed yet; their number is an estimate of Postgres.
///
/// The next cleanup of a server is known only while the cleanup is the last statement of one of its sessions in
/// pg_stat_activity. So --wait watches for longer. To see sessions of other users, the role has to be a superuser or a
/// member of pg_read_all_stats.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments stats                            rows by age, and their size
  pgio attachments stats --wait 35s                 and the next cleanup
  pgio attachments stats --cleanup-interval 5m      servers keep rows longer
  pgio attachments stats -o json | jq .expiredRows  for monitoring")]
pub(super) struct Stats {
    /// The time to watch for servers that clean up, such as 35s [default: check once]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "0s", hide_default_value = true)]
    wait: Duration,
}

impl Stats {
    pub(super) async fn run(self, global: &Global, table: &AttachmentTable) -> Result<(), Failure> {
        let interval = global.adapter_options().cleanup_interval;
        let mut bounds: Vec<_> =
            BOUNDS.into_iter().chain([interval]).filter(|bound| !bound.is_zero()).collect();
        bounds.sort();
        bounds.dedup();
        let statistics = table.statistics(&bounds).await?;
        let report = Report {
            table,
            interval,
            bounds,
            statistics,
            unlogged: table.existing_shape().await?.definition.is_unlogged,
            waited: self.wait,
            cleaners: table.cleaners(self.wait).await?,
        };
        let mut lines = Lines::stdout();
        match global.output {
            Format::Json => lines.json(&report.object())?,
            Format::Text => report.print(&mut lines)?,
        }
        lines.flush()
    }
}

struct Report<'a> {
    table: &'a AttachmentTable,
    interval: Duration,
    bounds: Vec<Duration>,
    statistics: Statistics,
    unlogged: bool,
    /// The time for which the command watched for servers that clean up.
    waited: Duration,
    cleaners: Vec<Cleaner>,
}

impl Report<'_> {
    fn rows(&self) -> u64 {
        self.statistics.ages.iter().map(|group| group.rows).sum()
    }

    fn bytes(&self) -> u64 {
        self.statistics.ages.iter().map(|group| group.bytes).sum()
    }

    /// The number of rows that the next cleanup deletes.
    fn expired(&self) -> u64 {
        let groups = self.statistics.ages.iter().take(self.bounds.len() + 1).enumerate();
        groups.filter(|(index, _)| self.from(*index) >= self.interval).map(|(_, group)| group.rows).sum()
    }

    /// The lower age bound of a group.
    fn from(&self, group: usize) -> Duration {
        group.checked_sub(1).and_then(|index| self.bounds.get(index)).copied().unwrap_or_default()
    }

    fn object(&self) -> serde_json::Value {
        let known = self.statistics.ages.iter().take(self.bounds.len() + 1).enumerate();
        let ages = known.map(|(index, group)| {
            json!({
                "fromMs": millis(self.from(index)),
                "toMs": self.bounds.get(index).copied().map(millis),
                "rows": group.rows,
                "bytes": group.bytes,
            })
        });
        let unknown = self.statistics.ages.last().map_or(0, |group| group.rows);
        let time = |at: Option<Timestamp>| at.map(|at| format!("{at:.3}"));
        let cleaners = self.cleaners.iter().map(|cleaner| {
            json!({
                "pid": cleaner.pid,
                "application": cleaner.application,
                "address": cleaner.address,
                "intervalMs": millis(cleaner.interval),
                "last": time(cleaner.last),
                "dueInMs": millis(cleaner.due_in().unwrap_or_default()),
            })
        });
        json!({
            "table": self.table.name().as_sql(),
            "rows": self.rows(),
            "bytes": self.bytes(),
            "diskBytes": self.statistics.disk_bytes,
            "expiredRows": self.expired(),
            "oldest": time(self.statistics.oldest),
            "oldestAgeMs": self.statistics.oldest_age.map(millis),
            "deadRows": self.statistics.dead_rows,
            "vacuumed": time(self.statistics.vacuumed),
            "unlogged": self.unlogged,
            "ages": ages.collect::<Vec<_>>(),
            "rowsOfUnknownAge": unknown,
            "cleaners": cleaners.collect::<Vec<_>>(),
        })
    }

    fn print(&self, lines: &mut Lines) -> Result<(), Failure> {
        let Statistics { ages, oldest_age, disk_bytes, dead_rows, vacuumed, .. } = &self.statistics;
        let unlogged = if self.unlogged { ", unlogged" } else { "" };
        lines.text(&format!("\x1b[1m{}\x1b[0m{unlogged}", safe::line(self.table.name().as_sql())))?;
        let (expired, interval) = (count(self.expired()), age(self.interval));
        lines.text(&format!("rows       {} ({expired} older than {interval})", count(self.rows())))?;
        lines.text(&format!(
            "size       {} of messages, {} on disk",
            size(self.bytes()),
            size(*disk_bytes)
        ))?;
        lines.text(&format!(
            "oldest     {}",
            oldest_age.map_or("-".into(), |oldest| format!("{} ago", age(oldest)))
        ))?;
        let vacuumed = match vacuumed {
            Some(at) => {
                let ago = Timestamp::now().duration_since(*at);
                format!("vacuumed {} ago", age(Duration::try_from(ago).unwrap_or_default()))
            }
            None => "never vacuumed".into(),
        };
        lines.text(&format!("dead rows  {} ({vacuumed})", count(*dead_rows)))?;
        self.print_cleaners(lines)?;
        lines.text("")?;
        lines.text("\x1b[1mAGE              ROWS        SIZE\x1b[0m")?;
        let most = ages.iter().map(|group| group.rows).max().unwrap_or_default();
        for (index, group) in ages.iter().enumerate() {
            let title = match (self.bounds.get(index), self.from(index)) {
                (Some(bound), _) => format!("< {}", age(*bound)),
                (None, from) if index == self.bounds.len() => format!("\u{2265} {}", age(from)),
                _ if group.rows > 0 => "unknown".into(),
                _ => continue,
            };
            let bar =
                "\u{2587}".repeat(usize::try_from((group.rows * BAR).div_ceil(most.max(1))).unwrap_or(0));
            let line = format!("{title:<8} {:>12} {:>11}  {bar}", count(group.rows), size(group.bytes));
            lines.text(line.trim_end())?;
        }
        Ok(())
    }

    fn print_cleaners(&self, lines: &mut Lines) -> Result<(), Failure> {
        let Some(next) = self.cleaners.first() else {
            let text = match self.waited {
                Duration::ZERO => "unknown: no cleanup is visible now (--wait 35s watches for longer)".into(),
                waited => format!("unknown: no cleanup was visible within {}", age(waited)),
            };
            return lines.text(&format!("cleanup    {text}"));
        };
        lines.text(&format!("cleanup    next {}", describe(next)))?;
        for cleaner in self.cleaners.iter().skip(1).take(CLEANERS - 1) {
            lines.text(&format!("           then {}", describe(cleaner)))?;
        }
        match self.cleaners.len().saturating_sub(CLEANERS) {
            0 => Ok(()),
            more => lines.text(&format!("           and {more} more")),
        }
    }
}

fn describe(cleaner: &Cleaner) -> String {
    let application = match cleaner.application.as_str() {
        "" => String::new(),
        name => format!(" ({})", safe::line(name)),
    };
    format!(
        "in {}, every {}: pid {}{application} at {}",
        age(cleaner.due_in().unwrap_or_default()),
        age(cleaner.interval),
        cleaner.pid,
        cleaner.address.as_deref().unwrap_or("this machine"),
    )
}
