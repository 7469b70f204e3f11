//! What a hostile client or peer tries, and what must hold all the same.

mod namespaces;
mod rates;
mod relay;
mod rooms;
mod tokens;
