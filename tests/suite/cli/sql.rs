//! `pgio sql`: installs, upgrades, checks and removes the functions.

use serde_json::{Value, json};

use crate::sql::VERSION;
use crate::support::pgio::{Outcome, bare, pgio, run};
use crate::support::postgres::postgres;
use crate::support::sql::{Session, query_text};

async fn sql(url: &str, arguments: &[&str]) -> Outcome {
    run(&mut pgio(url, &[&["sql"], arguments].concat())).await
}

/// The differences that `check` finds, each as `object: problem`.
async fn differences(url: &str, arguments: &[&str]) -> Vec<String> {
    let json = sql(url, &[&["check", "-o", "json"], arguments].concat()).await;
    let text = sql(url, &[&["check"], arguments].concat()).await;
    let list: Vec<_> = json.json()[0]["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| format!("{}: {}", found["object"].as_str().unwrap(), found["problem"].as_str().unwrap()))
        .collect();
    assert_eq!((json.status, text.status), (i32::from(!list.is_empty()), i32::from(!list.is_empty())));
    if !list.is_empty() {
        assert_eq!(text.stdout.lines().collect::<Vec<_>>(), list);
        let count =
            if list.len() == 1 { "1 difference".into() } else { format!("{} differences", list.len()) };
        let hint = "hint: pgio sql install restores the functions";
        assert_eq!(text.stderr, format!("error: {count} in schema socket_io\n{hint}\n"));
    }
    list
}

#[tokio::test]
async fn installed_twice_and_removed() {
    let postgres = postgres().await;
    let url = postgres.url();
    let missing = sql(url, &["check"]).await;
    let not_there = "error: the functions are not installed in schema socket_io\n";
    assert_eq!((missing.status, missing.stdout.as_str()), (1, ""));
    assert_eq!(missing.stderr, format!("{not_there}hint: pgio sql install\n"));
    let missing = sql(url, &["check", "-o", "json"]).await;
    assert_eq!(
        missing.json(),
        [json!({"schema": "socket_io", "version": null, "settings": null, "differences": []})]
    );
    assert_eq!(sql(url, &["uninstall", "--yes"]).await.stderr, not_there);

    let first = sql(url, &["install"]).await.succeeded();
    assert_eq!(first.stdout, format!("installed the functions in schema socket_io, version {VERSION}\n"));
    let superuser = "warning: the functions run with the privileges of the superuser pgio; install as \
        the owner of public.socket_io_attachments instead\n";
    assert_eq!(first.stderr, superuser);
    let second = sql(url, &["install"]).await.succeeded();
    assert_eq!(
        second.stdout,
        format!("the functions in schema socket_io are up to date, version {VERSION}\n")
    );
    let third = sql(url, &["install", "-o", "json"]).await.succeeded();
    let expected =
        json!({"schema": "socket_io", "version": VERSION, "previousVersion": VERSION, "changed": false});
    assert_eq!(third.json(), [expected]);
    let check = sql(url, &["check", "-o", "json"]).await.succeeded();
    let settings = json!({"channelPrefix": "socket.io", "tableName": "public.socket_io_attachments",
        "payloadThreshold": 8000});
    let expected =
        json!({"schema": "socket_io", "version": VERSION, "settings": settings, "differences": []});
    assert_eq!(check.json(), [expected]);

    let nobody = sql(url, &["uninstall"]).await;
    assert_eq!(nobody.status, 2);
    assert!(nobody.stderr.starts_with("error: remove the functions in schema socket_io from "), "{nobody:?}");
    let removed = sql(url, &["uninstall", "--yes"]).await.succeeded();
    assert_eq!(removed.stdout, "removed the functions and schema socket_io\n");
    assert_eq!(sql(url, &["check"]).await.status, 1);
    // Servers need the table.
    assert_eq!(query_text(url, "SELECT count(*) FROM socket_io_attachments").await, "0");
    let again = sql(url, &["install", "-o", "json"]).await.succeeded();
    let expected =
        json!({"schema": "socket_io", "version": VERSION, "previousVersion": null, "changed": true});
    assert_eq!(again.json(), [expected]);
    let removed = sql(url, &["uninstall", "-y", "-o", "json"]).await.succeeded();
    assert_eq!(removed.json(), [json!({"schema": "socket_io", "schemaRemoved": true})]);
}

#[tokio::test]
async fn several_at_once() {
    let postgres = postgres().await;
    let install = || sql(postgres.url(), &["install", "-o", "json"]);
    let all = futures_util::future::join_all((0..4).map(|_| install())).await;
    let changed = all.into_iter().filter(|outcome| outcome.json()[0]["changed"] == true).count();
    assert_eq!(changed, 1);
}

#[tokio::test]
async fn check_reports_changes_and_install_repairs_them() {
    let postgres = postgres().await;
    let url = postgres.url();
    sql(url, &["install"]).await.succeeded();
    let session = Session::open(url).await;
    assert_eq!(differences(url, &[]).await, [""; 0]);
    let emit = "socket_io.emit(text, jsonb, text[], text[], text, boolean, boolean, boolean)";
    let with_settings = |settings: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION socket_io.settings() RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT {settings}::jsonb $$"
        )
    };
    for (change, expected) in [
        (
            "CREATE OR REPLACE FUNCTION socket_io.packet(event text, args jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE
             AS $$ BEGIN RETURN args; END $$",
            "packet(text, jsonb): its body was changed",
        ),
        ("ALTER FUNCTION socket_io.packet VOLATILE", "packet(text, jsonb): its volatility was changed"),
        (&format!("ALTER FUNCTION {emit} SECURITY INVOKER"), "SECURITY DEFINER was changed"),
        (&format!("ALTER FUNCTION {emit} SET search_path = public"), "its SET clauses were changed"),
        (&format!("ALTER FUNCTION {emit} RESET ALL"), "its SET clauses were changed"),
        ("ALTER FUNCTION socket_io.msgpack SET jit = on", "msgpack(jsonb): its SET clauses were changed"),
        (&format!("GRANT EXECUTE ON FUNCTION {emit} TO PUBLIC"), "every role may execute it"),
        ("DROP FUNCTION socket_io.disconnect", "disconnect(boolean, text[], text[], text): it is missing"),
        (&with_settings(r#"$json$ {"channel_prefix": "other", "table_name": "public.t", "payload_threshold": 8000} $json$"#),
            "channel_prefix: the functions have \"other\""),
        (&with_settings("'{}'"), "settings(): it is missing, or was changed"),
        ("DROP TABLE socket_io_attachments", "public.socket_io_attachments: the table does not exist"),
    ] {
        session.execute(change).await;
        let found = differences(url, &[]).await;
        assert!(found.iter().any(|found| found.contains(expected)), "{change}: {found:?}");
        let repaired = sql(url, &["install"]).await.succeeded();
        assert_eq!(repaired.stdout, format!("updated the functions in schema socket_io, version {VERSION}\n"), "{change}");
        assert_eq!(differences(url, &[]).await, [""; 0], "{change}");
    }
}

#[tokio::test]
async fn settings_that_are_not_those_of_the_command_line() {
    let postgres = postgres().await;
    let url = postgres.url();
    Session::open(url).await.execute("CREATE SCHEMA app").await;
    let options = ["--channel-prefix", "chat", "--table-name", "app.files", "--payload-threshold", "4000"];
    sql(url, &[&["install"], &options[..]].concat()).await.succeeded();
    assert_eq!(differences(url, &options).await, [""; 0]);
    // The table of that name differs from the table of the functions, or does not exist.
    let expected = [
        "channel_prefix: the functions have \"chat\", and this pgio has \"socket.io\"",
        "table_name: the functions have app.files, and this pgio has socket_io_attachments",
        "payload_threshold: the functions have 4000, and this pgio has 8000",
    ];
    assert_eq!(differences(url, &[]).await, expected);
    // Another name of the same table is no difference.
    let path = format!("{url}?options=-csearch_path%3Dapp");
    let same = ["--channel-prefix", "chat", "--table-name", "files", "--payload-threshold", "4000"];
    assert_eq!(differences(&path, &same).await, [""; 0]);
    let updated = sql(url, &["install"]).await.succeeded();
    assert_eq!(updated.stdout, format!("updated the functions in schema socket_io, version {VERSION}\n"));
    assert_eq!(differences(url, &[]).await, [""; 0]);
}

/// The state that an older pgio leaves: another signature, a function that was removed since, and privileges.
#[tokio::test]
async fn an_older_version_is_upgraded_in_place_with_its_privileges() {
    let postgres = postgres().await;
    let url = postgres.url();
    let role = format!("reader_{}", url.rsplit('/').next().unwrap());
    let session = Session::open(url).await;
    session
        .execute(&format!(
            "CREATE SCHEMA socket_io; CREATE ROLE {role};
            CREATE TABLE socket_io_attachments (id bigserial UNIQUE, created_at timestamptz DEFAULT now(), payload bytea);
            CREATE TABLE socket_io.settings (name text PRIMARY KEY, value text NOT NULL);
            COMMENT ON TABLE socket_io.settings IS 'pgio sql: settings';
            INSERT INTO socket_io.settings VALUES ('version', '0'), ('channel_prefix', 'socket.io'),
              ('table_name', 'public.socket_io_attachments'), ('payload_threshold', '8000');
            CREATE FUNCTION socket_io.emit(event text, args jsonb, rooms text[] DEFAULT '{{}}') RETURNS void
              LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN END $$;
            CREATE FUNCTION socket_io.send(kind int, namespace text, data jsonb) RETURNS void
              LANGUAGE plpgsql AS $$ BEGIN END $$;
            CREATE FUNCTION socket_io.old_helper() RETURNS int LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION socket_io.broadcast_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN NULL; END $$;
            CREATE FUNCTION socket_io.of_the_user() RETURNS int LANGUAGE sql AS 'SELECT 2';
            COMMENT ON FUNCTION socket_io.emit(text, jsonb, text[]) IS 'pgio sql 0';
            COMMENT ON FUNCTION socket_io.send(int, text, jsonb) IS 'pgio sql 0';
            COMMENT ON FUNCTION socket_io.old_helper() IS 'pgio sql 0';
            COMMENT ON FUNCTION socket_io.broadcast_change() IS 'pgio sql 0';
            REVOKE ALL ON FUNCTION socket_io.emit(text, jsonb, text[]) FROM PUBLIC;
            GRANT USAGE ON SCHEMA socket_io TO {role};
            GRANT EXECUTE ON FUNCTION socket_io.emit(text, jsonb, text[]) TO {role};
            CREATE TABLE t (id int); CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW
              EXECUTE FUNCTION socket_io.broadcast_change('r', 'e')"
        ))
        .await;
    assert_eq!(
        differences(url, &[]).await,
        [format!("version: the functions are of version 0, this pgio has {VERSION}")]
    );
    let upgraded = sql(url, &["install"]).await.succeeded();
    assert_eq!(
        upgraded.stdout,
        format!("updated the functions in schema socket_io from version 0 to {VERSION}\n")
    );
    assert_eq!(differences(url, &[]).await, [""; 0]);
    let functions = "SELECT string_agg(DISTINCT proname, ',' ORDER BY proname) FROM pg_proc
        WHERE pronamespace = 'socket_io'::regnamespace AND proname IN ('emit', 'old_helper', 'of_the_user')";
    assert_eq!(query_text(url, functions).await, "emit,of_the_user");
    // It kept its settings in a table.
    assert_eq!(query_text(url, "SELECT to_regclass('socket_io.settings') IS NULL").await, "t");
    // The privilege covers emit with the same type of args, and nothing else.
    session
        .execute(&format!("SET ROLE {role}; SELECT socket_io.emit('e'), socket_io.emit('e', jsonb '1')"))
        .await;
    for other in ["emit('e', bytea '')", "emit('e', '1')", "disconnect()"] {
        assert_eq!(session.refuses(&format!("SELECT socket_io.{other}")).await.0, "42501", "{other}");
    }
    session.execute("RESET ROLE; INSERT INTO t VALUES (1)").await;
    let granted = differences(url, &["--grant", &role]).await;
    assert!(
        granted.iter().all(|found| found.ends_with(&format!(": role {role} may not execute it"))),
        "{granted:?}"
    );
    assert_eq!(granted.len(), 9);
    sql(url, &["install", "--grant", &role]).await.succeeded();
    assert_eq!(differences(url, &["--grant", &role]).await, [""; 0]);
    // A later installation does not undo a REVOKE on one of several overloads.
    let emit = "socket_io.emit(text, bytea, text[], text[], text, boolean, boolean, boolean)";
    session.execute(&format!("REVOKE EXECUTE ON FUNCTION {emit} FROM {role}")).await;
    sql(url, &["install"]).await.succeeded();
    let may_execute = format!("SELECT has_function_privilege('{role}', '{emit}', 'EXECUTE')");
    assert_eq!(query_text(url, &may_execute).await, "f");
    session.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn objects_in_use_are_not_removed() {
    let postgres = postgres().await;
    let url = postgres.url();
    sql(url, &["install"]).await.succeeded();
    let session = Session::open(url).await;
    let tell = "AFTER INSERT ON";
    let call = "FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('r', 'e')";
    session
        .execute(&format!(
            "CREATE TABLE \"My orders\" (id int); CREATE TRIGGER \"Tell it\" {tell} \"My orders\" {call};
            CREATE TABLE log (id int) PARTITION BY LIST (id); CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);
            CREATE TRIGGER tell {tell} log {call}"
        ))
        .await;
    let refused = sql(url, &["uninstall", "--yes"]).await;
    let expected = "error: triggers use the functions in schema socket_io: \"Tell it\" on public.\"My orders\", tell on \
        public.log\nhint: drop these triggers first\n";
    assert_eq!((refused.status, refused.stderr.as_str()), (1, expected));
    assert_eq!(differences(url, &[]).await, [""; 0]);
    session
        .execute("DROP TABLE \"My orders\", log; CREATE VIEW v AS SELECT 1 AS done FROM socket_io.emit('e')")
        .await;
    let refused = sql(url, &["uninstall", "--yes"]).await;
    assert!(
        refused.status == 1 && refused.stderr.contains("view public.v depends on function"),
        "{refused:?}"
    );
    assert_eq!(differences(url, &[]).await, [""; 0]);
    session.execute("DROP VIEW v; CREATE TABLE socket_io.of_the_user ()").await;
    let removed = sql(url, &["uninstall", "--yes"]).await.succeeded();
    assert_eq!(removed.stdout, "removed the functions; schema socket_io stays\n");
    // An existing schema stays as well.
    session.execute("CREATE SCHEMA mine").await;
    sql(url, &["install", "--schema", "mine"]).await.succeeded();
    let removed = sql(url, &["uninstall", "--schema", "mine", "-y", "-o", "json"]).await.succeeded();
    assert_eq!(removed.json(), [json!({"schema": "mine", "schemaRemoved": false})]);
}

/// A schema of an application may have objects of these names.
#[tokio::test]
async fn objects_of_an_application_are_not_taken_over() {
    let postgres = postgres().await;
    let url = postgres.url();
    let session = Session::open(url).await;
    for (name, object, of) in [
        (
            "lib",
            "FUNCTION lib.join(text[], text[], text[], text) RETURNS void LANGUAGE sql AS ''",
            "function lib.\"join\"(text[],text[],text[],text)",
        ),
        (
            "App",
            "FUNCTION \"App\".settings() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "function \"App\".settings()",
        ),
    ] {
        session.execute(&format!("CREATE SCHEMA \"{name}\"; CREATE {object}")).await;
        let refused = sql(url, &["install", "--schema", name]).await;
        let reason = format!("{of} is there already, and is not of pgio: choose another schema");
        assert!(refused.status == 1 && refused.stderr.contains(&reason), "{refused:?}");
        assert!(sql(url, &["uninstall", "--schema", name, "--yes"]).await.status == 1);
    }
    // A function of the same name and with other arguments is another function, and a table is none.
    session
        .execute(
            "CREATE SCHEMA more; CREATE FUNCTION more.emit(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
            CREATE TABLE more.settings (name text)",
        )
        .await;
    sql(url, &["install", "--schema", "more"]).await.succeeded();
    sql(url, &["uninstall", "--schema", "more", "--yes"]).await.succeeded();
    session.execute("SELECT more.emit(1); SELECT name FROM more.settings").await;
}

#[tokio::test]
async fn doctor_compares_them_with_the_servers() {
    let postgres = postgres().await;
    let url = postgres.url();
    let found = async |arguments: &[&str]| {
        let outcome = run(&mut pgio(url, &[&["doctor", "-o", "json"], arguments].concat())).await;
        outcome.json().into_iter().filter(|finding| finding["check"] == "sql").collect::<Vec<Value>>()
    };
    assert_eq!(found(&[]).await, [] as [Value; 0]);
    sql(url, &["install"]).await.succeeded();
    sql(url, &["install", "--schema", "other one", "--channel-prefix", "chat"]).await.succeeded();
    let both = found(&[]).await;
    let text = |finding: &Value| {
        let part = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        (part("status"), part("detail"), part("advice"))
    };
    let (status, detail, advice) = text(&both[0]);
    assert_eq!(
        (status.as_str(), advice.as_str()),
        ("warn", "pgio sql install --schema 'other one' with the options of the servers")
    );
    assert_eq!(
        detail,
        "functions in schema other one: channel_prefix: the functions have \"chat\", and this pgio has \"socket.io\""
    );
    let (status, detail, _) = text(&both[1]);
    assert_eq!(status, "ok");
    assert_eq!(detail, format!("functions in schema socket_io, version {VERSION}, emit to these servers"));
    let both = found(&["--channel-prefix", "chat"]).await;
    assert_eq!((text(&both[0]).0, text(&both[1]).0), ("ok".into(), "warn".into()));
}

#[tokio::test]
async fn bad_names_and_missing_rights() {
    let postgres = postgres().await;
    let long = "s".repeat(64);
    for (arguments, status, message) in [
        (&["print", "--schema", ""][..], 2, "a name cannot be empty"),
        (&["print", "--schema", &long], 2, "a name of 64 bytes is longer than the 63 of Postgres"),
        (&["print", "--channel-prefix", &long], 1, "cannot be used"),
        (&["install", "--grant", "nobody at all"], 1, "role \"nobody at all\" does not exist"),
        (&["install", "--table-name", "no_such.t"], 1, "schema \"no_such\" does not exist"),
    ] {
        let outcome = sql(postgres.url(), arguments).await;
        assert!(outcome.status == status && outcome.stderr.contains(message), "{arguments:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty() && outcome.stderr.starts_with("error: "), "{outcome:?}");
    }
    // All or nothing.
    assert_eq!(
        query_text(postgres.url(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'socket_io'").await,
        "0"
    );
    let weak = postgres.url_of_role_with("SET work_mem = '4MB'").await;
    let refused = sql(&weak, &["install"]).await;
    assert!(refused.status == 1 && refused.stderr.contains("permission denied for database"), "{refused:?}");
    let printed = run(&mut bare(&["sql", "print"])).await.succeeded();
    assert!(printed.stdout.starts_with("-- Functions with which any database client"), "{}", printed.stdout);
}
