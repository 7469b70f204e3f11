//! Code of other roles that runs when this role uses the table.
//!
//! A trigger runs with the privileges of the role that inserts or deletes, so whoever can create one can act as a server.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::Result;
use crate::postgres::failure;

/// A superuser is a member of every role, which says nothing about trust.
const FOREIGN_CODE: &str = "SELECT \
    CASE WHEN NOT (owner.rolsuper OR owner.rolname = current_user OR owner.oid = datdba \
    OR NOT me.rolsuper AND pg_catalog.pg_has_role(owner.oid, 'MEMBER')) THEN owner.rolname::text END, \
    ARRAY(SELECT tgname::text FROM pg_catalog.pg_trigger \
    WHERE tgrelid = c.oid AND NOT tgisinternal AND tgenabled <> 'D' ORDER BY 1) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles owner ON owner.oid = c.relowner \
    JOIN pg_catalog.pg_roles me ON me.rolname = current_user \
    JOIN pg_catalog.pg_database ON datname = pg_catalog.current_database() WHERE c.oid = $1";

/// What may run code of other roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ForeignCode {
    /// The owner of the table, if it is neither this role, nor one that this role is a member of, nor a superuser, nor the
    /// owner of the database.
    pub(crate) owner: Option<String>,
    /// The names of the enabled triggers of the table.
    pub(crate) triggers: Vec<String>,
}

impl ForeignCode {
    /// Reads the catalog for the table with this object id.
    pub(crate) async fn of(client: &Client, oid: u32) -> Result<Self> {
        let fail = |error: tokio_postgres::Error| failure(&error);
        let rows = client.query_typed(FOREIGN_CODE, &[(&oid, Type::OID)]).await.map_err(fail)?;
        let Some(row) = rows.first() else { return Ok(Self::default()) };
        Ok(Self { owner: row.try_get(0).map_err(fail)?, triggers: row.try_get(1).map_err(fail)? })
    }
}
