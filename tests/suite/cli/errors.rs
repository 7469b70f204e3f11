//! Invalid input: one clear line that names it, the right exit status, and nothing sent in part.

use std::fs::File;

use tempfile::TempDir;

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::pgio::{bare, pgio, run};
use crate::support::postgres::{postgres, url_as};

/// Asserts one line of error, and at most one hint.
#[track_caller]
fn check(outcome: &crate::support::pgio::Outcome, status: i32, expected: &str) {
    assert_eq!(outcome.status, status, "{outcome:?}");
    let mut lines = outcome.stderr.lines();
    let error = lines.next().unwrap_or_default();
    assert!(error.starts_with("error: ") && error.contains(expected), "{expected}: {outcome:?}");
    assert!(lines.all(|line| line.starts_with("hint: ")), "{outcome:?}");
    assert!(outcome.stderr.lines().count() <= 2 && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(!outcome.stderr.contains("s3cret") && !outcome.stderr.contains("panicked"), "{outcome:?}");
}

#[tokio::test]
async fn without_a_database() {
    check(&run(&mut bare(&["emit", "x"])).await, 3, "no database is configured");
    check(&run(&mut bare(&["tail"])).await, 3, "no database is configured");
}

#[tokio::test]
async fn databases_that_cannot_be_had() {
    let postgres = postgres().await;
    let (url, database) = (postgres.url(), postgres.url().rsplit('/').next().unwrap());
    let at = url.rsplit_once('@').unwrap().1.to_owned();
    let cases = [
        (
            "postgres://u:s3cret@no-such-host.invalid/d".to_owned(),
            3,
            "no-such-host.invalid:5432: unknown host",
        ),
        ("postgres://u:s3cret@127.0.0.1:1/d".to_owned(), 3, "127.0.0.1:1: connection refused"),
        (format!("postgres://pgio:s3cret@{at}"), 3, "password authentication failed for user \"pgio\""),
        (format!("{url}?sslmode=require"), 3, "server does not support TLS"),
        (format!("{url}?sslmode=verify-full&sslrootcert=system"), 3, "server does not support TLS"),
        (url.replace(database, "no_such"), 3, "database \"no_such\" does not exist"),
        (format!("{url}?sslmode=sometimes"), 2, "sslmode: \"sometimes\" is not one of"),
        (format!("{url}?sslmode=verify-ca&sslrootcert=/no/such.crt"), 2, "/no/such.crt: No such file"),
        (format!("{url}?colour=red"), 2, "colour: no such setting"),
        ("postgres://u:s3cret/x@h/d".to_owned(), 2, "must be percent-encoded"),
        (String::new(), 2, "the URL is empty"),
        ("nonsense".to_owned(), 2, "neither a postgres:// URL nor keyword=value pairs"),
    ];
    for (url, status, expected) in cases {
        check(&run(&mut pgio(&url, &["emit", "x"])).await, status, expected);
        check(&run(&mut bare(&["tail", "--database-url", &url])).await, status, expected);
    }
    let mut service = bare(&["emit", "x"]);
    check(&run(service.env("PGSERVICE", "nowhere")).await, 2, "PGSERVICE: no service \"nowhere\"");
}

#[tokio::test]
async fn tables_that_cannot_be_used() {
    let postgres = postgres().await;
    let binary = r#"{"$binary":"AQ=="}"#;
    let missing = run(&mut pgio(postgres.url(), &["emit", "x", binary])).await;
    check(&missing, 1, "the attachment table socket_io_attachments does not exist");
    assert!(missing.stderr.ends_with("hint: pgio attachments init\n"), "{missing:?}");
    let missing = run(&mut pgio(postgres.url(), &["emit", "--table-name", "app.files", "x", binary])).await;
    check(&missing, 1, "the attachment table app.files does not exist");
    assert!(missing.stderr.ends_with("hint: pgio attachments init --table-name app.files\n"), "{missing:?}");

    create_attachment_table(postgres.url()).await;
    execute(postgres.url(), "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'pw'").await;
    let reader = url_as("reader", postgres.url());
    let forbidden = run(&mut pgio(&reader, &["emit", "x", binary])).await;
    check(&forbidden, 1, "no privilege on the attachment table socket_io_attachments");
    assert!(forbidden.stderr.contains("hint: pgio attachments grants --role ROLE"), "{forbidden:?}");
    let bad = run(&mut pgio(postgres.url(), &["emit", "--table-name", "a; DROP TABLE b", "x"])).await;
    check(&bad, 2, "a; DROP TABLE b");
}

#[tokio::test]
async fn events_that_cannot_be() {
    let postgres = postgres().await;
    let long = format!("/{}", "n".repeat(60));
    let files = TempDir::new().unwrap();
    let huge = files.path().join("huge");
    File::create(&huge).unwrap().set_len(1 << 30).unwrap();
    let huge = format!("@{}", huge.display());
    let directory = format!("@{}", files.path().display());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["-n", &long, "x"], 1, "cannot be used: "),
        (&["connect"], 1, "event name \"connect\" is reserved"),
        (&["disconnecting"], 1, "event name \"disconnecting\" is reserved"),
        (&["x", "@/no/such/file"], 1, "@/no/such/file: No such file"),
        (&["x", &directory], 1, "irectory"),
        (&["x", &huge], 1, "Postgres stores at most"),
        (&["x", r#"{"$binary":"?"}"#], 2, r#"argument {"$binary":"?"}: "#),
        (&["x", "@-", "@-"], 2, "@- may be used only once"),
        (&["--from", "/no/such/file"], 1, "/no/such/file: No such file"),
        (&["--from", files.path().to_str().unwrap()], 1, "is a directory"),
        (&[], 2, "required arguments were not provided"),
        (&[""], 2, "[EVENT]"),
        (&["x", "--room", ""], 2, "--room"),
        (&["x", "--from", "-"], 2, "--from"),
        (&["--from", "-", "--ack"], 2, "--ack"),
        (&["x", "--rate", "5/s"], 2, "--rate"),
        (&["x", "--speed", "2"], 2, "--speed"),
        (&["x", "--keep-going"], 2, "--keep-going"),
        (&["x", "--timeout", "1s"], 2, "--ack"),
        (&["x", "--every", "0"], 2, "--every"),
        (&["x", "--every", "1s", "--cron", "* * * * *"], 2, "--cron"),
        (&["x", "--cron", "61 * * * *"], 2, "'61 * * * *' for '--cron"),
        (&["x", "--cron", "* * * * *", "--tz", "Europe/Atlantis"], 2, "'Europe/Atlantis'"),
        (&["x", "--count", "3"], 2, "required"),
        (&["x", "--expect", "many"], 2, "'many' for '--expect <N>': not a whole number"),
        (&["x", "--compress", "maybe"], 2, "'maybe'"),
        (&["x", "--payload-threshold", "9000"], 2, "9000"),
        (&["x", "--payload-threshold", "many"], 2, "many"),
        (&["x", "--heartbeat-interval", "soon"], 2, "'soon'"),
        (&["x", "-o", "xml"], 2, "'xml'"),
        (&["--rom", "r", "x"], 2, "'--rom'"),
    ];
    for (arguments, status, expected) in cases {
        let outcome = run(&mut pgio(postgres.url(), &[&["emit"], *arguments].concat())).await;
        assert_eq!(outcome.status, *status, "{arguments:?}: {outcome:?}");
        check(&outcome, *status, expected);
    }
    for (arguments, expected) in [
        (&["tail", "--type", "shout"][..], "'shout' for '--type <TYPE>': unknown type; the types are"),
        (&["tail", "--event", "[a"], "'[a' for '--event <GLOB>'"),
        (&["tail", "--for", "5 parsecs"], "'5 parsecs'"),
        (&["tial"], "'tial'"),
    ] {
        check(&run(&mut pgio(postgres.url(), arguments)).await, 2, expected);
    }
    let long_tail = run(&mut pgio(postgres.url(), &["tail", "-n", &long])).await;
    check(&long_tail, 1, "cannot be used: ");
    let in_the_way = files.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let save = run(&mut pgio(postgres.url(), &["tail", "--save", in_the_way.to_str().unwrap()])).await;
    check(&save, 1, in_the_way.to_str().unwrap());
}

#[tokio::test]
async fn with_stderr_closed_the_command_works_and_the_status_is_right() {
    let postgres = postgres().await;
    for (arguments, status) in [(&["emit", "--from", "-"][..], 0), (&["emit", "--ack", "e"], 4), (&["-?"], 2)]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = pgio(postgres.url(), arguments).stderr(writer).status().await.unwrap();
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
}

#[tokio::test]
async fn help_and_version_go_to_stdout() {
    for arguments in
        [&["--help"][..], &["-h"], &["emit", "--help"], &["tail", "-h"], &["help", "emit"], &["--version"]]
    {
        let outcome = run(&mut bare(arguments)).await.succeeded();
        assert!(outcome.stdout.contains("pgio") && outcome.stderr.is_empty(), "{outcome:?}");
    }
    let operating = ["nodes", "sockets", "rooms", "join", "leave", "disconnect", "server-emit"];
    for command in ["emit", "tail"].into_iter().chain(operating) {
        let help = run(&mut bare(&[command, "--help"])).await.stdout;
        assert!(help.contains("Examples:\n  pgio "), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        // Examples are not wrapped, so each line has to fit an 80-column terminal.
        let examples = help.split("Examples:").nth(1).unwrap();
        assert!(examples.lines().all(|line| line.chars().count() <= 80), "{examples}");
    }
    let alone = run(&mut bare(&[])).await;
    assert_eq!(alone.status, 2);
    assert!(alone.stderr.contains("Usage: pgio"), "{alone:?}");
}

#[tokio::test]
async fn an_invalid_log_filter_is_named_and_ignored() {
    let dry_run =
        async |filter: &str| run(bare(&["emit", "--from", "-", "--dry-run"]).env("RUST_LOG", filter)).await;
    let outcome = dry_run("pgio=lou").await.succeeded();
    assert!(outcome.stderr.starts_with("warning: RUST_LOG=\"pgio=lou\" is ignored: "), "{outcome:?}");
    let outcome = dry_run("pgio[span]=debug").await.succeeded();
    assert!(outcome.stderr.contains("is ignored: spans cannot be selected"), "{outcome:?}");
    for filter in ["", "off", "warn,pgio=debug", "warn, ,pgio=debug,"] {
        let outcome = dry_run(filter).await.succeeded();
        assert!(!outcome.stderr.contains("warning"), "{filter}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_log_filter_selects_by_module_and_level() {
    let postgres = postgres().await;
    let nodes =
        async |filter: &str| run(pgio(postgres.url(), &["nodes", "-vv"]).env("RUST_LOG", filter)).await;
    let statement = " DEBUG tokio_postgres::";
    assert!(nodes("off, tokio_postgres=debug,").await.stderr.contains(statement));
    assert!(!nodes("debug,tokio_postgres=info").await.stderr.contains(statement));
}
