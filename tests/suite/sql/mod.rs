//! Emits from SQL: the events that clients of live servers receive from statements, transactions and triggers.

mod drivers;
mod heard;
mod msgpack;
mod roles;
mod transactions;
mod triggers;
mod values;

use crate::support::pgio::{Outcome, pgio, run};

/// The version of the functions. Raise it together with `VERSION` in `src/postgres/sql_emitter/script.rs`.
pub const VERSION: i32 = 2;

/// Installs the functions.
async fn install(url: &str, arguments: &[&str]) -> Outcome {
    run(&mut pgio(url, &[&["sql", "install"], arguments].concat())).await.succeeded()
}
