//! Attacks on a cluster and its doors. Each asserts by a figure that nothing is gained by it.

mod logs;
mod peers;
mod table;
