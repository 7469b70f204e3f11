//! Buffered lines on stdout: batched under load, flushed at once when idle.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::ColorChoice;
use serde::Serialize;

use crate::cli::exit::Failure;

/// Lines to stdout. Buffered: flush when there is nothing more to write for now.
pub(in crate::cli) struct Lines {
    out: BufWriter<io::Stdout>,
    coloured: bool,
    /// Whether lines are cut where the terminal ends.
    is_cut: bool,
}

impl Lines {
    pub(in crate::cli) fn stdout() -> Self {
        let stdout = io::stdout();
        // Looks at NO_COLOR, CLICOLOR_FORCE and TERM, too.
        let coloured = anstream::AutoStream::choice(&stdout) != ColorChoice::Never;
        let is_cut = stdout.is_terminal();
        Self { out: BufWriter::with_capacity(64 * 1024, stdout), coloured, is_cut }
    }

    /// The same, with whole lines on a terminal as well.
    pub(in crate::cli) fn uncut(self) -> Self {
        Self { is_cut: false, ..self }
    }

    /// How wide lines may be, where that matters.
    pub(in crate::cli) fn width(&self) -> Option<usize> {
        let size = self.is_cut.then(terminal_size::terminal_size).flatten();
        size.map(|(terminal_size::Width(columns), _)| usize::from(columns))
    }

    /// A line of text with colours, which are left out where they are not wanted.
    pub(in crate::cli) fn text(&mut self, line: &str) -> Result<(), Failure> {
        match self.coloured {
            true => Ok(writeln!(self.out, "{line}")?),
            false => Ok(writeln!(self.out, "{}", anstream::adapter::strip_str(line))?),
        }
    }

    /// An object of JSON on a line of its own.
    pub(in crate::cli) fn json<T: Serialize>(&mut self, object: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, object).map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// A line as it is, whatever it holds.
    pub(in crate::cli) fn raw(&mut self, line: &str) -> Result<(), Failure> {
        self.out.write_all(line.as_bytes())?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Shows what has been written so far.
    pub(in crate::cli) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}
