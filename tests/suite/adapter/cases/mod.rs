//! What the suites of the peers check of an adapter, checked of ours: each test is named after their case.

mod node;
mod socketioxide;
