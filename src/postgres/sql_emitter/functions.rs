//! The functions, one file each.

/// The dollar quote around the body.
const BODY: &str = "@body@";

/// A function of the schema.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// The types of its arguments, as the server writes them.
    pub(super) types: &'static str,
    /// The statement that creates it, with placeholders.
    pub(super) sql: &'static str,
}

impl Function {
    /// The name and the types of the arguments, by which Postgres tells functions apart.
    pub(super) fn signature(&self) -> String {
        format!("{}({})", self.name, self.types)
    }

    /// Whether roles get EXECUTE on it. The other functions are internal.
    pub(super) fn is_public(&self) -> bool {
        self.is_security_definer()
    }

    /// Whether it runs with the privileges of its owner.
    pub(super) fn is_security_definer(&self) -> bool {
        self.attributes().contains(" SECURITY DEFINER")
    }

    /// Whether it is STABLE rather than VOLATILE.
    pub(super) fn is_stable(&self) -> bool {
        self.attributes().contains(" STABLE")
    }

    /// Its settings, as the server lists them: `search_path=pg_catalog, pg_temp`.
    pub(super) fn configuration(&self) -> String {
        let settings = self.attributes().split(" SET ").skip(1);
        settings.map(|setting| setting.replacen(" = ", "=", 1)).collect::<Vec<_>>().join(", ")
    }

    /// The comment before its statement, and the statement up to its body.
    pub(super) fn head(&self) -> (&'static str, &'static str) {
        let head = self.sql.split(BODY).next().unwrap_or_default();
        head.split_at(head.find("CREATE ").unwrap_or_default())
    }

    /// The text between the dollar quotes, with placeholders.
    pub(super) fn body(&self) -> &'static str {
        self.sql.split(BODY).nth(1).unwrap_or_default()
    }

    /// The line that starts with LANGUAGE.
    fn attributes(&self) -> &str {
        self.sql.lines().find(|line| line.starts_with("LANGUAGE ")).unwrap_or_default()
    }
}

macro_rules! functions {
    ($($name:literal $types:literal $file:literal;)+) => {
        /// All functions in the order of their creation: a function in plain SQL comes after those that it calls. A changed
        /// signature is another function, and the old one is dropped.
        pub(super) const FUNCTIONS: &[Function] = &[
            $(Function { name: $name, types: $types, sql: include_str!(concat!("sql/functions/", $file, ".sql")) },)+
        ];
    };
}

functions! {
    "emit" "text, jsonb, text[], text[], text, boolean, boolean, boolean" "emit_jsonb";
    "emit" "text, text, text[], text[], text, boolean, boolean, boolean" "emit_text";
    "emit" "text, bytea, text[], text[], text, boolean, boolean, boolean" "emit_bytea";
    "join" "text[], text[], text[], text" "join";
    "leave" "text[], text[], text[], text" "leave";
    "disconnect" "boolean, text[], text[], text" "disconnect";
    "server_side_emit" "text, jsonb, text" "server_side_emit_jsonb";
    "server_side_emit" "text, text, text" "server_side_emit_text";
    "server_side_emit" "text, bytea, text" "server_side_emit_bytea";
    "broadcast_change" "" "broadcast_change";
    "broadcast" "text, jsonb, jsonb, text, boolean" "broadcast";
    "settings" "" "settings";
    "send" "integer, text, jsonb" "send";
    "attach" "integer, text, bytea, boolean" "attach";
    "origin" "" "origin";
    "channel" "text" "channel";
    "target" "text[], text[], jsonb" "target";
    "room_names" "text, text[]" "room_names";
    "flags" "boolean, boolean" "flags";
    "is_durable" "boolean, jsonb" "is_durable";
    "event_name" "text, text[]" "event_name";
    "client_event" "text" "client_event";
    "packet" "text, jsonb" "packet";
    "fill_template" "text, jsonb, jsonb" "fill_template";
    "msgpack_wide" "bigint, integer" "msgpack_wide";
    "msgpack_head" "bigint, integer, integer" "msgpack_head";
    "msgpack_utf8" "bytea" "msgpack_utf8";
    "msgpack_integer" "bigint" "msgpack_integer";
    "msgpack_odd_number" "numeric" "msgpack_odd_number";
    "msgpack_number" "numeric" "msgpack_number";
    "msgpack_deep" "jsonb" "msgpack_deep";
    "msgpack" "jsonb" "msgpack";
    "msgpack_packet" "text, bytea" "msgpack_packet";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_file_creates_the_function_of_its_name() {
        let mut signatures = HashSet::new();
        for function in FUNCTIONS {
            let begin = format!("\nCREATE OR REPLACE FUNCTION @schema@.{}(", function.name);
            assert_eq!(function.sql.matches(&begin).count(), 1, "{}", function.name);
            assert!(
                function.sql.starts_with("-- ") && function.sql.ends_with("@body@;\n"),
                "{}",
                function.name
            );
            let fixed = if function.is_public() { "search_path=pg_catalog, pg_temp" } else { "" };
            assert!(function.configuration().starts_with(fixed), "{}", function.name);
            // Postgres would prefer a function of another role without that argument.
            assert!(function.is_public() || !function.sql.contains(" DEFAULT "), "{}", function.name);
            assert!(signatures.insert(function.signature()), "{}", function.signature());
        }
    }
}
