//! What the tests stand on.

pub mod attachments;
pub mod certificates;
pub mod mixed;
pub mod node;
pub mod pgio;
pub mod pgio_node;
pub mod postgres;
pub mod sql;
pub mod terminal;
pub mod whole;
