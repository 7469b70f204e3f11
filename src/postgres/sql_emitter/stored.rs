//! The settings of an installation, as its function `settings` holds them.

use serde::Deserialize;

use crate::postgres::TableName;

/// The settings of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Stored {
    pub(crate) channel_prefix: String,
    /// The name with its schema, as SQL text.
    pub(crate) table_name: String,
    pub(crate) payload_threshold: usize,
}

impl Stored {
    /// Reads the body of the function, which another role may have written; `None` if it was changed.
    pub(super) fn parse(body: &str) -> Option<Self> {
        let stored: Self = serde_json::from_str(body.split("$json$").nth(1)?).ok()?;
        let name = stored.table_name.parse::<TableName>().ok()?;
        name.schema_as_sql().is_some().then_some(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_settings_are_read() {
        let body = |table: &str| {
            format!(
                "SELECT $json$ {{\"channel_prefix\": \"a\", \"table_name\": {table}, \"payload_threshold\": 8}} $json$::jsonb"
            )
        };
        let stored = Stored::parse(&body(r#""app.\"a\u0024b\"""#)).unwrap();
        assert_eq!((stored.table_name.as_str(), stored.payload_threshold), (r#"app."a$b""#, 8));
        for bad in ["", "SELECT '{}'", "$json${}$json$", &body("null"), &body(r#""t""#), &body(r#""a.b.c""#)]
        {
            assert_eq!(Stored::parse(bad), None, "{bad}");
        }
    }
}
