//! The SQL of the functions for one schema and its settings. Pure text.

use std::collections::BTreeSet;

use super::functions::{FUNCTIONS, Function};
use super::quote::{dollar_tag, json_text, literal};
use super::table_name::{Piece, pieces};
use super::{Name, SqlEmitter};
use crate::protocol::MAX_INLINE_BYTES;

/// The version of the functions. Raise it with every change of them.
pub(crate) const VERSION: i32 = 2;

const HEAD: &str = include_str!("sql/head.sql");
const SCHEMA: &str = include_str!("sql/schema.sql");
const GUARD: &str = include_str!("sql/guard.sql");
const TABLE: &str = include_str!("sql/table.sql");
const OLD_SETTINGS: &str = include_str!("sql/old_settings.sql");
const INTERNALS: &str = include_str!("sql/internals.sql");
const WITH_TABLE: &str = include_str!("sql/with_table.sql");
const PRIVILEGES: &str = include_str!("sql/privileges.sql");
const OBSOLETE: &str = include_str!("sql/obsolete.sql");
const MSGPACK_LEVEL: &str = include_str!("sql/msgpack_level.sql");
const UNINSTALL: &str = include_str!("sql/uninstall.sql");

/// The comments that mark our functions, our schema, and the settings of version 1.
const SETTINGS_MARK: &str = "pgio sql: settings";
const SCHEMA_MARK: &str = "pgio sql: functions that emit to the clients of a Socket.IO cluster";
pub(super) const MARK_PREFIX: &str = "pgio sql ";
pub(super) const MARK_PATTERN: &str = "pgio sql %";

/// The comment of a function of this version.
fn mark() -> String {
    format!("{MARK_PREFIX}{VERSION}")
}

impl SqlEmitter {
    /// The whole installation script: schema, settings and functions, with privileges for these roles.
    pub(crate) fn script(&self, roles: &[Name]) -> String {
        let values = Values::of(self);
        let mut parts: Vec<_> =
            [HEAD, SCHEMA, GUARD, TABLE, OLD_SETTINGS, INTERNALS].map(|text| values.fill(text)).into();
        let schema = self.schema.as_sql();
        parts.extend(FUNCTIONS.iter().map(|function| values.creation(function)));
        parts.push(values.fill(PRIVILEGES));
        let mark = literal(&mark());
        let marks = FUNCTIONS
            .iter()
            .map(|function| format!("COMMENT ON FUNCTION {schema}.{} IS {mark};\n", function.signature()));
        parts.push(marks.collect());
        parts.push(values.fill(OBSOLETE));
        for role in roles {
            let role = role.as_sql();
            let functions: Vec<_> = FUNCTIONS.iter().filter(|function| function.is_public()).collect();
            let signatures = functions.iter().map(|function| format!("{schema}.{}", function.signature()));
            let list = signatures.collect::<Vec<_>>().join(",\n  ");
            parts.push(format!(
                "GRANT USAGE ON SCHEMA {schema} TO {role};\nGRANT EXECUTE ON FUNCTION\n  {list}\n  TO {role};\n"
            ));
        }
        parts.join("\n")
    }

    /// The script that removes the installation, but not the attachment table.
    pub(super) fn uninstall_script(&self) -> String {
        let values = Values::of(self);
        [OLD_SETTINGS, UNINSTALL].map(|text| values.fill(text)).join("\n")
    }

    /// The size in bytes from which a message goes through the table.
    pub(super) fn inline_limit(&self) -> usize {
        self.payload_threshold.min(MAX_INLINE_BYTES)
    }

    /// The text between the dollar quotes of a function, as the server stores it. `table` is the name of the attachment table
    /// with its schema.
    pub(super) fn body_of(&self, function: &Function, table: &str) -> String {
        let values = Values::of(self);
        let pieces = pieces(function.body()).into_iter().map(|piece| match piece {
            Piece::Text(text) => values.fill(text),
            Piece::Name => table.to_owned(),
            Piece::JsonName => json_text(table),
        });
        pieces.collect()
    }
}

/// The number of nested levels of a document that one query encodes.
const LEVELS: usize = 8;

/// The query that encodes `levels` nested levels of a document in msgpack, with placeholders.
fn msgpack_levels(levels: usize) -> String {
    (0..levels).rev().fold("@schema@.msgpack_deep(item)".to_owned(), |nested, level| {
        let value = if level == 0 { "document".to_owned() } else { format!("part{level}.item") };
        let part = format!("part{}", level + 1);
        let text = MSGPACK_LEVEL.trim_end().replace("@value@", &value).replace("@part@", &part);
        text.replace("@nested@", &nested)
    })
}

/// The distinct names of the functions, as SQL literals.
fn names() -> String {
    let names: BTreeSet<_> = FUNCTIONS.iter().map(|function| literal(function.name)).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// The values of the placeholders in the SQL files.
#[derive(Clone)]
struct Values {
    tag: String,
    values: [(&'static str, String); 22],
}

impl Values {
    fn of(emitter: &SqlEmitter) -> Self {
        let SqlEmitter { schema, channel_prefix, table, .. } = emitter;
        let tag = dollar_tag([schema.as_str(), channel_prefix, table.as_sql()]);
        let signatures: Vec<_> = FUNCTIONS.iter().map(|function| literal(&function.signature())).collect();
        let values = [
            ("body", tag.clone()),
            ("outer", dollar_tag([schema.as_str(), channel_prefix, table.as_sql(), &tag])),
            ("version", VERSION.to_string()),
            ("schema", schema.as_sql()),
            ("schema_name", literal(schema.as_str())),
            ("schema_identifier", literal(&schema.as_sql())),
            ("schema_mark", literal(SCHEMA_MARK)),
            ("settings_mark", literal(SETTINGS_MARK)),
            ("mark", literal(&mark())),
            ("mark_pattern", literal(MARK_PATTERN)),
            ("signatures", signatures.join(",\n          ")),
            ("names", names()),
            ("prefix", literal(channel_prefix)),
            ("prefix_json", json_text(channel_prefix)),
            // The position of the first character after the prefix and `#`, from 1.
            ("namespace_at", (channel_prefix.chars().count() + 2).to_string()),
            ("table", table.as_sql().to_owned()),
            ("table_name", literal(table.as_sql())),
            ("threshold", emitter.inline_limit().to_string()),
            ("msgpack_level", String::new()),
            ("msgpack_levels", String::new()),
            ("create", String::new()),
            ("parts", String::new()),
        ];
        let mut filled = Self { tag, values };
        for (name, levels) in [("msgpack_level", 1), ("msgpack_levels", LEVELS)] {
            let query = filled.fill(&msgpack_levels(levels));
            filled.set(name, query);
        }
        filled
    }

    /// The statement that creates a function. If its body contains the name of the attachment table, the statement looks up the
    /// schema of the table when it runs.
    fn creation(&self, function: &Function) -> String {
        let pieces = pieces(function.body());
        if let [Piece::Text(_)] = pieces.as_slice() {
            return self.fill(function.sql);
        }
        let tag = &self.tag;
        let parts = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => format!("{tag}{}{tag}", self.fill(text)),
            Piece::Name => "name".to_owned(),
            Piece::JsonName => "name_json".to_owned(),
        });
        let (comment, create) = function.head();
        let mut filled = self.clone();
        filled.set("parts", parts.collect::<Vec<_>>().join(", "));
        filled.set("create", literal(&self.fill(create)));
        format!("{}{}", self.fill(comment), filled.fill(WITH_TABLE))
    }

    fn set(&mut self, name: &str, text: String) {
        if let Some((_, value)) = self.values.iter_mut().find(|(known, _)| *known == name) {
            *value = text;
        }
    }

    /// Replaces each `@name@` in one pass: values are not expanded again.
    fn fill(&self, template: &str) -> String {
        let mut filled = String::with_capacity(template.len() * 2);
        let mut rest = template;
        while let Some(at) = rest.find('@') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let found = self
                .values
                .iter()
                .find_map(|(name, value)| Some((value, rest.strip_prefix(name)?.strip_prefix('@')?)));
            match found {
                Some((value, after)) => {
                    filled.push_str(value);
                    rest = after;
                }
                None => filled.push('@'),
            }
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitter(schema: &str, prefix: &str, table: &str) -> SqlEmitter {
        SqlEmitter::new(schema.parse().unwrap(), prefix.into(), table.parse().unwrap(), 8000).unwrap()
    }

    #[test]
    fn every_placeholder_is_filled_and_no_value_is_filled_again() {
        let script = emitter("socket_io", "socket.io", "socket_io_attachments").script(&[]);
        assert!(!script.contains('@'), "{script}");
        let odd = emitter("@schema@", "@body@", r#""@table@""#).script(&["@version@".parse().unwrap()]);
        assert!(odd.contains(r#"CREATE OR REPLACE FUNCTION "@schema@".emit("#), "{odd}");
        assert!(odd.contains("'@body@' || '#'") && odd.contains(r#"TO "@version@";"#), "{odd}");
    }

    /// A changed text without a new version would be reported as a manual change.
    #[test]
    fn each_change_of_the_functions_has_a_version() {
        let script = emitter("socket_io", "socket.io", "socket_io_attachments").script(&[]);
        // FNV-1a, which is the same on every machine.
        let hash = script.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let known = [(1, 6_258_390_916_565_152_859), (2, 10_768_994_725_697_503_110)];
        assert_eq!(known.last(), Some(&(VERSION, hash)), "raise VERSION, and add it here with this hash");
    }

    #[test]
    fn names_that_need_quoting_are_quoted() {
        let script = emitter("it's \"a\" $pgio$", r"a'\$pgio1$", "t").script(&["a\"b".parse().unwrap()]);
        assert!(script.contains("AS $pgio2$\n"), "{script}");
        assert!(script.contains(r#"CREATE OR REPLACE FUNCTION "it's ""a"" $pgio$".emit("#), "{script}");
        assert!(script.contains("nspname = 'it''s \"a\" $pgio$'"), "{script}");
        assert!(script.contains(r"E'a''\\$pgio1$' || '#'"), "{script}");
        assert!(script.contains(r#"TO "a""b";"#), "{script}");
    }

    #[test]
    fn migration_tools_find_no_placeholder_of_theirs() {
        // Flyway replaces ${name}; JDBC takes a question mark for a parameter.
        let script = emitter("socket_io", "socket.io", "socket_io_attachments").script(&[]);
        let code: String = script.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        assert!(!script.contains("${") && !code.contains('?'), "{code}");
    }

    #[test]
    fn names_that_postgres_would_cut_off_are_refused() {
        for bad in ["", "a\0b", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        let too_long = "p".repeat(62);
        assert!(SqlEmitter::new("s".parse().unwrap(), too_long, "t".parse().unwrap(), 8000).is_err());
    }
}
