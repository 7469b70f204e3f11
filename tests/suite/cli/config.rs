//! The configuration file and its contexts.

use std::fs;

use tempfile::TempDir;

use crate::support::pgio::{bare, pgio, run};
use crate::support::postgres::postgres;
use crate::support::whole::whole;

/// A directory like `~/.config` with this configuration file.
fn configured(text: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("pgio")).unwrap();
    fs::write(directory.path().join("pgio/config.toml"), text).unwrap();
    directory
}

/// A URL without a listener. The error of a connection names its end.
fn nobody(name: &str) -> String {
    format!("postgres://u@{name}.invalid/d")
}

/// The host to which the program connects.
async fn host(command: &mut tokio::process::Command) -> String {
    let outcome = run(command).await;
    assert_eq!(outcome.status, 3, "{outcome:?}");
    let error = outcome.stderr.lines().find_map(|line| line.strip_prefix("error: cannot connect to "));
    let target = error.expect("a refused connection");
    target.split('.').next().unwrap().to_owned()
}

#[tokio::test]
async fn flags_outrank_variables_and_these_the_file() {
    let text = format!(
        "database-url = '{}'\n[context.prod]\ndatabase-url = '{}'\n[context.dev]\noutput = 'json'\n",
        nobody("file"),
        nobody("prod")
    );
    let directory = configured(&text);
    let from_variable = nobody("variable");
    let flag = nobody("flag");
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = bare(&[&["emit", "x"], arguments].concat());
        command.env("XDG_CONFIG_HOME", directory.path()).envs(variables.iter().copied());
        command
    };
    assert_eq!(host(&mut with(&[], &[])).await, "file");
    assert_eq!(host(&mut with(&["--context", "prod"], &[])).await, "prod");
    assert_eq!(host(&mut with(&["--context", "dev"], &[])).await, "file");
    assert_eq!(host(&mut with(&[], &[("PGIO_CONTEXT", "prod")])).await, "prod");
    assert_eq!(host(&mut with(&[], &[("DATABASE_URL", &from_variable)])).await, "variable");
    assert_eq!(host(&mut with(&[], &[("PGHOST", "pghost.invalid")])).await, "pghost");
    // A named context overrides the variables.
    assert_eq!(
        host(&mut with(&[], &[("PGIO_CONTEXT", "prod"), ("DATABASE_URL", &from_variable)])).await,
        "prod"
    );
    assert_eq!(host(&mut with(&["--context", "prod"], &[("DATABASE_URL", &from_variable)])).await, "prod");
    assert_eq!(host(&mut with(&["--context", "prod"], &[("PGHOST", "pghost.invalid")])).await, "prod");
    assert_eq!(host(&mut with(&["--context", "prod", "--database-url", &flag], &[])).await, "flag");
}

#[tokio::test]
async fn every_key_is_the_flag_of_its_name() {
    let postgres = postgres().await;
    let url = postgres.url();
    let text = format!(
        "default-context = 'here'\nchannel-prefix = 'file'\noutput = 'json'\n[context.here]\ndatabase-url = '{url}'\n\
         channel-prefix = 'here'\ntable-name = 'app.files'\npayload-threshold = 300\ncleanup-interval = 1000\n\
         heartbeat-interval = '2s'\nheartbeat-timeout = '9s'\n"
    );
    let file = TempDir::new().unwrap();
    let path = file.path().join("any.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let tail = run(&mut bare(&["tail", "--config", path, "--for", "10ms"])).await.succeeded();
    assert_eq!(tail.stderr, "listening on here#/\n");
    let emit = run(bare(&["emit", "x"]).env("PGIO_CONFIG", path)).await.succeeded();
    assert_eq!(emit.stdout, "{\"sent\":1}\n");
    // An event above the threshold needs the table, which does not exist.
    let long = "x".repeat(300);
    let table = run(&mut bare(&["emit", "--config", path, "x", &long])).await;
    assert!(table.stderr.contains("app.files does not exist"), "{table:?}");
    let flag = run(&mut bare(&["tail", "--config", path, "--channel-prefix", "flag", "--for", "10ms"])).await;
    assert!(flag.stderr.ends_with("\nlistening on flag#/\n"), "{flag:?}");
}

#[tokio::test]
async fn errors_are_one_line() {
    let cases = [
        ("colour = 'red'", "unknown key colour; the keys are database-url, "),
        ("[context.a]\ncolour = 'red'", ""),
        ("x = = 1", "line 1: "),
        ("\n\nchannel-prefix = ", "line 3: "),
        ("channel-prefix = true", "channel-prefix is a boolean, and has to be text or a whole number"),
        ("heartbeat-interval = 'soon'", "invalid value 'soon' for '--heartbeat-interval <TIME>'"),
        ("context = 'prod'", "context is not a table such as [context.prod]"),
        ("default-context = 'gone'\n[context.a]\n[context.b]", "no context \"gone\"; there are a, b"),
    ];
    for (text, expected) in cases {
        let directory = configured(text);
        let mut command = pgio("postgres://u@127.0.0.1:1/d", &["emit", "x"]);
        let outcome = run(command.env("XDG_CONFIG_HOME", directory.path())).await;
        if expected.is_empty() {
            // No command uses that context.
            assert_eq!(outcome.status, 3, "{outcome:?}");
            continue;
        }
        assert_eq!(outcome.status, 2, "{outcome:?}");
        let start = format!("error: {}: {expected}", directory.path().join("pgio/config.toml").display());
        assert!(outcome.stderr.starts_with(&start), "{outcome:?}, not {start}");
        assert_eq!(outcome.stderr.lines().count(), 1);
    }
    let directory = configured("[context.a]\ncolour = 'red'");
    let mut command = bare(&["emit", "x", "--context", "a"]);
    let outcome = run(command.env("XDG_CONFIG_HOME", directory.path())).await;
    assert!(outcome.stderr.contains("context a: unknown key colour"), "{outcome:?}");
    let missing = run(&mut bare(&["emit", "x", "--config", "/no/such.toml"])).await;
    assert_eq!(
        (missing.status, missing.stderr.as_str()),
        (2, "error: /no/such.toml: No such file or directory\n")
    );
    let mut no_file = bare(&["emit", "x", "--context", "prod"]);
    let no_file = run(no_file.env("XDG_CONFIG_HOME", "/nonexistent")).await;
    assert_eq!(no_file.status, 2);
    assert!(no_file.stderr.starts_with("error: /nonexistent/pgio/config.toml: "), "{no_file:?}");
}

#[tokio::test]
async fn shells_complete_the_names_of_contexts() {
    let directory = configured("[context.production]\n[context.staging]\n");
    let mut complete = bare(&["--", "pgio", "emit", "--context", ""]);
    complete.env("XDG_CONFIG_HOME", directory.path()).env("PGIO_COMPLETE", "bash");
    complete.env("_CLAP_COMPLETE_INDEX", "3").env("_CLAP_IFS", "\n");
    let outcome = run(&mut complete).await.succeeded();
    assert_eq!(outcome.stdout, "production\nstaging");
}

#[tokio::test]
async fn shells_complete_names_of_the_cluster() {
    let cluster = whole().await;
    cluster.join(0, &["r1", "r2"]).await;
    let complete = async |words: &[&str]| {
        let mut complete = pgio(cluster.url(), &[&["--", "pgio"], words].concat());
        complete.env("PGIO_COMPLETE", "bash").env("_CLAP_IFS", "\n");
        complete.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        run(&mut complete).await.succeeded().stdout.lines().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["emit", "--room", ""]).await, ["r1", "r2"]);
    assert_eq!(complete(&["leave", ""]).await[..2], ["r1", "r2"]);
    assert_eq!(complete(&["tail", "--uid", ""]).await.len(), 4);
    assert_eq!(complete(&["tail", "--type", "sockets_"]).await, ["sockets_join", "sockets_leave"]);
    assert_eq!(complete(&["emit", "x", "--cron", "@daily", "--tz", "Europe/Madr"]).await, ["Europe/Madrid"]);
    assert!(complete(&["tail", "-n", "/"]).await.iter().any(|name| name == "/admin"));
    assert_eq!(complete(&["emit", "--from", "Cargo.t"]).await, ["Cargo.toml"]);
    // Without a database there are no completions, and no error.
    let mut nowhere = pgio("postgres://u@127.0.0.1:1/d", &["--", "pgio", "emit", "--room", ""]);
    nowhere.env("PGIO_COMPLETE", "bash").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_INDEX", "3");
    let outcome = run(&mut nowhere).await.succeeded();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

/// The shell names the context of production, and the variable of another tool names staging. The context takes
/// precedence.
#[tokio::test]
async fn a_context_of_a_variable_overrides_database_url_and_overrides_of_a_context_are_noted() {
    let postgres = postgres().await;
    let url = postgres.url();
    let nowhere = "postgres://u@127.0.0.1:1/d";
    let directory = configured(&format!(
        "default-context = 'prod'\n[context.prod]\ndatabase-url = '{url}'\nchannel-prefix = 'prod'\n"
    ));
    let home = directory.path();
    let mut meant = pgio(nowhere, &["emit", "x"]);
    let outcome = run(meant.env("XDG_CONFIG_HOME", home).env("PGIO_CONTEXT", "prod")).await.succeeded();
    assert_eq!(outcome.stderr, "");

    let mut default = pgio(url, &["emit", "x"]);
    let outcome = run(default.env("XDG_CONFIG_HOME", home)).await.succeeded();
    assert_eq!(outcome.stderr, "context prod: database-url is ignored, since DATABASE_URL is set\n");
    let mut quiet = pgio(url, &["emit", "-q", "x"]);
    assert_eq!(run(quiet.env("XDG_CONFIG_HOME", home)).await.succeeded().stderr, "");

    let mut flag = bare(&["emit", "x", "--context", "prod", "--database-url", url, "--channel-prefix", "p"]);
    let outcome = run(flag.env("XDG_CONFIG_HOME", home)).await.succeeded();
    let expected = "context prod: database-url is ignored, since --database-url is set\n\
                    context prod: channel-prefix is ignored, since --channel-prefix is set\n";
    assert_eq!(outcome.stderr, expected);
    let mut libpq = bare(&["emit", "x"]);
    let outcome = run(libpq.env("XDG_CONFIG_HOME", home).env("PGHOST", "127.0.0.1").env("PGPORT", "1")).await;
    assert!(outcome.stderr.starts_with("context prod: database-url is ignored, since PGHOST"), "{outcome:?}");
}
