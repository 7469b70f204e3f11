//! The output of commands: data on stdout, notes and progress on stderr.

pub(super) mod lines;
pub(super) mod notes;
pub(super) mod number;
pub(super) mod progress;
pub(super) mod table;

pub(super) use crate::safe_text as safe;
