//! Starts programs that end with the harness, however that ends.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// Part of util-linux: makes the kernel kill a program when its parent dies.
const SETPRIV: &str = "/usr/bin/setpriv";

/// A command for `program`, with no input. Dropping its child kills it; so does the death of the harness.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = match Path::new(SETPRIV).exists() {
        true => {
            let mut command = Command::new(SETPRIV);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        false => Command::new(program),
    };
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// `pgio` in an empty environment: only the arguments configure it.
pub fn pgio(arguments: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_pgio"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").env("PGIO_STATE_DIR", "/nonexistent");
    command
}

/// A port of 127.0.0.1 that is free now, from below those that systems take for outgoing connections.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = (0..1000).map(|_| fastrand::u16(15_000..32_000)).find(is_free);
    port.expect("no port of 127.0.0.1 between 15000 and 32000 is free")
}
