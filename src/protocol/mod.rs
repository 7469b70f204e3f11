//! The messages between the servers of a cluster, their values and their two encodings. Pure data, no I/O.
//!
//! Everything here follows the behaviour of the Node packages: `@socket.io/postgres-adapter` 0.3.1, 0.4.0 and 0.5.0
//! with the `ClusterAdapter` of `socket.io-adapter` 2.5, and `@socket.io/postgres-emitter` 0.1.1. Messages captured
//! from them are the fixtures of the tests.

mod args;
mod channel;
mod data;
pub(crate) mod durable;
mod envelope;
mod envelope_cache;
mod envelope_text;
mod event;
mod instance;
pub(crate) mod json;
mod kind;
mod message;
mod msgpack;
mod name;
mod number_text;
mod options;
#[cfg(feature = "server")]
mod placeholders;
mod reserved;
mod room_list;
mod rooms;
mod socket_list;
mod summary;
mod surrogates;
#[cfg(feature = "cli")]
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod value;
mod wire;

pub use args::Args;
#[cfg(feature = "server")]
pub(crate) use channel::PROBES;
#[cfg(feature = "cli")]
pub(crate) use channel::is_internal;
pub use channel::{Channel, MAX_CHANNEL_BYTES, Namespace};
pub use envelope::{AttachmentId, Header, Notification};
pub(crate) use envelope_cache::EnvelopeCache;
pub use event::EventArgs;
#[cfg(feature = "adapter")]
pub(crate) use event::PLACEHOLDER;
pub use instance::{Instance, LivenessLock, LockSnapshot};
pub use kind::MessageKind;
pub use message::{Body, Message, RemoteSocket};
#[cfg(feature = "adapter")]
pub(crate) use msgpack::{read as read_msgpack, write as write_msgpack};
pub use name::{RequestId, Uid};
pub use options::{BroadcastOptions, Flags};
#[cfg(feature = "server")]
pub(crate) use placeholders::has_placeholder;
pub(crate) use reserved::{check_client_event, client_event, server_event};
pub use rooms::Rooms;
pub use summary::Summary;
#[cfg(feature = "cli")]
pub(crate) use template::{BroadcastTemplate, EventText};
pub use value::{Date, Object, Value};
pub use wire::{Document, Encoded, MAX_DOCUMENT_BYTES, MAX_INLINE_BYTES};
