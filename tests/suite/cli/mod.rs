//! The command line against live servers: what scripts rely on.

mod attachments;
mod bench;
mod client;
mod config;
mod context;
mod doctor;
mod emit;
mod emit_from;
mod emit_later;
mod errors;
mod generated;
mod guard_rails;
mod monitor;
mod move_sockets;
mod namespaces;
mod nodes;
mod pooler;
mod probe;
mod rooms;
mod schemas;
mod server_emit;
mod sockets;
mod sql;
mod tail;
mod terminal;
mod top;
