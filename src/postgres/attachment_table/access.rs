//! How this role may use the table, in one round trip.

use futures_util::future::try_join;
use tokio_postgres::Client;

use super::foreign_code::ForeignCode;
use super::privileges::missing_privileges;
use crate::Result;
use crate::postgres::TableName;

/// How a role may use the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableAccess {
    /// The privileges that a server needs and this role lacks: `DELETE ON t`.
    pub(crate) missing_privileges: Vec<String>,
    /// What may run code of other roles as this role.
    pub(crate) foreign_code: ForeignCode,
}

impl TableAccess {
    /// Reads the catalog for the table with this object id.
    pub(super) async fn of(client: &Client, table: &TableName, oid: u32) -> Result<Self> {
        let missing = missing_privileges(client, table, oid);
        let (missing_privileges, foreign_code) = try_join(missing, ForeignCode::of(client, oid)).await?;
        Ok(Self { missing_privileges, foreign_code })
    }
}
