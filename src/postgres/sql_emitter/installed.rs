//! The installed functions, as read from the catalogs.
//!
//! Any role may have made what looks like an installation, and a reader may have more privileges than that role. So this
//! reads catalogs only: it calls no function of the schema, and selects from no relation of it.

use std::collections::BTreeMap;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error as PgError, Row};

use super::script::{MARK_PATTERN, MARK_PREFIX};
use super::stored::Stored;
use super::{Name, SqlEmitter};
use crate::Result;
use crate::postgres::{Session, Settings, failure};

/// The parameters of a statement, with their types.
type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

const FUNCTIONS: &str = "SELECT p.proname::text, pg_catalog.oidvectortypes(p.proargtypes), p.prosrc, p.prosecdef, \
     p.provolatile = 's', coalesce(pg_catalog.array_to_string(p.proconfig, ', '), ''), \
     coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), ''), \
     pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE'), \
     (SELECT pg_catalog.array_agg(role.rolname::text) FROM pg_catalog.pg_roles role \
      WHERE role.rolname = ANY ($2) AND pg_catalog.has_schema_privilege(role.oid, n.oid, 'USAGE') \
      AND pg_catalog.has_function_privilege(role.oid, p.oid, 'EXECUTE')), \
     owner.rolname::text, owner.rolsuper, \
     ARRAY(SELECT DISTINCT role.rolname::text FROM pg_catalog.aclexplode(p.proacl) \
      JOIN pg_catalog.pg_roles role ON role.oid = grantee WHERE grantee <> p.proowner ORDER BY 1) \
     FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
     JOIN pg_catalog.pg_roles owner ON owner.oid = p.proowner \
     WHERE n.nspname = $1 AND p.prokind = 'f'";

/// Whether the table of the functions is the table of the options, whether the owner of the functions may insert into it, and
/// which other roles may create triggers on it: its owner, and the owner of its schema, which can replace it.
/// No row without the table. Unlike `to_regclass`, this finds the table without USAGE on its schema.
const TABLE: &str = "SELECT coalesce(c.oid = pg_catalog.to_regclass($2), false), \
     coalesce(pg_catalog.has_table_privilege($3::text, c.oid, 'INSERT'), false), \
     ARRAY(SELECT DISTINCT coalesce(rolname::text, 'PUBLIC') \
      FROM (SELECT c.relowner \
      UNION ALL SELECT n.nspowner FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database() \
      AND n.nspowner NOT IN (datdba, coalesce(pg_catalog.to_regrole('pg_database_owner')::oid, datdba)) \
      UNION ALL SELECT grantee FROM pg_catalog.aclexplode(c.relacl) \
      WHERE privilege_type = 'TRIGGER') AS creator (id) LEFT JOIN pg_catalog.pg_roles role ON role.oid = creator.id \
      WHERE (rolsuper OR pg_catalog.pg_has_role(rolname, $3::name, 'USAGE')) IS NOT true ORDER BY 1) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE ARRAY[n.nspname, c.relname]::text[] = pg_catalog.parse_ident($1)";

/// The triggers that call a function of the schema. A partition has a copy of each trigger of its table.
const TRIGGERS: &str = "SELECT DISTINCT pg_catalog.format('%I on %I.%I', t.tgname, r.nspname, c.relname) \
     FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid \
     JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
     JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace r ON r.oid = c.relnamespace \
     WHERE n.nspname = $1 AND NOT t.tgisinternal AND pg_catalog.obj_description(p.oid, 'pg_proc') LIKE $2 \
     AND NOT (c.relispartition AND EXISTS (SELECT FROM pg_catalog.pg_trigger whole WHERE whole.tgname = t.tgname \
     AND whole.tgfoid = t.tgfoid AND whole.tgrelid = pg_catalog.pg_partition_root(c.oid))) \
     ORDER BY 1";

const SCHEMAS: &str = "SELECT DISTINCT n.nspname::text FROM pg_catalog.pg_description d \
     JOIN pg_catalog.pg_proc p ON p.oid = d.objoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
     WHERE d.classoid = 'pg_catalog.pg_proc'::regclass AND d.objsubid = 0 AND d.description LIKE $1 ORDER BY 1";

/// The installation in a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    /// The version of the functions. If there are several, the oldest one.
    pub(crate) version: i32,
    /// The settings; `None` if an older version has stored them elsewhere, or if they were changed by hand.
    pub(crate) settings: Option<Stored>,
    pub(super) table_exists: bool,
    /// Whether it is the table of the options.
    pub(super) is_table_of_options: bool,
    pub(super) owner_may_insert: bool,
    /// The roles that can create triggers on the table, and do not have the privileges of the owner of the functions.
    pub(super) trigger_creators: Vec<String>,
    pub(super) functions: BTreeMap<String, InstalledFunction>,
    /// `tell on public.orders`: the triggers that call a function.
    pub(crate) triggers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InstalledFunction {
    pub(super) body: String,
    pub(super) is_security_definer: bool,
    pub(super) is_stable: bool,
    /// `search_path=pg_catalog, pg_temp`
    pub(super) configuration: String,
    /// The version in its comment; `None` if it is not a function of pgio.
    pub(super) version: Option<i32>,
    pub(super) public_may_execute: bool,
    /// The given roles that may execute it.
    pub(super) roles: Vec<String>,
    /// The roles with a grant on it, besides its owner and PUBLIC.
    pub(super) grantees: Vec<String>,
    pub(super) owner: String,
    pub(super) is_owner_superuser: bool,
}

impl Installed {
    /// Reads the installation in the schema of `emitter`; `None` if there is none.
    pub(super) async fn read(client: &Client, emitter: &SqlEmitter, roles: &[Name]) -> Result<Option<Self>> {
        let fail = |error: PgError| failure(&error);
        let schema = emitter.schema.as_str();
        let names: Vec<_> = roles.iter().map(Name::as_str).collect();
        let parameters: Parameters<'_> = &[(&schema, Type::TEXT), (&names, Type::TEXT_ARRAY)];
        let rows = client.query_typed(FUNCTIONS, parameters).await.map_err(fail)?;
        let functions = rows.iter().map(function).collect::<Result<BTreeMap<_, _>, _>>().map_err(fail)?;
        let versions = functions.values().filter_map(|function| function.version);
        let Some(version) = versions.min() else { return Ok(None) };
        let settings = functions.get("settings()").filter(|function| function.version.is_some());
        let settings = settings.and_then(|function| Stored::parse(&function.body));

        let owner = owner(&functions).map(|(owner, _)| owner);
        let table_name = settings.as_ref().map(|settings| settings.table_name.as_str());
        let wanted = emitter.table.as_sql();
        let table: Parameters<'_> = &[(&table_name, Type::TEXT), (&wanted, Type::TEXT), (&owner, Type::TEXT)];
        let table = client.query_typed(TABLE, table).await.map_err(fail)?;
        let flag = |column| table.first().map_or(Ok(false), |row| row.try_get(column)).map_err(fail);
        let parameters: Parameters<'_> = &[(&schema, Type::TEXT), (&MARK_PATTERN, Type::TEXT)];
        let triggers = client.query_typed(TRIGGERS, parameters).await.map_err(fail)?;
        Ok(Some(Self {
            version,
            settings,
            table_exists: !table.is_empty(),
            is_table_of_options: flag(0)?,
            owner_may_insert: flag(1)?,
            trigger_creators: table.first().map_or(Ok(Vec::new()), |row| row.try_get(2)).map_err(fail)?,
            functions,
            triggers: triggers.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(fail)?,
        }))
    }

    /// The owner of the functions, if it is a superuser. The functions run with its privileges.
    pub(crate) fn superuser(&self) -> Option<&str> {
        owner(&self.functions).filter(|(_, is_superuser)| *is_superuser).map(|(owner, _)| owner)
    }

    /// The functions with one of these names, or with a mark of pgio, that belong neither to the owner of the functions nor to
    /// a superuser, each with its owner.
    pub(super) fn of_other_owners(&self, names: &[&str]) -> impl Iterator<Item = (&str, &str)> {
        let ours = owner(&self.functions).map(|(owner, _)| owner);
        self.functions.iter().filter_map(move |(signature, function)| {
            let name = signature.split('(').next().unwrap_or_default();
            let is_one = function.version.is_some() || names.contains(&name);
            let is_foreign = !function.is_owner_superuser && ours != Some(&*function.owner);
            (is_one && is_foreign).then_some((&**signature, &*function.owner))
        })
    }
}

/// The owner of the functions, and whether it is a superuser.
fn owner(functions: &BTreeMap<String, InstalledFunction>) -> Option<(&str, bool)> {
    let marked = |function: &&InstalledFunction| function.version.is_some();
    let ours = functions.get("settings()").filter(marked).or_else(|| functions.values().find(marked))?;
    Some((&ours.owner, ours.is_owner_superuser))
}

/// The schemas with an installation.
pub(crate) async fn schemas(settings: Settings) -> Result<Vec<Name>> {
    let session = Session::open(settings).await?;
    let client = session.client().await?;
    let rows = client.query_typed(SCHEMAS, &[(&MARK_PATTERN, Type::TEXT)]).await;
    let rows = rows.map_err(|error| failure(&error))?;
    let names = rows.iter().map(|row| row.try_get(0).map(Name));
    names.collect::<Result<_, PgError>>().map_err(|error| failure(&error))
}

fn function(row: &Row) -> Result<(String, InstalledFunction), PgError> {
    let (name, types): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let function = InstalledFunction {
        body: row.try_get(2)?,
        is_security_definer: row.try_get(3)?,
        is_stable: row.try_get(4)?,
        configuration: row.try_get(5)?,
        version: row
            .try_get::<_, &str>(6)?
            .strip_prefix(MARK_PREFIX)
            .and_then(|version| version.parse().ok()),
        public_may_execute: row.try_get(7)?,
        roles: row.try_get::<_, Option<Vec<String>>>(8)?.unwrap_or_default(),
        owner: row.try_get(9)?,
        is_owner_superuser: row.try_get(10)?,
        grantees: row.try_get(11)?,
    };
    Ok((format!("{name}({types})"), function))
}
