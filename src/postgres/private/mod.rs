//! A private Postgres server from the binaries on the machine, for `pgio serve` without a configured database, and for
//! tests.
//!
//! It is the child of a small watchdog process that waits for the end of a pipe. The pipe closes whenever the owner ends:
//! after [`PrivateServer::stop`], after a drop, or after SIGKILL. Then the watchdog stops the server, and removes a
//! temporary directory.

mod account;
mod binaries;
mod builder;
mod home;
mod log;
mod origin;
mod server;
mod state;
mod watchdog;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use builder::PrivateServerBuilder;
pub use server::{PrivateServer, Shutdown};
pub use state::{running, running_in, state_directory};

use crate::{Error, Result};

/// `N` random bytes of a cryptographic generator, in hexadecimal.
fn random_hex<const N: usize>() -> Result<String> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::file(source, &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
