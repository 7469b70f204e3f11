//! The integration tests: one binary, against real Postgres servers and the real Node packages.

mod adapter;
mod admin_ui;
mod attacks;
mod blocked_notify;
mod cli;
mod cluster;
mod durable;
mod emitter;
mod floods;
mod fuzz_corpus;
mod interop_harness;
mod private;
mod serve;
mod sessions;
mod settings;
mod soak_parts;
mod sql;
mod support;
