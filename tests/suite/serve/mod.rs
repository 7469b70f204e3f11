//! `pgio serve`, the program itself, with real clients and Node servers around it.

mod access;
mod answers;
mod direct;
mod dropped;
mod flags;
mod inspection;
mod limits;
mod load;
mod namespaces;
mod private;
mod rules;
mod shutdown;
mod threads;
mod transports;
