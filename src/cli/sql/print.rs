//! `pgio sql print`: prints the functions as a migration.

use clap::Args;

use super::{Grants, Schema};
use crate::cli::arguments::Global;
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;

/// Print the SQL that installs the functions, as a migration for any tool
///
/// Needs no database. The output is one migration: run it in one transaction, as Flyway, sqlx, Prisma and others do. It
/// creates the attachment table if it does not exist. The migration is idempotent; that of a newer pgio upgrades in
/// place.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio sql print | psql -1 -v ON_ERROR_STOP=1     install with psql
  pgio sql print --grant app >V7__emit.sql        a migration for Flyway
  pgio sql print --schema events --channel-prefix chat")]
pub(super) struct Print {
    #[command(flatten)]
    schema: Schema,
    #[command(flatten)]
    grants: Grants,
}

impl Print {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let script = self.schema.emitter(global)?.script(&self.grants.roles);
        let mut lines = Lines::stdout();
        script.lines().try_for_each(|line| lines.raw(line))?;
        lines.flush()
    }
}
