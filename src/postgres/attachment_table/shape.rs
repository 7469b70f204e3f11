//! The shape of the attachment table: expected columns and indexes, and the defects of an existing table.

use std::fmt;

use futures_util::future;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::Storage;
use crate::postgres::attachments::table_failure;
use crate::postgres::{Session, TableName, failure};
use crate::{Error, Result};

/// The columns that the protocol needs, their types, and what fills them. Source: the README of the Node adapter.
const COLUMNS: [Wanted; 3] = [
    Wanted { name: "id", type_name: "bigint", default: Some("a sequence") },
    Wanted { name: "created_at", type_name: "timestamp with time zone", default: Some("now()") },
    Wanted { name: "payload", type_name: "bytea", default: None },
];

/// The columns by which rows are looked up and cleaned up.
const INDEXED: [&str; 2] = ["id", "created_at"];

const RELATION: &str = "SELECT c.oid, n.nspname, c.relkind::text, c.relpersistence = 'u', \
     ARRAY(SELECT conrelid::regclass::text FROM pg_catalog.pg_constraint \
     WHERE confrelid = c.oid AND conrelid <> c.oid AND contype = 'f' ORDER BY 1), \
     c.relreplident::text, pg_catalog.pg_has_role(c.relowner, 'USAGE') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.oid = pg_catalog.to_regclass($1)";

const ATTRIBUTES: &str = "SELECT attname, pg_catalog.format_type(atttypid, atttypmod), \
     atthasdef OR attidentity <> '' FROM pg_catalog.pg_attribute \
     WHERE attrelid = pg_catalog.to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";

const INDEXES: &str = "SELECT index.relname, attname, indisvalid AND indisready, \
     amname = 'btree' AND indpred IS NULL, indisprimary, indisreplident, \
     indisunique AND indimmediate AND indisvalid AND indpred IS NULL AND indnatts = 1 AND coalesce(attnotnull, false) \
     FROM pg_catalog.pg_index JOIN pg_catalog.pg_class index ON index.oid = indexrelid \
     JOIN pg_catalog.pg_am am ON am.oid = index.relam \
     LEFT JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = indkey[0] \
     WHERE indrelid = pg_catalog.to_regclass($1)";

struct Wanted {
    name: &'static str,
    type_name: &'static str,
    /// What gives the column a value when an `INSERT` does not.
    default: Option<&'static str>,
}

/// The shape of a table.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) definition: Definition,
    indexes: Vec<Index>,
}

/// The shape without the indexes: all that decides whether it is an attachment table. Every server reads it at its start,
/// where the query of the indexes would take 0.7 ms.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) oid: u32,
    pub(super) schema: String,
    /// `r` for a table, `v` for a view, and so on: `pg_class.relkind`.
    kind: String,
    pub(crate) is_unlogged: bool,
    columns: Vec<Column>,
    /// The tables with a foreign key to it.
    referring: Vec<String>,
    /// `d` for the primary key, `i` for an index, `f` for the whole row, `n` for none: `pg_class.relreplident`.
    replica_identity: String,
    /// Whether this role has the rights of the owner.
    is_owned: bool,
}

#[derive(Debug)]
struct Column {
    name: String,
    type_name: String,
    has_default: bool,
}

#[derive(Debug)]
struct Index {
    name: String,
    /// `None` if the index begins with an expression.
    first_column: Option<String>,
    /// Whether it is valid: an interrupted build leaves an invalid index.
    is_valid: bool,
    /// Whether it covers all rows (no partial index).
    is_whole: bool,
    is_primary: bool,
    is_replica_identity: bool,
    /// Whether it can be the replica identity: unique, and on one column that is not null.
    can_identify: bool,
}

/// The remedy if the name belongs to a view, to another object that is no table, or to a table with other data.
pub(crate) const OTHER_TABLE: &str =
    "undo that if it is the table of the servers, else choose another table_name for all of them";

/// Something that makes a table useless for attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Defect {
    /// It is a view, or another relation that is no table.
    NoTable,
    /// A column is missing.
    MissingColumn { column: &'static str, type_name: &'static str },
    /// A column has another type.
    WrongType { column: &'static str, found: String, wanted: &'static str },
    /// The column has no default.
    NoDefault { column: &'static str, wanted: &'static str },
    /// It has a column that no attachment table has, so its rows are data of another application.
    UnknownColumn { column: String },
    /// A foreign key of another table references it, so its rows are data of another application.
    Referred { table: String },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => f.write_str("it is not a table"),
            Self::MissingColumn { column, .. } => write!(f, "it has no column {column}"),
            Self::WrongType { column, found, wanted } => write!(f, "{column} is {found}, not {wanted}"),
            Self::NoDefault { column, wanted } => write!(f, "{column} has no default ({wanted})"),
            Self::UnknownColumn { column } => {
                write!(f, "it has a column {column:?}, which no attachment table has")
            }
            Self::Referred { table } => write!(f, "a foreign key of {table} references it"),
        }
    }
}

impl Defect {
    /// Whether the defect shows that the table belongs to another application.
    fn is_foreign(&self) -> bool {
        matches!(self, Self::NoTable | Self::UnknownColumn { .. } | Self::Referred { .. })
    }

    /// The statement that repairs it. The owner has to run it, since it may take long or lose data.
    pub(crate) fn remedy(&self, table: &TableName) -> String {
        match self {
            Self::NoTable | Self::UnknownColumn { .. } | Self::Referred { .. } => OTHER_TABLE.into(),
            Self::MissingColumn { column: "id", .. } => {
                format!("ALTER TABLE {table} ADD id bigserial UNIQUE")
            }
            Self::MissingColumn { column: column @ "created_at", type_name } => {
                format!("ALTER TABLE {table} ADD {column} {type_name} DEFAULT now()")
            }
            Self::MissingColumn { column, type_name } => {
                format!("ALTER TABLE {table} ADD {column} {type_name}")
            }
            // No server could read the existing rows.
            Self::WrongType { column: "payload", .. } => {
                format!("DROP TABLE {table}, then pgio attachments init")
            }
            Self::WrongType { column, wanted, .. } => {
                format!("ALTER TABLE {table} ALTER {column} TYPE {wanted}")
            }
            Self::NoDefault { column: "id", .. } => {
                format!(
                    "ALTER TABLE {table} ALTER id SET NOT NULL, ALTER id ADD GENERATED BY DEFAULT AS IDENTITY"
                )
            }
            Self::NoDefault { column, wanted } => {
                format!("ALTER TABLE {table} ALTER {column} SET DEFAULT {wanted}")
            }
        }
    }
}

impl Shape {
    /// The shape, in one round trip; `None` without a table.
    pub(crate) async fn of(session: &Session, table: &TableName) -> Result<Option<Self>> {
        let client = session.client().await?;
        let name = table.as_sql();
        let name: &[(&(dyn ToSql + Sync), Type)] = &[(&name, Type::TEXT)];
        let (definition, indexes) =
            future::join(Definition::of(&client, table), client.query_typed(INDEXES, name)).await;
        let Some(definition) = definition? else { return Ok(None) };
        let read = |error| failure(&error);
        let indexes = indexes.map_err(read)?;
        let indexes = indexes.iter().map(|row| {
            Ok(Index {
                name: row.try_get(0)?,
                first_column: row.try_get(1)?,
                is_valid: row.try_get(2)?,
                is_whole: row.try_get(3)?,
                is_primary: row.try_get(4)?,
                is_replica_identity: row.try_get(5)?,
                can_identify: row.try_get(6)?,
            })
        });
        Ok(Some(Self { definition, indexes: indexes.collect::<Result<_, _>>().map_err(read)? }))
    }

    /// The columns without their index.
    pub(crate) fn unindexed(&self) -> impl Iterator<Item = &'static str> {
        INDEXED.into_iter().filter(|column| {
            !self.indexes.iter().any(|index| {
                index.is_valid && index.is_whole && index.first_column.as_deref() == Some(column)
            })
        })
    }

    /// Whether deletes can be published, which a partitioned table decides for each partition. Without a replica identity, every
    /// DELETE fails as soon as a publication contains the table.
    pub(crate) fn has_replica_identity(&self) -> bool {
        match self.definition.replica_identity.as_str() {
            _ if self.definition.kind == "p" => true,
            "f" => true,
            "d" => self.indexes.iter().any(|index| index.is_primary),
            "i" => self.indexes.iter().any(|index| index.is_replica_identity),
            _ => false,
        }
    }

    /// The unique index on `id`, if it can be the replica identity.
    pub(crate) fn identifying_index(&self) -> Option<&str> {
        let mut able = self.indexes.iter().filter(|index| index.can_identify);
        able.find(|index| index.first_column.as_deref() == Some("id")).map(|index| index.name.as_str())
    }

    /// The index that has to become the replica identity, if this role may change that.
    pub(super) fn missing_identity(&self) -> Option<&str> {
        let is_missing = self.definition.is_owned && !self.has_replica_identity();
        self.identifying_index().filter(|_| is_missing)
    }

    /// The invalid indexes on the column, which an interrupted build has left.
    pub(super) fn broken_indexes(&self, column: &str) -> impl Iterator<Item = &str> {
        let broken = move |index: &&Index| !index.is_valid && index.first_column.as_deref() == Some(column);
        self.indexes.iter().filter(broken).map(|index| index.name.as_str())
    }

    /// Whether its rows are logged.
    pub(super) fn storage(&self) -> Storage {
        if self.definition.is_unlogged { Storage::Unlogged } else { Storage::Logged }
    }
}

impl Definition {
    /// The definition, in one round trip; `None` without a table.
    pub(crate) async fn of(client: &Client, table: &TableName) -> Result<Option<Self>> {
        let name = table.as_sql();
        let name: &[(&(dyn ToSql + Sync), Type)] = &[(&name, Type::TEXT)];
        let (relation, columns) =
            future::join(client.query_typed(RELATION, name), client.query_typed(ATTRIBUTES, name)).await;
        let relation = relation.map_err(|error| table_failure(&error, table))?;
        let Some(relation) = relation.first() else { return Ok(None) };
        let read = |error| failure(&error);
        let columns = columns.map_err(read)?;
        let columns = columns.iter().map(|row| {
            Ok(Column { name: row.try_get(0)?, type_name: row.try_get(1)?, has_default: row.try_get(2)? })
        });
        Ok(Some(Self {
            oid: relation.try_get(0).map_err(read)?,
            schema: relation.try_get(1).map_err(read)?,
            kind: relation.try_get(2).map_err(read)?,
            is_unlogged: relation.try_get(3).map_err(read)?,
            columns: columns.collect::<Result<_, _>>().map_err(read)?,
            referring: relation.try_get(4).map_err(read)?,
            replica_identity: relation.try_get(5).map_err(read)?,
            is_owned: relation.try_get(6).map_err(read)?,
        }))
    }

    /// The defects of the table.
    pub(crate) fn defects(&self) -> Vec<Defect> {
        // Ordinary and partitioned tables.
        if !["r", "p"].contains(&self.kind.as_str()) {
            return vec![Defect::NoTable];
        }
        let wanted = COLUMNS.iter().filter_map(|wanted| self.defect_of(wanted));
        let unknown =
            self.columns.iter().filter(|column| COLUMNS.iter().all(|known| known.name != column.name));
        let unknown = unknown.map(|column| Defect::UnknownColumn { column: column.name.clone() });
        let referred = self.referring.iter().map(|table| Defect::Referred { table: table.clone() });
        wanted.chain(unknown).chain(referred).collect()
    }

    fn defect_of(&self, wanted: &Wanted) -> Option<Defect> {
        let &Wanted { name: column, type_name, default } = wanted;
        let Some(found) = self.columns.iter().find(|found| found.name == column) else {
            return Some(Defect::MissingColumn { column, type_name });
        };
        if found.type_name != type_name {
            let found = found.type_name.clone();
            return Some(Defect::WrongType { column, found, wanted: type_name });
        }
        default.filter(|_| !found.has_default).map(|wanted| Defect::NoDefault { column, wanted })
    }

    /// Fails if the table has a defect.
    ///
    /// A table with any other column is refused, also with a nullable one: its rows belong to another application, and a
    /// node would delete them. A table with exactly these three columns cannot be distinguished from an attachment table.
    pub(crate) fn check(&self, table: &TableName) -> Result<()> {
        let defects = self.defects();
        if defects.is_empty() {
            return Ok(());
        }
        let remedy = match defects.iter().any(Defect::is_foreign) {
            // A table of another application must not be changed.
            true => OTHER_TABLE.into(),
            false => defects.iter().map(|defect| defect.remedy(table)).collect::<Vec<_>>().join("; "),
        };
        let reason = defects.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Err(Error::TableShape { table: table.to_string(), reason, remedy })
    }
}
