//! Text from elsewhere, made harmless for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// One line of text in which nothing moves the cursor, changes colours or hides: control characters, line separators
/// and marks that change the direction of writing become escapes.
pub(in crate::cli) fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Writing to a string cannot fail.
            c if is_unsafe(c) => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(line("plain ✓ 漢字"), "plain ✓ 漢字");
        assert_eq!(
            line("\x1b[2Jgone\r\n\u{9b}31m\u{202e}abc"),
            "\\u{1b}[2Jgone\\u{d}\\n\\u{9b}31m\\u{202e}abc"
        );
    }
}
