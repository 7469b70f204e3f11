//! The server process and the watchdog above it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::Shutdown;
use super::binaries::Binaries;
use super::files::{DataDirectory, SUPERUSER};
use super::user::ServerUser;
use crate::{Error, Result};

/// How long a server may take to start, recovery after a crash included.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often to look whether it takes connections.
const LOOK: Duration = Duration::from_millis(10);

/// Runs the server, and stops it at the end of its own input: `INT` is fast, `QUIT` immediate. Should the server end by
/// itself, `ended` says so, and everything stays until the owner has looked.
const WATCHDOG: &str = r#"
exec 3<&0
"$1" -D "$2/data" >>"$2/log" 2>&1 3<&- &
server=$!
( read -r how <&3; kill -"${how:-INT}" $server ) &
reader=$!
wait $server
kill $reader
: >"$2/ended"
read -r how <&3
rm -f "$2/running.json"
if [ "$3" = temporary ] && [ ! -e "$2/keep" ]; then rm -rf "$2"; fi
"#;

/// A server and its watchdog.
#[derive(Debug)]
pub(super) struct Watchdog {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts both; returns when the server takes connections.
    pub(super) fn start(
        binaries: &Binaries,
        user: &ServerUser,
        data: &DataDirectory,
        port: u16,
        settings: &BTreeMap<String, String>,
    ) -> Result<Self> {
        configure(data, port, settings)?;
        data.forget_last_end()?;
        let log_before = fs::metadata(data.log_file()).map_or(0, |metadata| metadata.len());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", WATCHDOG, "pgio-watchdog"])
            .arg(binaries.program("postgres"))
            .arg(data.root())
            .arg(if data.is_temporary() { "temporary" } else { "persistent" })
            .current_dir("/")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Away from the terminal, whose Ctrl-C is for the owner alone.
            .process_group(0);
        user.run(&mut command);
        let mut process = command.spawn().map_err(|e| Error::Private(format!("/bin/sh: {e}")))?;
        let watchdog = Self { pipe: process.stdin.take(), process };
        let postmaster = data.cluster().join("postmaster.pid");
        let start = Instant::now();
        loop {
            if is_ready(&postmaster, port) {
                return Ok(watchdog);
            }
            if data.ended_file().exists() {
                return Err(Error::Private(last_words(&data.log_file(), log_before)));
            }
            if start.elapsed() > START_TIMEOUT {
                return Err(Error::Private(format!("it is not ready after {START_TIMEOUT:?}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Stops the server and waits until everything is gone.
    pub(super) fn end(mut self, how: Shutdown) -> Result<()> {
        if let Some(mut pipe) = self.pipe.take() {
            let signal = match how {
                Shutdown::Fast => "INT\n",
                Shutdown::Immediate => "QUIT\n",
            };
            // With nobody at the other end the server has ended already.
            let _ = pipe.write_all(signal.as_bytes());
        }
        self.process.wait().map(drop).map_err(|e| Error::Private(format!("waiting for the server: {e}")))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // The end of the pipe is the signal. Waiting keeps the next owner of the directory from meeting this one.
        if self.pipe.take().is_some() {
            let _ = self.process.wait();
        }
    }
}

fn configure(data: &DataDirectory, port: u16, settings: &BTreeMap<String, String>) -> Result<()> {
    let quote = |value: &str| value.replace('\'', "''");
    let sockets = data.root().to_string_lossy();
    // The path of a socket may have 107 bytes; TCP is enough where it does not fit.
    let sockets = if sockets.len() < 80 { sockets.as_ref() } else { "" };
    let mut lines = vec![
        "listen_addresses = '127.0.0.1'".to_owned(),
        format!("port = {port}"),
        format!("unix_socket_directories = '{}'", quote(sockets)),
        format!("cluster_name = '{SUPERUSER}'"),
        "max_connections = 200".into(),
        "max_wal_size = 64MB".into(),
        "min_wal_size = 32MB".into(),
        // The attachments live for seconds, and the directory can be thrown away.
        "fsync = off".into(),
        "full_page_writes = off".into(),
    ];
    lines.extend(settings.iter().map(|(name, value)| format!("{name} = '{}'", quote(value))));
    let file = data.cluster().join("postgresql.auto.conf");
    fs::write(&file, lines.join("\n") + "\n").map_err(|e| Error::Private(format!("{}: {e}", file.display())))
}

/// The server writes its port into the fourth line of `postmaster.pid`, and its state into the eighth.
fn is_ready(postmaster: &Path, port: u16) -> bool {
    let text = fs::read_to_string(postmaster).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.get(3) == Some(&port.to_string().as_str()) && lines.get(7) == Some(&"ready")
}

/// The end of what the server has written into its log since then.
fn last_words(log: &Path, since: u64) -> String {
    let text = fs::read(log).unwrap_or_default();
    let since = usize::try_from(since).unwrap_or(0);
    let text = String::from_utf8_lossy(text.get(since..).unwrap_or_default()).into_owned();
    let words: Vec<_> = text.lines().map(without_prefix).collect();
    format!("the server ended: {}", words[words.len().saturating_sub(4)..].join("; "))
}

/// A line of the log without its time and pid.
fn without_prefix(line: &str) -> &str {
    line.split_once("] ").map_or(line, |(_, words)| words)
}
