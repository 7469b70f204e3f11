//! Socket.IO clusters on Postgres: one protocol with the Node packages.

mod error;

pub mod postgres;

pub use error::{Error, Result};
