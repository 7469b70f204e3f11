//! Each part of the cluster works with the privileges that `grants` prints for it, and has no others.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::attachments;
use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::NodePeer;
use crate::support::pgio::{Running, pgio, run};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::{Postgres, postgres, url_as};
use crate::support::sql::query_text;

/// A database without privileges for `PUBLIC`, and a table whose name has to be quoted.
const TABLE: &str = r#"app."Attach ""ments""""#;

async fn closed_database() -> Postgres {
    let postgres = postgres().await;
    let database = postgres.url().rsplit_once('/').unwrap().1;
    let close = format!(
        "CREATE SCHEMA app; CREATE TABLE {TABLE} (id bigserial UNIQUE, created_at timestamptz DEFAULT now(), payload bytea);
         CREATE INDEX ON {TABLE} (created_at);
         REVOKE ALL ON DATABASE {database} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC"
    );
    execute(postgres.url(), &close).await;
    postgres
}

/// A role with an odd name and exactly the privileges of its part. Returns its URL.
async fn role_for(postgres: &Postgres, part: &str) -> String {
    let database = postgres.url().rsplit_once('/').unwrap().1;
    let role = format!("the \"{part}\" of {database}");
    execute(postgres.url(), &format!("CREATE ROLE \"{}\" LOGIN PASSWORD 'pw'", role.replace('"', "\"\"")))
        .await;
    let arguments = ["grants", "--role", &role, "--for", part, "--table-name", TABLE];
    let printed = attachments(postgres.url(), &arguments).await.succeeded().stdout;
    assert!(printed.lines().all(|line| line.starts_with("GRANT ") && line.ends_with(';')), "{printed}");
    execute(postgres.url(), &printed).await;
    url_as(&utf8_percent_encode(&role, NON_ALPHANUMERIC).to_string(), postgres.url())
}

/// Executes a statement as a role without the privilege.
async fn may_not(url: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let outcome = tokio::join!(connection, async move { client.batch_execute(statement).await }).1;
    let message =
        outcome.unwrap_err().as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
    assert!(message.starts_with("permission denied"), "{statement}: {message}");
}

#[tokio::test]
async fn what_is_printed() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let database = postgres.url().rsplit_once('/').unwrap().1;
    let arguments = ["grants", "--role", "a\"b", "--for", "node"];
    let expected = format!(
        "GRANT CONNECT ON DATABASE \"{database}\" TO \"a\"\"b\";\n\
         GRANT USAGE ON SCHEMA \"public\" TO \"a\"\"b\";\n\
         GRANT SELECT (\"id\", \"payload\", \"created_at\"), INSERT (\"payload\"), DELETE ON TABLE \"public\".\"socket_io_attachments\" TO \"a\"\"b\";\n\
         GRANT USAGE ON SEQUENCE public.socket_io_attachments_id_seq TO \"a\"\"b\";\n"
    );
    assert_eq!(attachments(postgres.url(), &arguments).await.succeeded().stdout, expected);
    let json =
        attachments(postgres.url(), &[&arguments[..], &["-o", "json"]].concat()).await.succeeded().json();
    assert_eq!((&json[0]["role"], &json[0]["for"]), (&"a\"b".into(), &"node".into()));
    assert_eq!(json[0]["statements"].as_array().unwrap().len(), 4);

    let missing =
        attachments(postgres.url(), &["grants", "--role", "r", "--for", "node", "--table-name", "t"]).await;
    assert_eq!(missing.status, 1);
    assert!(
        missing.stderr.starts_with("error: the attachment table t does not exist\nhint: "),
        "{missing:?}"
    );
}

#[tokio::test]
async fn an_emitter_an_observer_and_a_node_under_their_grants() {
    let postgres = closed_database().await;
    let stranger = "CREATE ROLE stranger_of_grants LOGIN PASSWORD 'pw'";
    execute(postgres.url(), &format!("DROP ROLE IF EXISTS stranger_of_grants; {stranger}")).await;
    let outcome = run(&mut pgio(&url_as("stranger_of_grants", postgres.url()), &["emit", "x"])).await;
    assert_eq!(outcome.status, 3, "{outcome:?}");

    let (emitter, observer, node) = (
        role_for(&postgres, "emitter").await,
        role_for(&postgres, "observer").await,
        role_for(&postgres, "node").await,
    );
    let table = ["--table-name", TABLE];
    let serve = PgioServe::start(&node, &[&table[..], &["--cleanup-interval", "100ms"]].concat()).await;
    serve.wait_for_ready(200).await;
    let client = serve.client(&NodePeer::start().await).await;
    let mut tail = Running::start(&mut pgio(&observer, &[&["tail", "-o", "json"][..], &table].concat()));
    tail.wait_for_note("listening").await;

    for event in ["inline", r#"{"$binary":"AQ=="}"#] {
        run(&mut pgio(&emitter, &[&["emit", "e", event][..], &table].concat())).await.succeeded();
        client.wait_for_event("e").await;
        client.drain().await;
        assert_eq!(tail.json().await["event"], "e");
    }
    // The node writes rows as well, and deletes them.
    let sockets = [&["emit", "--ack", "--timeout", "5s", "-o", "json", "who"][..], &table].concat();
    client.answer("who", serde_json::json!("x".repeat(9000))).await;
    run(&mut pgio(&observer, &sockets)).await.succeeded();
    crate::support::pgio_serve::until("the node deletes rows", async || {
        query_text(postgres.url(), &format!("SELECT count(*) FROM {TABLE}")).await == "0"
    })
    .await;
    run(&mut pgio(&observer, &[&["attachments", "list"][..], &table].concat())).await.succeeded();
    run(&mut pgio(&observer, &[&["attachments", "stats"][..], &table].concat())).await.succeeded();
    let doctor =
        run(&mut pgio(&node, &[&["doctor", "-o", "json"][..], &table].concat())).await.succeeded().json();
    let privileges = doctor.iter().find(|finding| finding["check"] == "privileges").unwrap();
    assert_eq!(privileges["status"], "ok", "{privileges}");
    let bad: Vec<_> = serve
        .log()
        .into_iter()
        .filter(|line| ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap_or("")))
        .collect();
    // The tests give the password as an argument.
    assert!(bad.iter().all(|line| line["target"] == "pgio::cli::serve::secrets"), "{bad:?}");

    for (role, statements) in [
        (&emitter, &["SELECT payload FROM", "DELETE FROM", "UPDATE"][..]),
        (&observer, &["INSERT INTO", "DELETE FROM", "UPDATE"]),
        (&node, &["TRUNCATE", "UPDATE"]),
    ] {
        for statement in statements {
            let rest = match *statement {
                "INSERT INTO" => " (payload) VALUES ('x')",
                "UPDATE" => " SET payload = 'x'",
                _ => "",
            };
            may_not(role, &format!("{statement} {TABLE}{rest}")).await;
        }
    }
    execute(postgres.url(), "DROP ROLE stranger_of_grants").await;
}
