//! `pgio serve`, the program itself, with real clients and Node servers around it.

mod access;
mod answers;
mod flags;
mod inspection;
mod load;
mod private;
mod rules;
mod shutdown;
mod transports;
