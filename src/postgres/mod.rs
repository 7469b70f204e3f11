//! The only module with SQL: connecting, listening, publishing, and the attachment table.

mod attachment_table;
mod attachments;
#[cfg(feature = "cli")]
mod backends;
mod batch;
mod connect;
mod doubling_timeout;
mod durable_rows;
mod failure;
#[cfg(feature = "cli")]
pub(crate) mod health;
mod listener;
mod listening_servers;
pub(crate) mod lossy_queue;
mod presence;
#[cfg(all(unix, feature = "private"))]
pub mod private;
mod publisher;
mod same_server;
mod server_identity;
mod session;
mod session_setup;
mod settings;
#[cfg(feature = "cli")]
pub(crate) mod sql_emitter;
mod table;
mod tls;

pub use attachment_table::{AttachmentTable, Change, Storage};
pub use publisher::Receipt;
pub use settings::{Environment, Settings};
pub use table::TableName;

pub(crate) use attachment_table::CheckedTable;
#[cfg(feature = "cli")]
pub(crate) use attachment_table::{Brief, Cleaner, Deleted, Expired, OTHER_TABLE, Part, Statistics};
#[cfg(feature = "adapter")]
pub(crate) use attachment_table::{ForeignCode, TableAccess};
pub(crate) use attachments::{DeletedRows, delete_some_older, look_up};
#[cfg(feature = "cli")]
pub(crate) use backends::{Backend, backends};
pub(crate) use doubling_timeout::DoublingTimeout;
pub(crate) use durable_rows::list_durable;
pub(crate) use failure::failure;
pub(crate) use listener::{Command, Listener, ListenerEvent, ListeningConnection};
pub(crate) use listening_servers::listening_sessions;
pub(crate) use presence::Presence;
pub(crate) use publisher::{
    GroupOutcome, GroupReceipt, MessageGroup, OnLoss, PublishFault, Publisher, Publishing,
};
pub(crate) use same_server::SameServer;
pub(crate) use server_identity::server_identity;
pub(crate) use session::{Session, no_answer};
#[cfg(feature = "server")]
pub(crate) use table::quote_identifier;
