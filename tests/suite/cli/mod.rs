//! The command line against live servers: what scripts rely on.

mod attachments;
mod doctor;
mod emit;
mod emit_from;
mod emit_later;
mod errors;
mod tail;
