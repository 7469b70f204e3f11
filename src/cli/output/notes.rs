//! Notes, warnings and errors on stderr. If stderr is closed, they are dropped, and the command continues.

use std::io::Write;

use super::safe;

/// A line.
pub(in crate::cli) fn line(text: &str) {
    let _ = writeln!(anstream::stderr(), "{}", safe::line(text));
}

/// A line that begins with a bold word, in a colour of its own where it has one.
pub(in crate::cli) fn labelled(label: Label, text: &str) {
    let (style, word) = label.parts();
    let _ = writeln!(anstream::stderr(), "\x1b[{style}m{word}:\x1b[0m {}", safe::line(text));
}

/// Ends a line that a person or the terminal has begun: an unanswered question, the `^C` of Ctrl-C.
pub(in crate::cli) fn end_line() {
    let _ = writeln!(anstream::stderr());
}

/// What a line is.
#[derive(Clone, Copy)]
pub(in crate::cli) enum Label {
    Error,
    Hint,
    Warning,
}

impl Label {
    /// The style's escape codes, and the word.
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Error => ("1;31", "error"),
            Self::Hint => ("1", "hint"),
            Self::Warning => ("1;33", "warning"),
        }
    }
}
