//! One line of the log, as text or as JSON.

use std::fmt::{Debug, Write};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::safe_text::{QUOTED_BYTES, Short};

/// The maximum number of logged bytes of a message, and of a field that pgio or the operator has written.
const OWN_BYTES: usize = 400;

/// The fields that pgio or the operator has written. An error is a text of pgio. It quotes texts of others no longer
/// than other fields do.
const OWN: [&str; 6] = ["message", "error", "database", "directory", "table", "url"];

/// The fields of crates that use `log`.
const FROM_LOG: &str = "log.";

/// The format of the lines.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) enum Style {
    Text { has_colours: bool },
    Json,
}

/// The fields of an event, escaped and truncated.
#[derive(Debug, Default)]
pub(super) struct Fields {
    message: String,
    others: Vec<(&'static str, FieldValue)>,
    /// The target that the event itself names, as events of the crate `log` do.
    target: Option<String>,
}

#[derive(Debug)]
enum FieldValue {
    /// A number or a boolean.
    Plain(Value),
    Text(String),
    /// The `Debug` text of a value.
    Written(String),
}

impl Fields {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    /// The fields of a line with the number of suppressed lines of this message.
    pub(super) fn held_back(message: &str, count: u64) -> Self {
        Self {
            message: message.to_owned(),
            others: vec![("more", FieldValue::Plain(count.into()))],
            target: None,
        }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    fn push(&mut self, field: &Field, value: FieldValue) {
        match (field.name(), value) {
            ("message", FieldValue::Text(text) | FieldValue::Written(text)) => self.message = text,
            ("log.target", FieldValue::Text(text)) => self.target = Some(text),
            (name, _) if name.starts_with(FROM_LOG) => {}
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut short = short(field);
        // An error only means that the buffer is full.
        write!(short, "{value:?}").ok();
        self.push(field, FieldValue::Written(short.into_text()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut short = short(field);
        short.write_str(value).ok();
        self.push(field, FieldValue::Text(short.into_text()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, FieldValue::Plain(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, FieldValue::Plain(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, FieldValue::Plain(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, FieldValue::Plain(value.into()));
    }
}

fn short(field: &Field) -> Short {
    Short::new(if OWN.contains(&field.name()) { OWN_BYTES } else { QUOTED_BYTES })
}

impl Style {
    /// The line of an event, with the current time.
    pub(super) fn line(self, level: Level, target: &str, fields: &Fields) -> String {
        let mut time = String::new();
        // Formatting fails only for a clock before the year 0.
        SystemTime.format_time(&mut Writer::new(&mut time)).ok();
        match self {
            Self::Text { has_colours } => text(&time, level, target, fields, has_colours),
            Self::Json => {
                let mut object = Map::new();
                object.insert("message".into(), fields.message.clone().into());
                for (name, value) in &fields.others {
                    object.insert((*name).to_owned(), value.as_json());
                }
                let line =
                    json!({ "timestamp": time, "level": level.as_str(), "fields": object, "target": target });
                format!("{line}\n")
            }
        }
    }
}

fn text(time: &str, level: Level, target: &str, fields: &Fields, has_colours: bool) -> String {
    let colour = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        _ => "35",
    };
    let styled = |style: &str, text: &str| match has_colours {
        true => format!("\x1b[{style}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let level = styled(colour, &format!("{:>5}", level.as_str()));
    let mut line =
        format!("{} {level} {} {}", styled("2", time), styled("2", &format!("{target}:")), fields.message);
    for (name, value) in &fields.others {
        line += &format!(" {}{}", styled("3", name), styled("2", "="));
        line += &value.as_text();
    }
    line.push('\n');
    line
}

impl FieldValue {
    fn as_json(&self) -> Value {
        match self {
            Self::Plain(value) => value.clone(),
            Self::Text(text) | Self::Written(text) => text.as_str().into(),
        }
    }

    /// The text of the value, in quotation marks if it could be read as several fields.
    fn as_text(&self) -> String {
        match self {
            Self::Plain(value) => value.to_string(),
            Self::Written(text) if is_one_word(text) || is_quoted(text) => text.clone(),
            Self::Text(text) | Self::Written(text) => {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
        }
    }
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || ['"', '='].contains(&c))
}

/// Whether the text is the `Debug` format of a string.
fn is_quoted(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut is_escaped = false;
    for c in inner.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return false,
            _ => {}
        }
    }
    !is_escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_passes_for_two_fields() {
        for (written, text) in [
            ("r1", "r1"),
            ("10.2ms", "10.2ms"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a level=error", "\"a level=error\""),
            ("\"a b\"", "\"a b\""),
            ("\"a\" b=\"c\"", r#""\"a\" b=\"c\"""#),
            ("\"a\\\"", r#""\"a\\\"""#),
        ] {
            assert_eq!(FieldValue::Written(written.into()).as_text(), text, "{written}");
        }
        assert_eq!(FieldValue::Text("/admin".into()).as_text(), "\"/admin\"");
    }
}
