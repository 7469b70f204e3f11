//! `pgio attachments show`: prints the message of one row.

use clap::Args;
use std::time::SystemTime;

use crate::Namespace;
use crate::cli::arguments::{Format, Global};
use crate::cli::event_line::EventLine;
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::tail::text;
use crate::cluster::{Attached, Content, Received};
use crate::postgres::AttachmentTable;
use crate::protocol::{AttachmentId, Message};

/// Show the message in one row, in the format of tail
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments show 4711           truncated to the width of the terminal
  pgio attachments show 4711 -v        not truncated
  pgio attachments show 4711 -o json   as an event line
  pgio attachments show 4711 -o json | pgio emit --from -   send it again")]
pub(super) struct Show {
    /// The id of the row
    id: i64,
    /// The namespace of a message without one (of adapter 0.3)
    #[arg(short, long, value_name = "NSP", default_value = "/")]
    namespace: String,
}

impl Show {
    pub(super) async fn run(self, global: &Global, table: &AttachmentTable) -> Result<(), Failure> {
        let id = AttachmentId(self.id);
        let namespace = Namespace::new(&self.namespace);
        let Some(row) = table.row(id).await? else {
            return Err(Failure::Other(format!("there is no attachment {id} in {}", table.name())));
        };
        let message = Message::decode_document(&row.document, &namespace);
        let message =
            message.map_err(|error| Failure::from(error).at(&format!("attachment {id} is not a message")))?;
        let received = Received {
            time: row.created.at.map_or(SystemTime::UNIX_EPOCH, SystemTime::from),
            backend: None,
            // The output contains only the namespace of the message, never this channel.
            channel: Namespace::default().channel(&global.options.channel_prefix)?,
            text: String::new(),
            attachment: Some(Attached { id, bytes: Some(row.document.len()), memory: 0 }),
            content: Content::Message(message),
            is_replayed: false,
        };
        let mut lines = Lines::stdout();
        match global.output {
            Format::Json => lines.json(&EventLine(&received))?,
            Format::Text => {
                let width = if global.verbose > 0 { None } else { lines.width() };
                lines.text(&text::line(&received, width))?;
            }
        }
        lines.flush()
    }
}
