//! Buffered lines on stdout: batched under load, flushed at once when idle.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::ColorChoice;
use serde::Serialize;

use crate::cli::exit::Failure;

/// Buffered lines on stdout. Flush when there is nothing more to write for now.
pub(in crate::cli) struct Lines {
    out: BufWriter<io::Stdout>,
    coloured: bool,
    /// Whether lines are truncated to the width of the terminal.
    is_cut: bool,
}

impl Lines {
    pub(in crate::cli) fn stdout() -> Self {
        let stdout = io::stdout();
        // This respects NO_COLOR, CLICOLOR_FORCE and TERM as well.
        let coloured = anstream::AutoStream::choice(&stdout) != ColorChoice::Never;
        let is_cut = stdout.is_terminal();
        Self { out: BufWriter::with_capacity(64 * 1024, stdout), coloured, is_cut }
    }

    /// Does not truncate lines on a terminal.
    pub(in crate::cli) fn uncut(self) -> Self {
        Self { is_cut: false, ..self }
    }

    /// The maximum width of a line, or `None` if lines are not truncated.
    pub(in crate::cli) fn width(&self) -> Option<usize> {
        let size = self.is_cut.then(terminal_size::terminal_size).flatten();
        size.map(|(terminal_size::Width(columns), _)| usize::from(columns))
    }

    /// Writes a line of text, and removes its colours if stdout should have none.
    pub(in crate::cli) fn text(&mut self, line: &str) -> Result<(), Failure> {
        match self.coloured {
            true => Ok(writeln!(self.out, "{line}")?),
            false => Ok(writeln!(self.out, "{}", anstream::adapter::strip_str(line))?),
        }
    }

    /// Writes an object as one line of JSON.
    pub(in crate::cli) fn json<T: Serialize>(&mut self, object: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, object).map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Writes a line unchanged.
    pub(in crate::cli) fn raw(&mut self, line: &str) -> Result<(), Failure> {
        self.out.write_all(line.as_bytes())?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Writes all buffered lines to stdout.
    pub(in crate::cli) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}
