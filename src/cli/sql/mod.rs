//! `pgio sql`: manages functions in the database that emit events for any database client and any trigger.

mod check;
mod install;
mod print;
mod uninstall;

use clap::{Args, Subcommand};

use super::arguments::Global;
use super::exit::{self, Failure};
use crate::postgres::sql_emitter::{Name, SqlEmitter};

/// Emit from SQL: install functions that any database client and any trigger can call
///
/// The functions emit, join, leave, disconnect and server_side_emit are for statements, and broadcast_change is for
/// triggers. The events of a transaction are sent at its commit, and never after a rollback. The functions are plain
/// SQL and PL/pgSQL for PostgreSQL 12 and later, and need no extension. docs/sql.md is the manual.
///
/// The installation stores the channel prefix, the table and the payload threshold of the servers. The functions run
/// with the privileges of the role that installs them (SECURITY DEFINER): install as the owner of the attachment table
/// rather than as a superuser.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio sql install --grant app     install, and let the role app emit
  pgio sql print >V7__emit.sql     the same as a migration
  pgio sql check                   compare the installed functions
  psql -c \"SELECT socket_io.emit('price', '{\\\"EUR\\\": 42.5}')\"")]
pub(super) struct Sql {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Print(print::Print),
    Install(install::Install),
    Check(check::Check),
    Uninstall(uninstall::Uninstall),
}

impl Sql {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self.command {
            Command::Print(print) => print.run(global),
            Command::Install(install) => exit::unless_interrupted(install.run(global)).await,
            Command::Check(check) => exit::unless_interrupted(check.run(global)).await,
            Command::Uninstall(uninstall) => exit::unless_interrupted(uninstall.run(global)).await,
        }
    }
}

/// Where the functions are.
#[derive(Args)]
struct Schema {
    /// The schema of the functions
    #[arg(long, value_name = "SCHEMA", default_value = "socket_io")]
    schema: Name,
}

/// The roles that may call the functions.
#[derive(Args)]
struct Grants {
    /// Let this role call the functions. May be repeated [default: only the owner]
    #[arg(long = "grant", value_name = "ROLE")]
    roles: Vec<Name>,
}

impl Schema {
    /// The functions in this schema, for servers with the options of the command line.
    fn emitter(&self, global: &Global) -> Result<SqlEmitter, Failure> {
        let options = global.adapter_options();
        let schema = self.schema.clone();
        Ok(SqlEmitter::new(schema, options.channel_prefix, options.table_name, options.payload_threshold)?)
    }

    /// The command for this schema, as a hint.
    fn with_flag(&self, command: &str) -> String {
        match self.schema.as_str() {
            "socket_io" => command.to_owned(),
            schema => format!("{command} --schema '{schema}'"),
        }
    }
}
