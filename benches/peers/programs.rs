//! The programs that are measured, and how to run them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The programs, all on the same database.
pub struct Programs {
    url: String,
    files: PathBuf,
    /// How many rounds each part has, in place of its own number.
    rounds: Option<usize>,
    /// `psql (PostgreSQL) 15.18`; `None` where it is not installed.
    pub psql: Option<String>,
    /// `v20.20.2`
    pub node: String,
}

impl Programs {
    pub fn find(url: &str, files: &Path, rounds: Option<usize>) -> io::Result<Self> {
        build_socketioxide()?;
        let node = version(Command::new("node"))?;
        let psql = version(Command::new("psql")).ok();
        Ok(Self { url: url.into(), files: files.into(), rounds, psql, node })
    }

    /// How many rounds a part has that has so many by default.
    pub fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default)
    }

    /// The database of all of them.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where to keep a file for the time of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.join(name)
    }

    /// The release build of this crate's program.
    pub fn pgio(&self) -> Command {
        self.on_database(env!("CARGO_BIN_EXE_pgio"))
    }

    /// A script of `tests/interop/bench`.
    pub fn node(&self, script: &str) -> Command {
        let mut command = self.on_database("node");
        command.arg(root().join("tests/interop/bench").join(script));
        command
    }

    /// The server of `bench/socketioxide`.
    pub fn socketioxide(&self) -> Command {
        self.on_database(root().join(SOCKETIOXIDE_TARGET).join("release/socketioxide-peer"))
    }

    /// `psql` with a file of statements; what they return is thrown away.
    pub fn psql(&self, file: &Path) -> Command {
        let mut command = self.on_database("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"]).arg(file).arg(&self.url);
        command
    }

    /// Any program, told of the database.
    pub fn on_database(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("DATABASE_URL", &self.url).stdin(Stdio::null());
        command
    }
}

const SOCKETIOXIDE_TARGET: &str = "target/socketioxide";

/// Where this repository is.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds the server of `bench/socketioxide`, which is a package of its own.
fn build_socketioxide() -> io::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--manifest-path"]);
    cargo.arg(root().join("bench/socketioxide/Cargo.toml"));
    cargo.arg("--target-dir").arg(root().join(SOCKETIOXIDE_TARGET));
    time(&mut cargo).map(|_| ())
}

fn version(mut command: Command) -> io::Result<String> {
    let output = command.arg("--version").output()?;
    successful(&command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs it, and says how long that took from its start to its end.
pub fn time(command: &mut Command) -> io::Result<Duration> {
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed();
    successful(command, status)?;
    Ok(took)
}

/// An error where the program failed.
pub fn successful(command: &Command, status: ExitStatus) -> io::Result<()> {
    if status.success() {
        return Ok(());
    }
    let program = Path::new(command.get_program()).display();
    Err(io::Error::other(format!("{program}: {status}")))
}
