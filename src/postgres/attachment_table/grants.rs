//! The privileges that a role needs for its part in the cluster (least privilege).

use tokio_postgres::types::Type;

use super::AttachmentTable;
use crate::postgres::failure;
use crate::postgres::table::quote_identifier;
use crate::{Error, Result};

/// The part of a role in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Publishes: `pgio emit` and the library's emitter.
    Emitter,
    /// Reads everything and changes nothing: `pgio tail`, `pgio attachments list`.
    Observer,
    /// Is a server: publishes, reads and cleans up.
    Node,
}

/// The query for the database, the schema and the sequence of the table.
const PLACE: &str = "SELECT pg_catalog.current_database(), n.nspname, c.relname, \
     pg_catalog.pg_get_serial_sequence($1, 'id') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.oid = pg_catalog.to_regclass($1)";

impl Part {
    /// The privileges on the table, and whether the role inserts rows.
    fn on_table(self) -> (&'static str, bool) {
        match self {
            Self::Emitter => (r#"INSERT ("payload"), SELECT ("id")"#, true),
            Self::Observer => ("SELECT", false),
            Self::Node => (r#"SELECT ("id", "payload", "created_at"), INSERT ("payload"), DELETE"#, true),
        }
    }
}

impl AttachmentTable {
    /// The GRANT statements for a role with this part. The name of the role is quoted.
    ///
    /// # Errors
    /// [`Error::MissingTable`], and those of the connection.
    pub(crate) async fn grants(&self, role: &str, part: Part) -> Result<Vec<String>> {
        let client = self.session.client().await?;
        let place = client.query_typed(PLACE, &[(&self.name.as_sql(), Type::TEXT)]).await;
        let place = place.map_err(|error| failure(&error))?;
        let missing = || Error::MissingTable { table: self.name.to_string() };
        let place = place.first().ok_or_else(missing)?;
        let text =
            |column: usize| place.try_get::<_, Option<String>>(column).map_err(|error| failure(&error));
        let quoted = |column| Ok::<_, Error>(quote_identifier(&text(column)?.unwrap_or_default()));

        let (role, schema) = (quote_identifier(role), quoted(1)?);
        let (privileges, is_inserting) = part.on_table();
        let mut grants = vec![
            format!("GRANT CONNECT ON DATABASE {} TO {role};", quoted(0)?),
            format!("GRANT USAGE ON SCHEMA {schema} TO {role};"),
            format!("GRANT {privileges} ON TABLE {schema}.{} TO {role};", quoted(2)?),
        ];
        // The server returns the name already quoted.
        if let Some(sequence) = text(3)?.filter(|_| is_inserting) {
            grants.push(format!("GRANT USAGE ON SEQUENCE {sequence} TO {role};"));
        }
        Ok(grants)
    }
}
