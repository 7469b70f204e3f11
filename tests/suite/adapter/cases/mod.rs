//! The cases of the peers' own suites, run against the pgio adapter. Each test has the name of their case.

mod node;
mod socketioxide;
