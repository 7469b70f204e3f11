//! Checks the attachment table: whether it exists, is usable, and is cleaned up.

use super::Context;
use super::finding::Finding;
use super::server::short;
use crate::cli::exit::{create_table, table_remedy};
use crate::cli::output::number::count;
use crate::postgres::health::{Elsewhere, ExpiredRows, Server};
use crate::postgres::quote_identifier;
use crate::postgres::{ForeignCode, TableName};
use crate::{Error, Result};

/// The number of expired rows up to which the check passes.
const MANY: u64 = 10_000;

/// The maximum number of rows that the check counts.
const LIMIT: u32 = 1_000_000;

/// The server's error code for a sequence that has reached its maximum.
const SEQUENCE_EXHAUSTED: &str = "2200H";
/// The server's error code for a full disk.
const DISK_FULL: &str = "53100";

/// The number of cleanup intervals after which a row should be deleted. Nodes may start their cleanups at different
/// times.
const INTERVALS: u32 = 3;

pub(super) async fn check(context: &Context, server: &Server) -> Result<Vec<Finding>> {
    let Context { examiner, options, .. } = context;
    let table = &options.table_name;
    let user = &server.user;
    let shape = match examiner.shape().await {
        Ok(shape) => shape,
        // A role needs USAGE on the schema to find the table.
        Err(Error::TablePrivilege { reason, .. }) => {
            let schema = table.schema_as_sql().unwrap_or("public");
            let grant = format!("GRANT USAGE ON SCHEMA {schema} TO {user}");
            return Ok(vec![Finding::fail("privileges", reason, grant)]);
        }
        Err(error) => return Err(error),
    };
    let Some(shape) = shape else {
        return Ok(vec![missing(context, user).await?]);
    };
    let storage = if shape.definition.is_unlogged { ", unlogged" } else { "" };
    let mut findings = vec![Finding::ok("table", format!("{table}{storage}"))];

    if let Err(Error::TableShape { reason, remedy, .. }) = shape.definition.check(table) {
        findings.push(Finding::fail("columns", reason, table_remedy(&remedy)));
        return Ok(findings);
    }
    findings.push(Finding::ok("columns", "id, created_at and payload are correct"));
    let foreign_code = examiner.foreign_code(&shape).await?;
    findings.extend(foreign(&foreign_code, table, user));
    if !shape.has_replica_identity() {
        let publications = examiner.delete_publications(&shape).await?;
        findings.extend(unidentified(&publications, table, shape.identifying_index()));
    }

    let missing = examiner.missing_privileges(&shape).await?;
    let may_read = !missing.iter().any(|privilege| privilege.starts_with("SELECT"));
    findings.push(match missing.is_empty() {
        true => Finding::ok("privileges", format!("{user} may read, write and delete attachments")),
        false => {
            let grants = missing.iter().map(|privilege| format!("GRANT {privilege} TO {user}"));
            let detail = format!("{user} has no {}", missing.join(", no "));
            Finding::fail("privileges", detail, grants.collect::<Vec<_>>().join("; "))
        }
    });

    let unindexed: Vec<_> = shape.unindexed().collect();
    findings.push(match unindexed.as_slice() {
        [] => Finding::ok("index", "id and created_at are indexed"),
        columns => {
            let detail = format!(
                "no index on {}: every cleanup or look-up scans the whole table",
                columns.join(" and ")
            );
            Finding::warn("index", detail, create_table(table.as_sql()))
        }
    });
    let may_insert =
        !missing.iter().any(|privilege| privilege.starts_with("INSERT") || privilege.starts_with("USAGE"));
    // The trial would run the triggers of an owner that is not trusted.
    if may_insert && foreign_code.owner.is_none() {
        let outcome = examiner.try_insert().await;
        let is_locked = matches!(outcome, Err(Error::TableLocked { .. }));
        findings.push(insertion(outcome)?);
        if is_locked {
            return Ok(findings);
        }
    }
    if may_read {
        findings.push(backlog(context).await?);
    }
    Ok(findings)
}

/// The finding about a published table without a replica identity.
fn unidentified(publications: &[String], table: &TableName, index: Option<&str>) -> Option<Finding> {
    let names = publications.join(", ");
    let detail = format!(
        "{table} has no replica identity, and is in a publication of deletes ({names}): every cleanup fails"
    );
    let identity = match index {
        Some(index) => format!("USING INDEX {}", quote_identifier(index)),
        None => "FULL".into(),
    };
    let advice = format!("ALTER TABLE {table} REPLICA IDENTITY {identity}");
    (!publications.is_empty()).then(|| Finding::warn("publication", detail, advice))
}

/// The findings about code of other roles, which would run as each server, and as the user of this command.
fn foreign(code: &ForeignCode, table: &TableName, user: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(owner) = &code.owner {
        let detail =
            format!("{table} belongs to the role {owner}, which can run code as {user} with a trigger");
        let advice = format!("ALTER TABLE {table} OWNER TO the role of the servers, or a superuser");
        findings.push(Finding::warn("table", detail, advice));
    }
    if !code.triggers.is_empty() {
        let triggers = code.triggers.join(", ");
        let detail =
            format!("{table} has triggers, which run with the privileges of each server: {triggers}");
        findings.push(Finding::warn("table", detail, "drop each trigger that is not yours"));
    }
    findings
}

/// The table is not in the schema that was looked in. It may be in another one.
async fn missing(context: &Context, user: &str) -> Result<Finding> {
    let Context { examiner, options, .. } = context;
    let table = &options.table_name;
    let detail = format!("{table} does not exist: events with binary, and large ones, cannot be sent");
    Ok(match examiner.table_elsewhere().await? {
        None => Finding::fail("table", detail, create_table(table.as_sql())),
        Some(Elsewhere { schema, name, is_usable: true }) => Finding::fail(
            "table",
            format!("{detail}; there is {schema}.{name}, outside of the search_path of {user}"),
            format!(
                "--table-name {schema}.{name} if the servers use that table, or else {}",
                create_table(table.as_sql())
            ),
        ),
        Some(Elsewhere { schema, name, is_usable: false }) => Finding::fail(
            "table",
            format!("{detail}; there is {schema}.{name}, and {user} has no USAGE on the schema"),
            format!("GRANT USAGE ON SCHEMA {schema} TO {user} if the servers use that table"),
        ),
    })
}

/// The finding about a trial insertion.
fn insertion(outcome: Result<()>) -> Result<Finding> {
    let error = match outcome {
        Ok(()) => return Ok(Finding::ok("insert", "a row can be inserted (rolled back)")),
        Err(error) if error.is_disconnected() => return Err(error),
        Err(error) => error,
    };
    if matches!(error, Error::TableLocked { .. }) {
        return Ok(Finding::warn("insert", error.to_string(), "pg_locks shows which session holds the lock"));
    }
    let advice = match error.sqlstate() {
        Some(SEQUENCE_EXHAUSTED) => "ALTER SEQUENCE ... AS bigint MAXVALUE 9223372036854775807",
        Some(DISK_FULL) => "free space on the disk of Postgres",
        _ => "events with binary, and large ones, fail with this error; the log of Postgres has more",
    };
    Ok(Finding::fail("insert", error.to_string(), advice))
}

async fn backlog(context: &Context) -> Result<Finding> {
    let age = context.options.cleanup_interval.saturating_mul(INTERVALS);
    let advice =
        "pgio attachments cleanup; then find out why no server cleans up (cleanupInterval, DELETE privilege)";
    Ok(match context.examiner.backlog(age, LIMIT).await? {
        ExpiredRows::Count(rows) if rows < MANY => {
            Finding::ok("backlog", format!("{} rows are older than {}", count(rows), short(age)))
        }
        ExpiredRows::Count(rows) => {
            let more = if rows >= u64::from(LIMIT) { " or more" } else { "" };
            Finding::warn(
                "backlog",
                format!("{}{more} rows are older than {}", count(rows), short(age)),
                advice,
            )
        }
        ExpiredRows::Unknown => {
            let detail = "cannot count the rows in time: there are too many, or the table is locked";
            Finding::warn(
                "backlog",
                detail,
                "pgio attachments stats has no time limit; pg_locks shows which session holds the lock",
            )
        }
    })
}
