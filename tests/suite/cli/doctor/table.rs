//! Faults of the attachment table: it is missing, odd, forbidden, slow or full.

use super::doctor;
use crate::support::attachments::{create_attachment_table, execute, lock_attachment_table};
use crate::support::pgio::{pgio, run};
use crate::support::postgres::{postgres, url_as};

#[tokio::test]
async fn a_missing_table() {
    let postgres = postgres().await;
    let diagnosis = doctor(postgres.url(), &["--table-name", "app.files"]).await;
    diagnosis.check(
        "table",
        "fail",
        "app.files does not exist",
        "pgio attachments init --table-name app.files",
    );
    let odd = "\"it's\"";
    doctor(postgres.url(), &["--table-name", odd]).await.check(
        "table",
        "fail",
        "",
        r#"--table-name '"it'\''s"'"#,
    );
    run(&mut pgio(postgres.url(), &["attachments", "init"])).await.succeeded();
    doctor(postgres.url(), &[]).await.check("table", "ok", "socket_io_attachments", "");
}

#[tokio::test]
async fn wrong_columns() {
    let postgres = postgres().await;
    execute(
        postgres.url(),
        "CREATE TABLE socket_io_attachments (id bigserial UNIQUE, created_at timestamp DEFAULT now(), payload bytea)",
    )
    .await;
    let diagnosis = doctor(postgres.url(), &[]).await;
    diagnosis.check(
        "columns",
        "fail",
        "created_at is timestamp without time zone",
        "ALTER created_at TYPE timestamp",
    );
    assert_eq!(diagnosis.status, 1);
    execute(postgres.url(), diagnosis.finding("columns").2).await;
    doctor(postgres.url(), &[]).await.check("columns", "ok", "", "");
}

#[tokio::test]
async fn a_published_table_without_a_replica_identity() {
    let postgres = postgres().await;
    let url = postgres.url();
    create_attachment_table(url).await;
    execute(url, "CREATE PUBLICATION inserts FOR ALL TABLES WITH (publish = 'insert')").await;
    assert!(!doctor(url, &[]).await.has("publication"));
    execute(url, "CREATE PUBLICATION everything FOR ALL TABLES").await;
    let diagnosis = doctor(url, &[]).await;
    let advice =
        "ALTER TABLE socket_io_attachments REPLICA IDENTITY USING INDEX \"socket_io_attachments_id_key\"";
    diagnosis.check(
        "publication",
        "warn",
        "a publication of deletes (everything): every cleanup fails",
        advice,
    );
    execute(url, diagnosis.finding("publication").2).await;
    execute(url, "DELETE FROM socket_io_attachments").await;
    assert!(!doctor(url, &[]).await.has("publication"));
    // Without a unique index, the whole row has to be the identity.
    execute(url, "ALTER TABLE socket_io_attachments DROP CONSTRAINT socket_io_attachments_id_key").await;
    let diagnosis = doctor(url, &[]).await;
    diagnosis.check("publication", "warn", "", "REPLICA IDENTITY FULL");
    execute(url, diagnosis.finding("publication").2).await;
    assert!(!doctor(url, &[]).await.has("publication"));
}

/// A trigger runs with the privileges of each server, and of the user of this command.
#[tokio::test]
async fn triggers_and_another_owner() {
    let postgres = postgres().await;
    let url = postgres.url();
    create_attachment_table(url).await;
    let trigger =
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fired'; END $$;
        CREATE TRIGGER watch BEFORE INSERT ON socket_io_attachments FOR EACH ROW EXECUTE FUNCTION f()";
    execute(url, trigger).await;
    let diagnosis = doctor(url, &[]).await;
    diagnosis.check("table", "warn", "privileges of each server: watch", "drop each trigger");
    diagnosis.check("insert", "fail", "fired", "");
    let owner = format!("owner_of_{}", url.rsplit('/').next().unwrap());
    execute(url, &format!("CREATE ROLE {owner}; ALTER TABLE socket_io_attachments OWNER TO {owner}")).await;
    execute(url, "DROP TRIGGER watch ON socket_io_attachments").await;
    let diagnosis = doctor(url, &[]).await;
    let detail = format!("socket_io_attachments belongs to the role {owner}, which can run code as pgio");
    diagnosis.check("table", "warn", &detail, "ALTER TABLE socket_io_attachments OWNER TO");
    // The trial would run the owner's triggers.
    assert!(!diagnosis.has("insert"), "{diagnosis:?}");
    // The owner of the database can do that anyway.
    let database = url.rsplit('/').next().unwrap();
    execute(url, &format!("ALTER DATABASE {database} OWNER TO {owner}")).await;
    doctor(url, &[]).await.check("table", "ok", "", "");
    execute(url, &format!("REASSIGN OWNED BY {owner} TO pgio; DROP ROLE {owner}")).await;
}

#[tokio::test]
async fn missing_privileges() {
    let postgres = postgres().await;
    let users = "CREATE SCHEMA app; CREATE TABLE app.files
            (id bigserial UNIQUE, created_at timestamptz DEFAULT now(), payload bytea);
        DROP ROLE IF EXISTS patient; CREATE ROLE patient LOGIN PASSWORD 'pw'";
    execute(postgres.url(), users).await;
    let patient = url_as("patient", postgres.url());
    let table = ["--table-name", "app.files"];
    let diagnosis = doctor(&patient, &table).await;
    diagnosis.check(
        "privileges",
        "fail",
        "permission denied for schema app",
        "GRANT USAGE ON SCHEMA app TO patient",
    );
    execute(postgres.url(), diagnosis.finding("privileges").2).await;
    execute(postgres.url(), "GRANT SELECT ON app.files TO patient").await;
    let diagnosis = doctor(&patient, &table).await;
    let detail =
        "patient has no INSERT ON app.files, no DELETE ON app.files, no USAGE ON SEQUENCE app.files_id_seq";
    diagnosis.check("privileges", "fail", detail, "GRANT INSERT ON app.files TO patient; ");
    execute(postgres.url(), diagnosis.finding("privileges").2).await;
    doctor(&patient, &table).await.check("privileges", "ok", "patient may", "");
    run(&mut pgio(&patient, &["emit", "--table-name", "app.files", "x", r#"{"$binary":"AQ=="}"#]))
        .await
        .succeeded();
    execute(postgres.url(), "REVOKE SELECT ON app.files FROM patient").await;
    let blind = doctor(&patient, &table).await;
    assert!(!blind.has("backlog"), "{blind:?}");
    execute(postgres.url(), "DROP OWNED BY patient; DROP ROLE patient").await;
}

#[tokio::test]
async fn a_missing_index() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let diagnosis = doctor(postgres.url(), &[]).await;
    diagnosis.check("index", "warn", "no index on created_at: ", "pgio attachments init");
    assert_eq!((diagnosis.status, diagnosis.stderr.as_str()), (0, ""));
    run(&mut pgio(postgres.url(), &["attachments", "init"])).await.succeeded();
    doctor(postgres.url(), &[]).await.check("index", "ok", "", "");
}

#[tokio::test]
async fn a_backlog() {
    let postgres = postgres().await;
    run(&mut pgio(postgres.url(), &["attachments", "init"])).await.succeeded();
    let fill = "INSERT INTO socket_io_attachments (created_at, payload)
        SELECT now() - interval '100 s', 'x' FROM generate_series(1, 10000)";
    execute(postgres.url(), fill).await;
    let diagnosis = doctor(postgres.url(), &[]).await;
    diagnosis.check("backlog", "warn", "10,000 rows are older than 90.0 s", "pgio attachments cleanup");
    doctor(postgres.url(), &["--cleanup-interval", "1m"]).await.check("backlog", "ok", "0 rows are", "");
    run(&mut pgio(postgres.url(), &["attachments", "cleanup", "--yes"])).await.succeeded();
    doctor(postgres.url(), &[]).await.check("backlog", "ok", "0 rows are", "");
}

#[tokio::test]
async fn a_table_that_somebody_has_locked() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let lock = lock_attachment_table(postgres.url()).await;
    let diagnosis = doctor(postgres.url(), &[]).await;
    diagnosis.check("insert", "warn", "locked by another session", "pg_locks");
    lock.release().await;
}

/// The catalog does not show it.
#[tokio::test]
async fn an_exhausted_sequence() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    doctor(postgres.url(), &[]).await.check("insert", "ok", "rolled back", "");
    execute(postgres.url(), "ALTER SEQUENCE socket_io_attachments_id_seq MAXVALUE 2; SELECT setval('socket_io_attachments_id_seq', 2)").await;
    let diagnosis = doctor(postgres.url(), &[]).await;
    let reason = "reached maximum value of sequence \"socket_io_attachments_id_seq\"";
    diagnosis.check("insert", "fail", reason, "MAXVALUE 9223372036854775807");
    let rows = run(&mut pgio(postgres.url(), &["attachments", "stats", "-o", "json"])).await.succeeded();
    assert_eq!(rows.json()[0]["rows"], 0);
}

#[tokio::test]
async fn a_table_in_another_schema() {
    let postgres = postgres().await;
    let create = "CREATE SCHEMA app; CREATE TABLE app.socket_io_attachments
            (id bigserial UNIQUE, created_at timestamptz DEFAULT now(), payload bytea);
        DROP ROLE IF EXISTS outsider; CREATE ROLE outsider LOGIN PASSWORD 'pw'";
    execute(postgres.url(), create).await;
    doctor(postgres.url(), &[]).await.check(
        "table",
        "fail",
        "there is app.socket_io_attachments, outside of the search_path of ",
        "--table-name app.socket_io_attachments if",
    );
    let outsider = url_as("outsider", postgres.url());
    let diagnosis = doctor(&outsider, &[]).await;
    diagnosis.check("table", "fail", "outsider has no USAGE", "GRANT USAGE ON SCHEMA app TO outsider");
    execute(postgres.url(), "DROP OWNED BY outsider; DROP ROLE outsider").await;
}
