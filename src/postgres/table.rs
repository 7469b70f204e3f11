//! The name of the attachment table.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Error;

/// The name of the attachment table: `table` or `schema.table`, with SQL quotes around parts that need them.
///
/// As in the Node packages, the name is inserted into statements unchanged: Postgres folds an unquoted name to lower case.
///
/// ```
/// let table: pgio::postgres::TableName = r#"app."Attachments""#.parse()?;
/// assert_eq!(table.to_string(), r#"app."Attachments""#);
/// assert!("attachments; DROP TABLE users".parse::<pgio::postgres::TableName>().is_err());
/// # Ok::<(), pgio::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName(Arc<str>);

impl TableName {
    /// The name as SQL text.
    pub fn as_sql(&self) -> &str {
        &self.0
    }

    /// The schema as SQL text, if the name has one.
    #[cfg(feature = "cli")]
    pub(crate) fn schema_as_sql(&self) -> Option<&str> {
        let rest = after_identifier(&self.0)?;
        rest.starts_with('.').then(|| &self.0[..self.0.len() - rest.len()])
    }
}

impl Default for TableName {
    /// `socket_io_attachments`, as in Node.
    fn default() -> Self {
        Self("socket_io_attachments".into())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TableName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let valid = parts(name).is_some_and(|parts| (1..=2).contains(&parts));
        if valid {
            return Ok(Self(name.into()));
        }
        let reason = format!("{name:?} is not the name of a table (table or schema.table)");
        Err(Error::Setting { setting: "table_name".into(), reason })
    }
}

/// The number of identifiers in the dotted name; `None` if it is malformed.
fn parts(name: &str) -> Option<usize> {
    let mut rest = name;
    let mut count = 0;
    loop {
        rest = after_identifier(rest)?;
        count += 1;
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None => return rest.is_empty().then_some(count),
        }
    }
}

fn after_identifier(text: &str) -> Option<&str> {
    if let Some(mut quoted) = text.strip_prefix('"') {
        let full = quoted;
        loop {
            let end = quoted.find('"')?;
            match quoted[end + 1..].strip_prefix('"') {
                Some(more) => quoted = more,
                None => {
                    let length = full.len() - quoted.len() + end;
                    let usable = length > 0 && !full[..length].contains('\0');
                    return usable.then_some(&quoted[end + 1..]);
                }
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
    let starts_well = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    starts_well.then_some(&text[end..])
}

/// Quotes any identifier: `a"b` becomes `"a""b"`.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_and_nothing_else() {
        for good in ["t", "socket_io_attachments", "app.t", r#""a b"."c""d""#, "s.\"T\"", "ü1$"] {
            assert!(good.parse::<TableName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a.b.c", "a b", "1a", "\"a", "\"\"", "a;--", "\"a\"b", "a\"b\""] {
            assert!(bad.parse::<TableName>().is_err(), "{bad}");
        }
        assert_eq!(quote_identifier("socket.io#/a\"b"), "\"socket.io#/a\"\"b\"");
    }

    #[cfg(feature = "cli")]
    #[test]
    fn the_schema_of_a_name() {
        for (name, schema) in [("t", None), ("app.t", Some("app")), (r#""a.b"."t""#, Some(r#""a.b""#))] {
            assert_eq!(name.parse::<TableName>().unwrap().schema_as_sql(), schema, "{name}");
        }
    }
}
