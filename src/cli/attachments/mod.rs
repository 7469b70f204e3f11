//! `pgio attachments`: the table that holds what does not fit into a notification.

mod init;

use clap::{Args, Subcommand};

use super::arguments::Global;
use super::exit::Failure;
use crate::postgres::AttachmentTable;

/// Look after the attachment table: create it, look into it, clean it up
///
/// Messages that hold binary, or are too large for a notification, travel through this table (--table-name). Its rows
/// are needed for moments only, and every server deletes those older than --cleanup-interval.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments init                     create the table, or complete it
  pgio attachments stats                    how much is in it, how old is it?
  pgio attachments list --limit 5           the newest rows
  pgio attachments show 4711                the message in one row
  pgio attachments cleanup --older-than 5m  delete what nobody needs any more")]
pub(super) struct Attachments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
}

impl Attachments {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let table = AttachmentTable::connect(global.settings()?, global.adapter_options().table_name).await?;
        match self.command {
            Command::Init(init) => init.run(global, &table).await,
        }
    }
}
