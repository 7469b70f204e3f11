//! `pgio attachments`: manages the attachment table.

mod cleanup;
mod grants;
mod init;
mod list;
mod show;
mod stats;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, SignedDurationRound, Unit};

use super::arguments::Global;
use super::exit::{self, Failure};
use crate::postgres::AttachmentTable;

/// Manage the attachment table: create it, inspect it, clean it up
///
/// Messages that hold binary, or are too large for a notification, go through this table (--table-name). Servers need
/// its rows only for a moment, and delete rows older than --cleanup-interval.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments init                     create the table and its indexes
  pgio attachments stats                    rows, size and age
  pgio attachments list --limit 5           the newest rows
  pgio attachments show 4711                the message in one row
  pgio attachments cleanup --older-than 5m  delete old rows")]
pub(super) struct Attachments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    List(list::List),
    Show(show::Show),
    Stats(stats::Stats),
    Cleanup(cleanup::Cleanup),
    Grants(grants::Grants),
}

impl Attachments {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let table = AttachmentTable::connect(global.settings()?, global.adapter_options().table_name).await?;
        if !matches!(self.command, Command::Init(_)) {
            table.existing_shape().await?;
        }
        match self.command {
            Command::Init(init) => exit::unless_interrupted(init.run(global, &table)).await,
            Command::List(list) => exit::unless_interrupted(list.run(global, &table)).await,
            Command::Show(show) => exit::unless_interrupted(show.run(global, &table)).await,
            Command::Stats(stats) => exit::unless_interrupted(stats.run(global, &table)).await,
            Command::Grants(grants) => exit::unless_interrupted(grants.run(global, &table)).await,
            Command::Cleanup(cleanup) => cleanup.run(global, &table).await,
        }
    }
}

/// Formats a duration for people: `850ms`, `3m 20s`, `2d`.
fn age(age: Duration) -> String {
    let Ok(age) = SignedDuration::try_from(age) else { return "for ever".into() };
    let unit = match age.as_secs() {
        0..10 => Unit::Millisecond,
        10..3600 => Unit::Second,
        3600.. => Unit::Minute,
        _ => Unit::Nanosecond,
    };
    let days = age.as_hours() / 24;
    match days {
        0 => format!("{:#}", age.round(SignedDurationRound::new().smallest(unit)).unwrap_or(age)),
        _ => format!("{days}d"),
    }
}

/// A duration in milliseconds, for programs.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_as_exact_as_they_have_to_be() {
        for (millis, text) in [
            (0, "0s"),
            (850, "850ms"),
            (1_500, "1s 500ms"),
            (30_400, "30s"),
            (200_000, "3m 20s"),
            (7_260_000, "2h 1m"),
            (200_000_000, "2d"),
        ] {
            assert_eq!(age(Duration::from_millis(millis)), text);
        }
        assert_eq!(age(Duration::MAX), "for ever");
    }
}
