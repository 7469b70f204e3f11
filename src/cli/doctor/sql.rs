//! Checks the SQL functions that emit events: whether the servers with these options receive the events.

use super::finding::Finding;
use crate::postgres::Settings;
use crate::postgres::sql_emitter::{Difference, Installed, Name, SqlEmitter, VERSION, out_of_reach, schemas};
use crate::{AdapterOptions, Error, Result};

/// The server's error code for a lack of privileges.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Checks each schema that has the functions. Returns no findings if no schema has them.
pub(super) async fn check(settings: &Settings, options: &AdapterOptions) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for schema in schemas(settings.clone()).await? {
        let AdapterOptions { channel_prefix, table_name, payload_threshold, .. } = options.clone();
        let wanted = match SqlEmitter::new(schema, channel_prefix, table_name, payload_threshold) {
            Ok(wanted) => wanted,
            // The check of the channels reports an invalid prefix.
            Err(Error::Namespace { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        match wanted.installed(settings.clone(), &[]).await {
            Ok(Some(installed)) => findings.push(judge(&wanted, &installed)),
            Ok(None) => {}
            Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => {
                let schema = wanted.schema();
                let detail = format!("functions in schema {schema}, whose settings this user may not read");
                findings.push(Finding::ok("sql", detail));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

fn judge(wanted: &SqlEmitter, installed: &Installed) -> Finding {
    let schema = wanted.schema();
    let version = installed.version;
    let advice = format!("pgio sql install{} with the options of the servers", flag(schema));
    let found = out_of_reach(wanted, installed);
    if !found.is_empty() {
        let list = found.iter().map(|Difference { object, problem }| format!("{object}: {problem}"));
        let list = list.collect::<Vec<_>>().join("; ");
        return Finding::warn("sql", format!("functions in schema {schema}: {list}"), advice);
    }
    if version < VERSION {
        let detail =
            format!("functions in schema {schema} are of version {version}, this pgio has {VERSION}");
        return Finding::warn("sql", detail, advice);
    }
    Finding::ok("sql", format!("functions in schema {schema}, version {version}, emit to these servers"))
}

/// The flag that names the schema, or an empty text for the default schema.
fn flag(schema: &Name) -> String {
    match schema.as_str() {
        "socket_io" => String::new(),
        plain if plain.chars().all(|c| c.is_alphanumeric() || c == '_') => format!(" --schema {plain}"),
        other => format!(" --schema '{}'", other.replace('\'', r"'\''")),
    }
}
