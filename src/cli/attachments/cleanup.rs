//! `pgio attachments cleanup`: deletes expired rows.

use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::sleep;

use super::{age, millis};
use crate::cli::arguments::{Format, Global};
use crate::cli::confirm::{confirm, ensure_confirmable};
use crate::cli::duration;
use crate::cli::exit::{self, Failure};
use crate::cli::output::lines::Lines;
use crate::cli::output::number::{self, count, size};
use crate::cli::output::progress;
use crate::cli::signals::Signals;
use crate::postgres::{AttachmentTable, Deleted};

/// The pause after a batch, as a multiple of the duration of the batch. The cleanup works for a tenth of the time, so
/// publishers are hardly slowed down.
const PAUSE: u32 = 9;

/// The number of bytes on disk from which the note about VACUUM is printed.
const WORTH_A_VACUUM: u64 = 16 << 20;

/// The overhead of a row on disk: its header, and its entries in both indexes.
const ROW_BYTES: u64 = 80;

/// Delete old rows in small batches, without blocking publishers
///
/// Every server deletes old rows in one statement at each --cleanup-interval. This command is for a table that has
/// grown while no server ran, or none had the privilege. Each batch is a separate transaction, followed by a pause nine
/// times as long, so publishers are hardly slowed down. Several may run at the same time: they skip rows that another
/// one has locked.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments cleanup                         older than 30s; confirm first
  pgio attachments cleanup --dry-run               count them only
  pgio attachments cleanup --older-than 1h --yes   for a crontab
  pgio attachments cleanup --batch-size 50         for large messages")]
pub(super) struct Cleanup {
    /// Delete rows older than this [default: --cleanup-interval, which is 30s by default]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    older_than: Option<Duration>,
    /// Delete nothing, and print how many rows would be deleted
    #[arg(long)]
    dry_run: bool,
    /// The number of rows to delete in one transaction
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_size: u32,
    /// Do not pause between batches: ten times as fast, but publishers have to wait
    #[arg(long)]
    no_pause: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

impl Cleanup {
    pub(super) async fn run(self, global: &Global, table: &AttachmentTable) -> Result<(), Failure> {
        let age_limit = self.older_than.unwrap_or_else(|| global.adapter_options().cleanup_interval);
        if !self.dry_run {
            ensure_confirmable(&format!("delete old rows from {}", table.name()), self.yes)?;
        }
        if table.existing_shape().await?.unindexed().any(|column| column == "created_at") {
            global.warn("there is no index on created_at, so each batch scans the whole table; pgio attachments init adds the index");
        }
        let expired = exit::unless_interrupted(async { Ok(table.expired(age_limit).await?) }).await?;
        let described = format!(
            "{} ({}) older than {} from {}",
            number::counted(expired.rows, "row"),
            size(expired.bytes),
            age(age_limit),
            table.name()
        );
        let counted = Deleted { rows: expired.rows, bytes: expired.bytes };
        if self.dry_run {
            return self.tell(global, table, age_limit, counted, 0, &format!("would delete {described}"));
        }
        if expired.rows == 0 {
            return self.tell(
                global,
                table,
                age_limit,
                counted,
                0,
                &format!("no rows older than {}", age(age_limit)),
            );
        }
        confirm(&format!("delete {described}"), self.yes).await?;
        let bar = progress::bytes(global, Some(expired.rows));
        let start = Instant::now();
        let mut deleted = Deleted::default();
        let outcome = self.delete(table, expired, &bar, &mut deleted).await;
        bar.finish_and_clear();
        let done = format!(
            "deleted {} ({}) in {}",
            number::counted(deleted.rows, "row"),
            size(deleted.bytes),
            age(start.elapsed())
        );
        outcome.map_err(|failure| failure.after(done.clone()))?;
        let by_others = expired.rows.saturating_sub(deleted.rows);
        let done = match by_others {
            0 => done,
            rows => format!("{done}; servers have deleted or locked the other {}", count(rows)),
        };
        self.tell(global, table, age_limit, deleted, by_others, &done)?;
        if expired.bytes + expired.rows * ROW_BYTES >= WORTH_A_VACUUM {
            global.note(&format!(
                "VACUUM makes the space of dead rows available for new rows; VACUUM FULL {} returns it to the disk, but locks the table",
                table.name()
            ));
        }
        Ok(())
    }

    async fn delete(
        &self,
        table: &AttachmentTable,
        expired: crate::postgres::Expired,
        bar: &ProgressBar,
        total: &mut Deleted,
    ) -> Result<(), Failure> {
        let pause = if self.no_pause { 0 } else { PAUSE };
        let mut cleanup = table.cleanup(expired, self.batch_size).await?;
        let mut signals = Signals::listen()?;
        loop {
            let start = Instant::now();
            let mut is_interrupted = false;
            let batch = {
                let mut next = pin!(cleanup.next());
                tokio::select! {
                    batch = &mut next => batch,
                    // Waits for the batch in progress, so that the total includes its rows. A second signal ends that.
                    () = signals.next_on_terminal() => {
                        is_interrupted = true;
                        tokio::select! {
                            batch = &mut next => batch,
                            () = signals.next_on_terminal() => return Err(Failure::Interrupted),
                        }
                    }
                }
            };
            let Some(batch) = batch? else { return Ok(()) };
            total.rows += batch.rows;
            total.bytes += batch.bytes;
            // Other sessions may have deleted or added rows since the count.
            bar.set_length(expired.rows.max(total.rows));
            bar.set_position(total.rows);
            bar.set_message(format!("{} of {} rows", count(total.rows), count(expired.rows)));
            tokio::select! {
                biased;
                () = std::future::ready(()), if is_interrupted => return Err(Failure::Interrupted),
                () = signals.next_on_terminal() => return Err(Failure::Interrupted),
                () = sleep(start.elapsed() * pause) => {}
            }
        }
    }

    fn tell(
        &self,
        global: &Global,
        table: &AttachmentTable,
        age_limit: Duration,
        rows: Deleted,
        by_others: u64,
        text: &str,
    ) -> Result<(), Failure> {
        let mut lines = Lines::stdout();
        match global.output {
            Format::Text => lines.text(&crate::cli::output::safe::line(text))?,
            Format::Json => lines.json(&json!({
                "table": table.name().as_sql(),
                "olderThanMs": millis(age_limit),
                "dryRun": self.dry_run,
                "rows": rows.rows,
                "bytes": rows.bytes,
                "byOthers": by_others,
            }))?,
        }
        lines.flush()
    }
}
