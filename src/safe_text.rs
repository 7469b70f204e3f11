//! Escapes untrusted text for terminals, logs and messages.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// How many bytes of a text from elsewhere a log or a message quotes.
pub(crate) const QUOTED_BYTES: usize = 100;

/// One line of text in which nothing moves the cursor, changes colours or hides: control characters, line separators
/// and marks that change the direction of writing become escapes.
#[cfg(feature = "cli")]
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| push_escaped(&mut out, c));
    Cow::Owned(out)
}

/// A text as a message quotes it: escaped, and cut where it has more than [`QUOTED_BYTES`].
pub(crate) fn quoted(text: &str) -> Cow<'_, str> {
    cut(text, QUOTED_BYTES)
}

/// A text, escaped, and cut where it has more bytes than that.
pub(crate) fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit && !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut short = Short::new(limit);
    // An error only says that it is full.
    short.write_str(text).ok();
    Cow::Owned(short.into_text())
}

/// A line that takes text up to a limit, escaped. Formatting into it stops at the limit.
pub(crate) struct Short {
    text: String,
    limit: usize,
    is_cut: bool,
}

impl Short {
    /// An empty line that takes so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { text: String::new(), limit, is_cut: false }
    }

    /// What it has taken, with a mark where that was not all.
    pub(crate) fn into_text(mut self) -> String {
        if self.is_cut {
            self.text.push('…');
        }
        self.text
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let before = self.text.len();
            push_escaped(&mut self.text, c);
            if self.text.len() > self.limit {
                self.text.truncate(before);
                self.is_cut = true;
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        // Writing to a string cannot fail.
        c if is_unsafe(c) => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        c => out.push(c),
    }
}

/// Whether a terminal could obey a character, or show text in another order because of it.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "cli")]
    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(line("plain ✓ 漢字"), "plain ✓ 漢字");
        assert_eq!(
            line("\x1b[2Jgone\r\n\u{9b}31m\u{202e}abc"),
            "\\u{1b}[2Jgone\\u{d}\\n\\u{9b}31m\\u{202e}abc"
        );
    }

    #[test]
    fn a_quotation_is_short_and_escaped() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a\nb"), "a\\nb");
        assert_eq!(quoted(&"x".repeat(100)), "x".repeat(100));
        assert_eq!(quoted(&"x".repeat(101)), "x".repeat(100) + "…");
        // No half escape and no half character at the end.
        assert_eq!(quoted(&("x".repeat(98) + "\x1b")), "x".repeat(98) + "…");
        assert_eq!(quoted(&("x".repeat(99) + "漢")), "x".repeat(99) + "…");
        assert_eq!(quoted(&"\u{202e}".repeat(1 << 20)).len(), 12 * 8 + "…".len());
    }
}
