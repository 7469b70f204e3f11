//! Socket.IO clusters on Postgres: one protocol with the Node packages.

#![warn(missing_docs)]

mod error;

pub mod postgres;
pub mod protocol;

pub use error::{Error, Result};
pub use protocol::{Date, Namespace, Value};
