//! The last lines in the log of a server that has ended.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The maximum lines and bytes of the log that an error quotes.
const LINES: usize = 4;
const BYTES: u64 = 4096;

/// The server's log since the last start attempt.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    from: u64,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, from: 0 }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ignores the log up to this moment.
    pub(super) fn mark(&mut self) {
        self.from = self.path.metadata().map_or(0, |metadata| metadata.len());
    }

    /// The last lines since the mark, joined into one.
    pub(super) fn tail(&self) -> String {
        match self.read() {
            Ok(text) => {
                let lines: Vec<_> =
                    text.lines().map(without_prefix).filter(|line| !line.is_empty()).collect();
                let rest = lines.len().saturating_sub(LINES);
                lines.into_iter().skip(rest).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("no log at {}: {error}", self.path.display()),
        }
    }

    fn read(&self) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.from.max(end.saturating_sub(BYTES))))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A line of the log without its time and pid.
fn without_prefix(line: &str) -> &str {
    line.split_once("] ").map_or(line, |(_, words)| words).trim()
}
