//! A server in a process of its own.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A server process, which ends with this.
pub struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    pub address: String,
}

impl Server {
    /// Starts it; returns once it has printed its address.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| io::Error::other("the server has no stdout"))?;
        let mut server = Self { process, stdout: BufReader::new(stdout), address: String::new() };
        let said: serde_json::Value = serde_json::from_str(&server.line()?)?;
        let address = said["address"].as_str();
        server.address = address.ok_or_else(|| io::Error::other("the server did not start"))?.to_owned();
        Ok(server)
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }

    /// Sends it a line, where its stdin is a pipe.
    pub fn order(&mut self, line: &str) -> io::Result<()> {
        let stdin = self.process.stdin.as_mut().ok_or_else(|| io::Error::other("no pipe to the server"))?;
        writeln!(stdin, "{line}")
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

    /// The processor time since then for each delivery, in microseconds.
    pub fn per_delivery(&self, before: Duration, deliveries: usize) -> io::Result<f64> {
        Ok((self.processor_time()? - before).as_secs_f64() * 1e6 / deliveries as f64)
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
        // It may have ended by itself; its clients have noticed that.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
