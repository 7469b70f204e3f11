//! Buffered lines on stdout: batched under load, flushed at once when idle.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::ColorChoice;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use super::safe;
use crate::cli::exit::Failure;

/// Buffered lines on stdout. Flush when there is nothing more to write for now.
pub(in crate::cli) struct Lines {
    out: BufWriter<io::Stdout>,
    coloured: bool,
    /// Whether lines are truncated to the width of the terminal.
    is_cut: bool,
    is_terminal: bool,
}

impl Lines {
    pub(in crate::cli) fn stdout() -> Self {
        let stdout = io::stdout();
        // This respects NO_COLOR, CLICOLOR_FORCE and TERM as well.
        let coloured = anstream::AutoStream::choice(&stdout) != ColorChoice::Never;
        let is_terminal = stdout.is_terminal();
        Self { out: BufWriter::with_capacity(64 * 1024, stdout), coloured, is_cut: is_terminal, is_terminal }
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
        let formatter = EscapeUnsafe(CompactFormatter);
        object
            .serialize(&mut Serializer::with_formatter(&mut self.out, formatter))
            .map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Writes a line unchanged; on a terminal escaped, since it may hold text of anybody.
    pub(in crate::cli) fn raw(&mut self, line: &str) -> Result<(), Failure> {
        match self.is_terminal {
            true => self.out.write_all(safe::line(line).as_bytes())?,
            false => self.out.write_all(line.as_bytes())?,
        }
        Ok(self.out.write_all(b"\n")?)
    }

    /// Writes all buffered lines to stdout.
    pub(in crate::cli) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}

/// Escapes the characters in strings that a terminal could obey, or that change the direction of the text. JSON itself
/// needs that only below U+0020. Readers get the same value.
struct EscapeUnsafe(CompactFormatter);

impl Formatter for EscapeUnsafe {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        // Almost every text, and the fast way.
        if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return self.0.write_string_fragment(writer, text);
        }
        while let Some((place, unsafe_char)) = rest.char_indices().find(|(_, c)| safe::is_unsafe(*c)) {
            self.0.write_string_fragment(writer, &rest[..place])?;
            let mut units = [0; 2];
            for unit in unsafe_char.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[place + unsafe_char.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_no_character_that_a_terminal_obeys() {
        let text = "a\u{9b}31m\u{7f}\u{202e}\u{61c}\u{1b}\n\"漢";
        let mut json = Vec::new();
        text.serialize(&mut Serializer::with_formatter(&mut json, EscapeUnsafe(CompactFormatter))).unwrap();
        let json = String::from_utf8(json).unwrap();
        assert_eq!(json, r#""a\u009b31m\u007f\u202e\u061c\u001b\n\"漢""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
