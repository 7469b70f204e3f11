//! The identity of the database that a connection has reached.

use super::{Session, failure};
use crate::Result;

/// The database as text, without secrets: `app at 10.0.0.5:5432 as alice`.
pub(crate) async fn server_identity(session: &Session) -> Result<String> {
    let client = session.client().await?;
    let sql = "SELECT current_database() || coalesce(' at ' || host(inet_server_addr()) || ':' || inet_server_port(), '')
                 || ' as ' || current_user";
    let rows = client.query_typed(sql, &[]).await.map_err(|error| failure(&error))?;
    let text = rows.first().map(|row| row.try_get(0).map_err(|error| failure(&error))).transpose()?;
    Ok(text.unwrap_or_default())
}
