//! The integration tests: one binary, against real Postgres servers and the real Node packages.

mod emitter;
mod interop_harness;
mod private;
mod serve;
mod support;
