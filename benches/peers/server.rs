//! A Socket.IO server in a process of its own, Node's or ours.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::programs::Programs;

/// The commands of both, for whoever reads the numbers.
pub const COMMANDS: [&str; 2] = ["node server.js   # @socket.io/postgres-adapter 0.5.0", "pgio serve"];

/// Node's server and ours, ready to be started.
pub fn both(programs: &Programs) -> [Command; 2] {
    let mut serve = programs.pgio();
    serve.args(["serve", "-o", "json", "--listen", "127.0.0.1:0"]);
    [programs.node("server.js"), serve]
}

/// A server process, which ends with this.
pub struct Server {
    process: Child,
    pub address: String,
}

impl Server {
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| io::Error::other("the server has no stdout"))?;
        let mut server = Self { process, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let said: serde_json::Value = serde_json::from_str(&line)?;
        let address = said["address"].as_str();
        server.address = address.ok_or_else(|| io::Error::other("the server did not start"))?.to_owned();
        Ok(server)
    }

    /// The processor time that it has taken so far.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name of the program may hold anything, but ends with the last parenthesis.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        // The kernel counts in hundredths of a second for every program.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident bytes.
    pub fn memory(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kilobytes: u64 =
            resident.and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::other("no VmRSS"))?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which whoever waits for its answers has noticed.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
