//! The values of flags, and the effect of a start on the database.

use futures_util::future::join_all;
use tokio::net::TcpListener;

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::pgio_serve::{PgioServe, fails};
use crate::support::postgres::{postgres, url_as};

#[tokio::test]
async fn malformed_input_is_an_error_of_one_line() {
    let postgres = postgres().await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, text) = (file("empty", "\n"), file("text", "text"));
    let private = file("private", "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n");
    let broken = file("broken", "-----BEGIN PUBLIC KEY-----\nMC4C\n-----END PUBLIC KEY-----\n");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--allow-join", "[a"], 2, "--allow-join"),
        (&["--listen", "nowhere"], 2, "--listen"),
        (&["--listen", &taken], 1, &taken),
        (&["--max-payload", "much"], 2, "--max-payload"),
        (&["--client-buffer", "5000"], 2, "--client-buffer: 5000 bytes are too few: the minimum is 65536"),
        (&["--tls-cert", &text], 2, "--tls-key"),
        (&["--tls-cert", "/none.pem", "--tls-key", &text], 2, "/none.pem: No such file"),
        (&["--tls-cert", &text, "--tls-key", &text], 2, "text: holds no private key"),
        (&["--auth-token-file", "/none"], 2, "/none: No such file"),
        (&["--auth-token-file", &empty], 2, "empty: holds no token"),
        (&["--jwt-key-file", &empty], 2, "empty: holds no key"),
        (&["--jwt-key-file", &text], 2, "text: holds a secret of 4 bytes, but needs at least 32"),
        (&["--jwks", &text], 2, "text: holds no JSON Web Key Set"),
        (&["--audience", "app"], 2, "--jwt-key-file"),
        (&["--jwt-key-file", &text, "--jwks", &text], 2, "--jwks"),
        (&["--jwt-key-file", &private], 2, "private: holds a private key"),
        (&["--jwt-key-file", &broken], 2, "broken: holds no public RSA or EC key"),
        (&["--cors-origin", "example.com"], 2, "--cors-origin: \"example.com\" is not an origin"),
        (&["--path", "socket.io"], 2, "--path: \"socket.io\" is not a path"),
        (&["--path", "/metrics"], 2, "--path: \"/metrics\" is reserved for the server"),
        (&["-n", "/org/{id"], 2, "--namespace: \"/org/{id\" is not a valid pattern"),
    ];
    for (flags, status, says) in cases {
        let mut args = vec!["--database-url", postgres.url()];
        args.extend(*flags);
        let (code, stderr) = fails(&args).await;
        assert_eq!(code, *status, "{flags:?}: {stderr}");
        assert!(stderr.contains(says), "{flags:?}: {stderr}");
        // clap adds its own hint about --help.
        let is_one_line = stderr.lines().filter(|line| line.starts_with("error: ")).count() == 1;
        assert!(is_one_line && !stderr.contains("panicked"), "{flags:?}: {stderr}");
    }
    let (code, stderr) = fails(&["--database-url", "postgres://pgio:secret@127.0.0.1:1/none"]).await;
    assert!(code == 3 && !stderr.contains("secret"), "{code}: {stderr}");
}

#[tokio::test]
async fn the_table_is_created_once_by_many_and_only_if_wanted() {
    let count = |url: String| async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = "SELECT count(*) FILTER (WHERE relkind = 'r'), count(*) FILTER (WHERE relkind = 'i')
                   FROM pg_class WHERE relname LIKE 'app%' OR relname LIKE 'socket_io_attachments%'";
        let row = client.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let postgres = postgres().await;
    let none = PgioServe::start(postgres.url(), &["--no-init"]).await;
    let warning = none.wait_for_log(NEED_TABLE).await;
    let reason = "the attachment table socket_io_attachments does not exist";
    assert_eq!(warning["fields"]["error"], reason);
    assert_eq!(count(postgres.url().into()).await, (0, 0));

    // The index of the constraint, and the index for the cleanup.
    let _many = join_all((0..4).map(|_| PgioServe::start(postgres.url(), &[]))).await;
    assert_eq!(count(postgres.url().into()).await, (1, 2));

    execute(postgres.url(), "CREATE SCHEMA s").await;
    let _other = PgioServe::start(postgres.url(), &["--table-name", "s.app"]).await;
    assert_eq!(count(postgres.url().into()).await, (2, 4));
    let (code, stderr) = fails(&["--database-url", postgres.url(), "--table-name", "none.app"]).await;
    assert!(code == 1 && stderr.contains("none.app"), "{code}: {stderr}");
}

/// The log of a server that cannot use the attachment table.
const NEED_TABLE: &str = "events with binary data, and large ones, need the attachment table";

#[tokio::test]
async fn a_server_warns_of_roles_that_can_run_code_with_a_trigger() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let owner = format!("landlord_of_{}", postgres.url().rsplit('/').next().unwrap());
    execute(
        postgres.url(),
        &format!(
            "CREATE ROLE {owner}; ALTER TABLE socket_io_attachments OWNER TO {owner};
            CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
            CREATE TRIGGER watch BEFORE INSERT ON socket_io_attachments FOR EACH ROW EXECUTE FUNCTION f()"
        ),
    )
    .await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let warning =
        serve.wait_for_log("another role owns the attachment table, and can run code as this server").await;
    assert_eq!(warning["fields"]["owner"], owner);
    let warning =
        serve.wait_for_log("the attachment table has triggers, which run code as this server").await;
    assert_eq!(warning["fields"]["triggers"], "watch");
    drop(serve);
    execute(postgres.url(), &format!("DROP OWNED BY {owner}; DROP ROLE {owner}")).await;
}

/// Small events need no table, so nothing else would show it until the first large one.
#[tokio::test]
async fn a_server_without_privileges_on_the_table_warns() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    execute(postgres.url(), "DROP ROLE IF EXISTS newcomer; CREATE ROLE newcomer LOGIN PASSWORD 'pw'").await;
    let newcomer = url_as("newcomer", postgres.url());
    let serve = PgioServe::start(&newcomer, &[]).await;
    let warning = serve.wait_for_log(NEED_TABLE).await;
    let reason = "no privilege on the attachment table socket_io_attachments: no SELECT ON socket_io_attachments, \
        no INSERT ON socket_io_attachments, no DELETE ON socket_io_attachments, \
        no USAGE ON SEQUENCE public.socket_io_attachments_id_seq";
    assert_eq!(warning["fields"]["error"], reason);
    drop(serve);
    execute(postgres.url(), "DROP OWNED BY newcomer; DROP ROLE newcomer").await;
}
