//! Socket.IO clusters on Postgres: one protocol with the Node packages.

#![warn(missing_docs)]

mod error;

#[cfg(feature = "adapter")]
pub mod adapter;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod cluster;
pub mod emitter;
pub mod postgres;
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "adapter")]
pub use adapter::{PostgresAdapter, PostgresAdapterCtr};
pub use cluster::{AdapterOptions, Cluster};
pub use emitter::{BroadcastOperator, Emitter};
pub use error::{Error, Result};
pub use postgres::{Receipt, Settings};
pub use protocol::{Date, Namespace, RemoteSocket, Value};
