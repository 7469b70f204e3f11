//! The result of a check, and how it is printed.

use serde_json::json;
use unicode_width::UnicodeWidthStr;

use crate::cli::output::safe;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    /// It works, but will cause problems.
    Warn,
    /// It does not work.
    Fail,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    check: &'static str,
    pub(super) status: Status,
    detail: String,
    advice: Option<String>,
}

/// The column in which the text of a line starts.
const INDENT: usize = 19;

impl Finding {
    pub(super) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), advice: None }
    }

    pub(super) fn warn(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, detail: detail.into(), advice: Some(advice.into()) }
    }

    pub(super) fn fail(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, detail: detail.into(), advice: Some(advice.into()) }
    }

    pub(super) fn object(&self) -> serde_json::Value {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        };
        json!({ "check": self.check, "status": status, "detail": self.detail, "advice": self.advice })
    }

    /// Formats one line, and wraps it between words if it is wider than `width`.
    pub(super) fn text(&self, width: Option<usize>) -> String {
        let (colour, symbol) = match self.status {
            Status::Ok => ("\x1b[32m", "ok  "),
            Status::Warn => ("\x1b[1;33m", "warn"),
            Status::Fail => ("\x1b[1;31m", "FAIL"),
        };
        let mut text = self.detail.clone();
        if let Some(advice) = &self.advice {
            text = format!("{text} \u{2192} {advice}");
        }
        let text = fill(&safe::line(&text), width);
        format!("{colour}{symbol}\x1b[0m  {:<width$}{text}", self.check, width = INDENT - 6)
    }
}

/// Wraps a line that starts after the indent.
fn fill(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let room = width.saturating_sub(INDENT).max(20);
    let mut filled = String::with_capacity(text.len() + 64);
    let mut used = 0;
    for word in text.split(' ') {
        let columns = word.width();
        if used > 0 && used + 1 + columns > room {
            filled.push('\n');
            filled.push_str(&" ".repeat(INDENT));
            used = 0;
        } else if used > 0 {
            filled.push(' ');
            used += 1;
        }
        filled.push_str(word);
        used += columns;
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(finding: &Finding, width: Option<usize>) -> String {
        anstream::adapter::strip_str(&finding.text(width)).to_string()
    }

    #[test]
    fn a_line_that_fits_and_one_that_does_not() {
        let finding = Finding::warn("index", "no index on created_at", "pgio attachments init");
        let line = "warn  index        no index on created_at \u{2192} pgio attachments init";
        assert_eq!(plain(&finding, None), line);
        assert_eq!(plain(&finding, Some(80)), line);
        let broken = "warn  index        no index on created_at\n                   \u{2192} pgio attachments\n                   init";
        assert_eq!(plain(&finding, Some(41)), broken);
    }

    #[test]
    fn nothing_hostile_gets_through() {
        let finding = Finding::ok("prefix", "a\x1b[2J\nb");
        assert_eq!(plain(&finding, Some(80)), "ok    prefix       a\\u{1b}[2J\\nb");
    }
}
