//! The only room that knows SQL: connecting, listening, publishing, and the attachment table.

mod attachments;
pub(crate) mod backlog;
mod batch;
mod connect;
mod create_table;
mod failure;
mod listener;
#[cfg(all(unix, feature = "private"))]
pub mod private;
mod publisher;
mod session;
mod settings;
mod table;
mod tls;
mod whereabouts;

pub use publisher::Receipt;
pub use settings::{Environment, Settings};
pub use table::TableName;

pub(crate) use attachments::{delete_older, look_up};
pub(crate) use create_table::create_table;
pub(crate) use failure::failure;
pub(crate) use listener::{Heard, Listener};
pub(crate) use publisher::Publisher;
pub(crate) use session::Session;
pub(crate) use whereabouts::whereabouts;
