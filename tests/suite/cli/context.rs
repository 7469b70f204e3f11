//! `pgio context`: the configuration file without an editor.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tempfile::TempDir;

use crate::support::pgio::{Outcome, bare, run};
use crate::support::postgres::postgres;

async fn context(home: &TempDir, arguments: &[&str]) -> Outcome {
    let mut command = bare(&[&["context"], arguments].concat());
    run(command.env("XDG_CONFIG_HOME", home.path())).await
}

fn text(home: &TempDir) -> String {
    fs::read_to_string(home.path().join("pgio/config.toml")).unwrap()
}

#[tokio::test]
async fn contexts_are_added_used_and_removed() {
    let (postgres, home) = (postgres().await, TempDir::new().unwrap());
    let empty = context(&home, &["list"]).await.succeeded();
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", ""));
    context(&home, &["add", "prod", "postgres://app:s3cret@db.invalid/app"]).await.succeeded();
    let mode = fs::metadata(home.path().join("pgio/config.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    context(&home, &["add", "dev", postgres.url(), "--set", "channel-prefix=dev", "--use"]).await.succeeded();
    let mut emit = bare(&["emit", "x"]);
    run(emit.env("XDG_CONFIG_HOME", home.path())).await.succeeded();

    let listed = context(&home, &["list"]).await.succeeded().stdout;
    assert!(listed.contains("prod  app at db.invalid:5432") && listed.contains("*  dev "), "{listed}");
    let shown = context(&home, &["show", "-o", "json"]).await.succeeded().json();
    assert_eq!(shown[0]["settings"], json!({"channel-prefix": "dev"}));
    let shown = context(&home, &["show", "prod"]).await.succeeded().stdout;
    assert_eq!(shown, "prod\n  database: app at db.invalid:5432\n");
    for words in [&["list", "-o", "json"][..], &["list"], &["show", "prod"], &["show", "prod", "-o", "json"]]
    {
        assert!(!context(&home, words).await.succeeded().stdout.contains("s3cret"), "{words:?}");
    }

    context(&home, &["use", "prod"]).await.succeeded();
    context(&home, &["remove", "prod"]).await.succeeded();
    assert_eq!(context(&home, &["list", "-o", "json"]).await.succeeded().json().len(), 1);
    let none = context(&home, &["show"]).await;
    assert_eq!(
        (none.status, none.stderr.as_str()),
        (2, "error: no default context is set: name a context\n")
    );
    assert!(!text(&home).contains("default-context"), "{}", text(&home));
}

/// The command that mends the file must not need a file without errors.
#[tokio::test]
async fn a_missing_or_wrong_file_is_no_obstacle() {
    let home = TempDir::new().unwrap();
    let url = "postgres://app:s3cret@db.invalid/app";
    let file = home.path().join("new.toml");
    let mut add = bare(&["context", "add", "prod", url, "--config", file.to_str().unwrap()]);
    run(&mut add).await.succeeded();
    let mut add = bare(&["context", "add", "prod", url]);
    run(add.env("XDG_CONFIG_HOME", home.path()).env("PGIO_CONTEXT", "prod")).await.succeeded();

    let path = home.path().join("pgio/config.toml");
    let wrong = format!("default-context = 'gone'\nx = 1\n\n[context.a]\ndatabase_url = '{url}'\n");
    fs::write(&path, wrong).unwrap();
    for words in [&["show", "a"][..], &["list"], &["show", "a", "-o", "json"]] {
        let shown = context(&home, words).await.succeeded().stdout;
        assert!(shown.contains('a') && !shown.contains("s3cret"), "{shown}");
    }
    let shown = context(&home, &["show", "a"]).await.succeeded().stdout;
    assert!(shown.contains("database_url: (unknown key)"), "{shown}");
    context(&home, &["use", "a"]).await.succeeded();
    assert!(text(&home).contains("default-context = \"a\""), "{}", text(&home));
    context(&home, &["use", "--none"]).await.succeeded();
}

#[tokio::test]
async fn other_content_of_the_file_stays() {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("pgio")).unwrap();
    let path = home.path().join("pgio/config.toml");
    let before = "# Ask Ada before you change this.\noutput = 'text' # for eyes\n\n[context.a]\n# the old one\ntable-name = 'x'\n";
    fs::write(&path, before).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    context(&home, &["add", "a", "--set", "table-name=y"]).await.succeeded();
    context(&home, &["add", "b", "postgres://u@h/d"]).await.succeeded();
    context(&home, &["use", "b"]).await.succeeded();
    let after = text(&home);
    for kept in ["# Ask Ada before you change this.\n", "output = 'text' # for eyes\n", "# the old one\n"] {
        assert!(after.contains(kept), "{after}");
    }
    assert!(after.contains("table-name = \"y\"") && after.contains("default-context = \"b\""), "{after}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    context(&home, &["remove", "b"]).await.succeeded();
    assert!(!text(&home).contains("[context.b]") && text(&home).contains("[context.a]"));
}

#[tokio::test]
async fn slips_change_nothing() {
    let home = TempDir::new().unwrap();
    context(&home, &["add", "a", "postgres://u@h/d"]).await.succeeded();
    let before = text(&home);
    for (arguments, expected) in [
        (&["use", "b"][..], "error: no context \"b\"; there are a\n"),
        (&["remove", "b"], "error: no context \"b\"; there are a\n"),
        (&["show", "b"], "error: no context \"b\"; there are a\n"),
        (&["add", "b"], "error: context b: a URL or --set KEY=VALUE is missing\n"),
        (&["add", "b", "nonsense"], "neither a postgres:// URL nor keyword=value pairs"),
        (&["add", "b", "--set", "colour=red"], "unknown key colour; the keys are "),
        (&["add", "b", "--set", "cleanup-interval=xx"], "invalid value 'xx' for '--cleanup-interval"),
        (&["add", "b", "--set", "output"], "write it as KEY=VALUE"),
        (&["add", "a b", "postgres://u@h/d"], "a name has letters, digits, -, _ and ."),
        (&["use"], "required"),
    ] {
        let outcome = context(&home, arguments).await;
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(expected), "{arguments:?}: {outcome:?}");
        assert_eq!(text(&home), before, "{arguments:?}");
    }
}
