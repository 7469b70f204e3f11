//! Helpers of the tests.

pub mod attachments;
pub mod certificates;
pub mod descriptors;
pub mod freeze;
pub mod frozen;
pub mod jwt;
pub mod mixed;
pub mod node;
pub mod pgbouncer;
pub mod pgio;
pub mod pgio_node;
pub mod pgio_serve;
pub mod portions;
pub mod postgres;
pub mod proxy;
pub mod raw_polling;
pub mod raw_websocket;
pub mod schema;
pub mod shared_server;
pub mod small_buffers;
pub mod sql;
pub mod stopped;
pub mod terminal;
pub mod whole;
