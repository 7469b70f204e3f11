//! The privilege to emit, and attacks on the functions by other roles.

use serde_json::json;

use super::heard::Heard;
use super::install;
use crate::support::pgio::{pgio, run};
use crate::support::postgres::{Postgres, postgres, url_as};
use crate::support::sql::Session;

/// A role that only this test uses.
struct Role<'a> {
    name: String,
    url: String,
    postgres: &'a Postgres,
}

impl<'a> Role<'a> {
    /// Makes a role. Its name ends with the name of the test's database, since all databases share the roles.
    async fn create(postgres: &'a Postgres, name: &str) -> Role<'a> {
        let (_, database) = postgres.url().rsplit_once('/').unwrap();
        let name = format!("{name} of {database}");
        let user: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let role = Role { name, url: url_as(&user, postgres.url()), postgres };
        role.admin(&format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE {} LOGIN PASSWORD 'pw'",
            role.quoted()
        ))
        .await;
        role
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }

    async fn admin(&self, statements: &str) {
        Session::open(self.postgres.url()).await.execute(statements).await;
    }

    async fn open(&self) -> Session {
        Session::open(&self.url).await
    }

    async fn drop(self) {
        self.admin(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.quoted())).await;
    }
}

#[tokio::test]
async fn a_role_with_execute_alone_may_emit_and_others_may_not() {
    let postgres = postgres().await;
    let (app, other) =
        (Role::create(&postgres, "It's \"app\"").await, Role::create(&postgres, "other").await);
    install(postgres.url(), &["--grant", &app.name]).await;
    let mut heard = Heard::start(postgres.url()).await;
    let session = app.open().await;
    let all = "SELECT socket_io.emit('small'), socket_io.emit('big', to_jsonb(repeat('x', 9000))),
        socket_io.emit('bytes', bytea '\\x01'), socket_io.join('{a}'), socket_io.leave('{a}'),
        socket_io.disconnect(rooms => '{a}'), socket_io.server_side_emit('e'), socket_io.emit('end')";
    session.execute(all).await;
    let names: Vec<_> = heard.until_end().await.into_iter().map(|heard| heard.event).collect();
    assert_eq!(names, ["small", "big", "bytes"]);
    for internal in [
        "SELECT socket_io.send(3, '/', '{}')",
        "SELECT socket_io.attach(3, 'socket.io#/', '', false)",
        "SELECT socket_io.broadcast('e', '[]', '{}', '/', false)",
        "SELECT socket_io.msgpack('{}')",
        "SELECT socket_io.settings()",
        "SELECT * FROM socket_io_attachments",
        "CREATE TABLE socket_io.mine ()",
        "CREATE FUNCTION socket_io.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        assert_eq!(session.refuses(internal).await.0, "42501", "{internal}");
    }
    let stranger = other.open().await;
    assert_eq!(stranger.refuses("SELECT socket_io.emit('e')").await.0, "42501");
    // Even if the role has USAGE on the schema.
    let admin = Session::open(postgres.url()).await;
    admin.execute("GRANT USAGE ON SCHEMA socket_io TO PUBLIC").await;
    for call in [
        "emit('e')",
        "emit('e', '[]')",
        "emit('e', bytea '')",
        "join('{a}')",
        "disconnect()",
        "server_side_emit('e')",
    ] {
        let (code, text) = stranger.refuses(&format!("SELECT socket_io.{call}")).await;
        assert!(code == "42501" && text.starts_with("permission denied for function"), "{call}: {text}");
    }
    let check = run(&mut pgio(postgres.url(), &["sql", "check", "--grant", &app.name])).await.succeeded();
    assert!(check.stdout.starts_with("the functions in schema socket_io are unchanged, "), "{check:?}");
    drop((session, stranger));
    app.drop().await;
    other.drop().await;
}

/// Default privileges of the owner, as a template of an application has them.
#[tokio::test]
async fn default_privileges_let_no_role_emit() {
    let postgres = postgres().await;
    let url = postgres.url();
    let app = Role::create(&postgres, "default app").await;
    let friend = Role::create(&postgres, "friend").await;
    let admin = Session::open(url).await;
    let (app_name, friend_name) = (app.quoted(), friend.quoted());
    admin
        .execute(&format!(
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO {app_name} WITH GRANT OPTION;
            ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {app_name};
            ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {app_name}"
        ))
        .await;
    install(url, &["--grant", &friend.name]).await;
    let session = app.open().await;
    for call in
        ["emit('e')", "broadcast('e', '[]', '{}', '/', false)", "attach(3, '#/', '', false)", "settings()"]
    {
        let (code, text) = session.refuses(&format!("SELECT socket_io.{call}")).await;
        assert!(code == "42501" && text.starts_with("permission denied for function"), "{call}: {text}");
    }
    let check = ["sql", "check", "--grant", &friend.name];
    run(&mut pgio(url, &check)).await.succeeded();

    // A grant by hand on an emitting function stays, and one on an internal function goes, with those that depend on it.
    admin
        .execute(&format!(
            "GRANT EXECUTE ON FUNCTION socket_io.leave, socket_io.channel TO {app_name} WITH GRANT OPTION;
            SET ROLE {app_name}; GRANT EXECUTE ON FUNCTION socket_io.channel TO {friend_name}"
        ))
        .await;
    let outcome = run(&mut pgio(url, &check)).await;
    let expected = [&app.name, &friend.name]
        .map(|role| format!("channel(text): role {role} may execute it, and it is internal\n"));
    assert_eq!((outcome.status, outcome.stdout), (1, expected.concat()));
    install(url, &[]).await;
    run(&mut pgio(url, &check)).await.succeeded();
    session.execute("SELECT socket_io.leave('{a}')").await;
    drop((session, admin));
    app.drop().await;
    friend.drop().await;
}

/// A role with the privilege to write to a table runs its triggers, without the privilege to emit.
#[tokio::test]
async fn a_trigger_emits_for_every_writing_role() {
    let postgres = postgres().await;
    let writer = Role::create(&postgres, "writer").await;
    install(postgres.url(), &[]).await;
    let admin = Session::open(postgres.url()).await;
    admin
        .execute(&format!(
            "CREATE TABLE t (id int, big text);
            CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('r', 'e');
            GRANT INSERT ON t TO \"{}\"",
            writer.name
        ))
        .await;
    let mut heard = Heard::start(postgres.url()).await;
    let session = writer.open().await;
    session.execute("INSERT INTO t VALUES (1, ''), (2, ''), (3, repeat('x', 9000))").await;
    for id in 1..=3 {
        assert_eq!(heard.next().await.args[0]["record"]["id"], id);
    }
    assert_eq!(session.refuses("SELECT socket_io.emit('e')").await.0, "42501");
    drop(session);
    writer.drop().await;
}

#[tokio::test]
async fn a_hostile_search_path_changes_nothing() {
    let postgres = postgres().await;
    let app = Role::create(&postgres, "attacker").await;
    install(postgres.url(), &["--grant", &app.name]).await;
    let admin = Session::open(postgres.url()).await;
    admin
        .execute(&format!(
            "CREATE TABLE secrets (secret text); CREATE SCHEMA evil AUTHORIZATION \"{0}\"; CREATE TABLE witness (who text);
            GRANT INSERT ON witness TO PUBLIC; GRANT TEMPORARY ON DATABASE {1} TO \"{0}\"",
            app.name,
            postgres.url().rsplit('/').next().unwrap()
        ))
        .await;
    let session = app.open().await;
    // Each of these records the role that runs it.
    let trap = "plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES (current_user);";
    session
        .execute(&format!(
            "SET search_path = evil, pg_catalog;
            CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE {trap} END $$;
            CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE {trap} RETURN 1; END $$;
            CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb LANGUAGE {trap} RETURN '1'; END $$;
            CREATE FUNCTION evil.jsonb_typeof(jsonb) RETURNS text LANGUAGE {trap} RETURN 'array'; END $$;
            CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE {trap} RETURN 'SELECT 1'; END $$;
            CREATE FUNCTION evil.concat(text, text) RETURNS text LANGUAGE {trap} RETURN ''; END $$;
            CREATE FUNCTION evil.concat(jsonb, jsonb) RETURNS jsonb LANGUAGE {trap} RETURN '[]'; END $$;
            CREATE FUNCTION evil.concat(bytea, bytea) RETURNS bytea LANGUAGE {trap} RETURN ''; END $$;
            CREATE FUNCTION evil.less(int, int) RETURNS bool LANGUAGE {trap} RETURN true; END $$;
            CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.concat);
            CREATE OPERATOR evil.|| (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = evil.concat);
            CREATE OPERATOR evil.|| (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = evil.concat);
            CREATE OPERATOR evil.< (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.less);
            CREATE TEMPORARY TABLE settings (name text, value text);
            CREATE TEMPORARY TABLE socket_io_attachments (id int, payload bytea);
            INSERT INTO settings VALUES ('table_name', 'pg_temp.socket_io_attachments');
            SET search_path = pg_temp, evil, pg_catalog"
        ))
        .await;
    let mut heard = Heard::start(postgres.url()).await;
    session
        .execute("SELECT socket_io.emit('small', '[1, \"x\"]'), socket_io.emit('big', pg_catalog.to_jsonb(repeat('x', 9000))),
            socket_io.emit('bytes', bytea '\\x01'), socket_io.emit('end')")
        .await;
    let all = heard.until_end().await;
    let seen: Vec<_> = all.iter().map(|heard| (heard.event.as_str(), heard.is_attached)).collect();
    assert_eq!(seen, [("small", false), ("big", true), ("bytes", true)]);
    assert_eq!(all[0].args, json!([1, "x"]));
    let trace = admin.query_one("SELECT count(*) FROM witness", &[]).await.unwrap();
    assert_eq!(trace.get::<_, i64>(0), 0);
    drop(session);
    app.drop().await;
}

/// A row with a type of the attacker's makes `to_jsonb` call the attacker's cast.
#[tokio::test]
async fn a_cast_of_another_role_is_not_run_with_the_rights_of_the_functions() {
    let postgres = postgres().await;
    let app = Role::create(&postgres, "caster").await;
    install(postgres.url(), &["--grant", &app.name]).await;
    let admin = Session::open(postgres.url()).await;
    admin
        .execute(&format!("CREATE SCHEMA mine AUTHORIZATION \"{}\"; CREATE TABLE witness (who text); GRANT ALL ON witness TO PUBLIC", app.name))
        .await;
    let session = app.open().await;
    session
        .execute(
            "CREATE TYPE mine.mood AS ENUM ('good');
            CREATE FUNCTION mine.f(mine.mood) RETURNS json LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO public.witness VALUES (current_user); RETURN '1'; END $$;
            CREATE CAST (mine.mood AS json) WITH FUNCTION mine.f(mine.mood);
            CREATE TABLE mine.t (mood mine.mood);
            CREATE TRIGGER tell AFTER INSERT ON mine.t FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('r', 'e')",
        )
        .await;
    let (code, text) = session.refuses("INSERT INTO mine.t VALUES ('good')").await;
    assert!(code == "42501" && text.contains("there is a cast to json"), "{text}");
    session.execute("DROP CAST (mine.mood AS json)").await;
    drop(session);
    let trace = admin.query_one("SELECT count(*) FROM witness", &[]).await.unwrap();
    assert_eq!(trace.get::<_, i64>(0), 0);
    app.drop().await;
}

/// Every role that may create a view can make what looks like an installation. The commands run as a superuser.
#[tokio::test]
async fn the_code_of_another_role_that_looks_like_an_installation_is_never_run() {
    let postgres = postgres().await;
    let url = postgres.url();
    let mallory = Role::create(&postgres, "mallory").await;
    let admin = Session::open(url).await;
    let database = url.rsplit('/').next().unwrap();
    admin.execute(&format!("GRANT CREATE ON DATABASE {database} TO {}", mallory.quoted())).await;
    let session = mallory.open().await;
    session
        .execute(
            "CREATE SCHEMA socket_io; CREATE FUNCTION socket_io.trap() RETURNS text LANGUAGE plpgsql AS
              $$ BEGIN RAISE EXCEPTION 'code of another role was run by %', current_user; END $$;
            CREATE VIEW socket_io.settings AS SELECT name, socket_io.trap() AS value
              FROM unnest('{version,channel_prefix,table_name,payload_threshold}'::text[]) AS name;
            COMMENT ON VIEW socket_io.settings IS 'pgio sql: settings'",
        )
        .await;
    let commands: [&[&str]; 4] =
        [&["doctor", "-o", "json"], &["sql", "check"], &["sql", "install"], &["sql", "uninstall", "--yes"]];
    for mark in ["", "COMMENT ON FUNCTION socket_io.trap() IS 'pgio sql 1'"] {
        session.execute(mark).await;
        for command in commands {
            let outcome = run(&mut pgio(url, command)).await;
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(!said.contains("code of another role"), "{command:?}: {said}");
        }
    }
    drop(session);
    mallory.drop().await;
}

/// A trigger on the attachment table runs with the rights of the functions' owner.
#[tokio::test]
async fn a_table_on_which_others_may_create_triggers_is_refused_and_reported() {
    let postgres = postgres().await;
    let url = postgres.url();
    let app = Role::create(&postgres, "servers").await;
    let role = app.quoted();
    let admin = Session::open(url).await;
    let database = url.rsplit('/').next().unwrap();
    let table = "public.socket_io_attachments";
    admin
        .execute(&format!(
            "GRANT CREATE ON SCHEMA public TO {role}; GRANT CREATE ON DATABASE {database} TO {role};
            ALTER DEFAULT PRIVILEGES GRANT TRIGGER ON TABLES TO {role}"
        ))
        .await;
    // The servers' role creates the table, and an administrator installs the functions.
    run(&mut pgio(&app.url, &["attachments", "init"])).await.succeeded();
    let refused = run(&mut pgio(url, &["sql", "install"])).await;
    let expected = format!(
        "error: Postgres refused: table {table} belongs to {role}, whose triggers on it would run with the rights of pgio, \
         the owner of the functions\nhint: install the functions as {role}, or ALTER TABLE {table} OWNER TO pgio\n"
    );
    assert_eq!((refused.status, refused.stderr), (1, expected));
    let installed = install(&app.url, &[]).await;
    assert_eq!(installed.stderr, "");
    run(&mut pgio(url, &["sql", "uninstall", "--yes"])).await.succeeded();

    // The privilege to create triggers is enough.
    admin.execute(&format!("ALTER TABLE {table} OWNER TO pgio; GRANT ALL ON {table} TO {role}")).await;
    let refused = run(&mut pgio(url, &["sql", "install"])).await;
    let expected = format!(
        "error: Postgres refused: {role} may create triggers on table {table}, which would run with the rights of pgio, \
         the owner of the functions\nhint: REVOKE TRIGGER ON {table} FROM {role}\n"
    );
    assert_eq!((refused.status, refused.stderr), (1, expected));
    admin.execute(&format!("REVOKE TRIGGER ON {table} FROM {role}")).await;
    install(url, &[]).await;
    for change in
        [format!("GRANT TRIGGER ON {table} TO {role}"), format!("ALTER TABLE {table} OWNER TO {role}")]
    {
        admin.execute(&change).await;
        let check = run(&mut pgio(url, &["sql", "check"])).await;
        let expected = format!(
            "{table}: role {} can run code as the owner of the functions, with a trigger on it\n",
            app.name
        );
        assert_eq!((check.status, check.stdout), (1, expected), "{change}");
    }
    // The owner of the schema can replace the table.
    admin.execute(&format!("CREATE SCHEMA \"My app\"; ALTER SCHEMA \"My app\" OWNER TO {role}")).await;
    let options = ["--schema", "other", "--table-name", "\"My app\".files"];
    let refused = run(&mut pgio(url, &[&["sql", "install"], &options[..]].concat())).await;
    let expected =
        format!("hint: install the functions as {role}, or ALTER SCHEMA \"My app\" OWNER TO pgio\n");
    assert!(refused.status == 1 && refused.stderr.ends_with(&expected), "{refused:?}");
    // The default privileges do not hold for a table that the installation creates.
    admin.execute(&format!("DROP TABLE {table}")).await;
    install(url, &[]).await;
    run(&mut pgio(url, &["sql", "check"])).await.succeeded();
    drop(admin);
    app.drop().await;
}

/// Postgres prefers a function with fewer arguments to one with defaults.
#[tokio::test]
async fn functions_of_an_earlier_creator_are_refused_and_reported() {
    let postgres = postgres().await;
    let url = postgres.url();
    let mallory = Role::create(&postgres, "earlier").await;
    let admin = Session::open(url).await;
    let session = mallory.open().await;
    let role = mallory.quoted();
    let create =
        "CREATE FUNCTION socket_io.attach(int, text, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT true'";
    let allow = format!("GRANT CREATE, USAGE ON SCHEMA socket_io TO {role}");
    let forbid = format!("REVOKE CREATE ON SCHEMA socket_io FROM {role}");
    admin.execute(&format!("CREATE SCHEMA socket_io; {allow}")).await;
    session.execute(create).await;
    admin.execute(&forbid).await;
    let refused = run(&mut pgio(url, &["sql", "install"])).await;
    let expected = format!(
        "error: Postgres refused: function socket_io.attach(integer,text,bytea) belongs to {}, and could be called with the \
         rights of pgio: choose another schema",
        mallory.name
    );
    assert!(refused.status == 1 && refused.stderr.starts_with(&expected), "{refused:?}");

    session.execute("DROP FUNCTION socket_io.attach(int, text, bytea)").await;
    install(url, &[]).await;
    admin.execute(&allow).await;
    session.execute(create).await;
    admin.execute(&forbid).await;
    let check = run(&mut pgio(url, &["sql", "check"])).await;
    let expected = format!(
        "attach(integer, text, bytea): role {} owns it, and could run code as the owner of the functions\n",
        mallory.name
    );
    assert_eq!((check.status, check.stdout), (1, expected));
    drop((session, admin));
    mallory.drop().await;
}

#[tokio::test]
async fn a_schema_in_which_others_may_create_objects_is_refused() {
    let postgres = postgres().await;
    let app = Role::create(&postgres, "squatter").await;
    let admin = Session::open(postgres.url()).await;
    admin.execute(&format!("CREATE SCHEMA socket_io AUTHORIZATION \"{0}\"; CREATE SCHEMA shared; GRANT CREATE ON SCHEMA shared TO \"{0}\"; CREATE SCHEMA open; GRANT CREATE ON SCHEMA open TO PUBLIC", app.name)).await;
    for (schema, who) in [("socket_io", app.name.as_str()), ("shared", &app.name), ("open", "PUBLIC")] {
        let refused = run(&mut pgio(postgres.url(), &["sql", "install", "--schema", schema])).await;
        let expected = format!("error: Postgres refused: {who} may create objects in schema {schema}");
        assert!(refused.status == 1 && refused.stderr.contains(&expected), "{refused:?}");
    }
    app.drop().await;
}
