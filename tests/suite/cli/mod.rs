//! The command line against live servers: what scripts rely on.

mod emit;
mod emit_from;
mod emit_later;
mod errors;
mod nodes;
mod rooms;
mod sockets;
mod tail;
