//! Notes, warnings and errors on stderr. If stderr is closed, they are dropped, and the command continues.

use std::io::Write;

use super::safe;

/// Prints a line.
pub(in crate::cli) fn line(text: &str) {
    let _ = writeln!(anstream::stderr(), "{}", safe::line(text));
}

/// Prints a line that begins with a bold label.
pub(in crate::cli) fn labelled(label: Label, text: &str) {
    let (style, word) = label.parts();
    let _ = writeln!(anstream::stderr(), "\x1b[{style}m{word}:\x1b[0m {}", safe::line(text));
}

/// Ends an unfinished line of the terminal, such as an unanswered question, or the `^C` of Ctrl-C.
pub(in crate::cli) fn end_line() {
    let _ = writeln!(anstream::stderr());
}

/// The label of a line.
#[derive(Clone, Copy)]
pub(in crate::cli) enum Label {
    Error,
    Hint,
    Warning,
}

impl Label {
    /// The escape codes of the style, and the word.
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Error => ("1;31", "error"),
            Self::Hint => ("1", "hint"),
            Self::Warning => ("1;33", "warning"),
        }
    }
}
