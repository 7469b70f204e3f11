//! `pgio attachments`: several processes create the table only once, and maintain it while it is in use.

mod cleaners;
mod cleanup;
mod grants;
mod init;
mod look;

use futures_util::future::join_all;

use crate::support::attachments::{create_attachment_table, lock_attachment_table};
use crate::support::pgio::{Outcome, pgio, run};

/// Runs one of the commands to its end.
async fn attachments(url: &str, arguments: &[&str]) -> Outcome {
    run(&mut pgio(url, &[&["attachments"], arguments].concat())).await
}

#[tokio::test]
async fn each_help_ends_in_examples_and_fits() {
    for command in [&[][..], &["init"], &["list"], &["show"], &["stats"], &["cleanup"], &["grants"]] {
        let help = run(&mut crate::support::pgio::bare(&[&["attachments"], command, &["-h"]].concat())).await;
        let help = help.succeeded().stdout;
        let examples = help.split("Examples:\n").nth(1).unwrap();
        assert!((3..=5).contains(&examples.lines().count()), "{help}");
        assert!(examples.lines().all(|line| line.starts_with("  pgio attachments ")), "{help}");
        assert!(examples.lines().all(|line| line.len() <= 80), "{help}");
    }
}

#[tokio::test]
async fn without_a_table() {
    let postgres = crate::support::postgres::postgres().await;
    for command in
        [&["list"][..], &["show", "1"], &["stats"], &["cleanup", "--yes"], &["cleanup", "--dry-run"]]
    {
        let outcome = attachments(postgres.url(), command).await;
        let expected = "error: the attachment table socket_io_attachments does not exist\n\
            hint: pgio attachments init\n";
        assert_eq!((outcome.status, outcome.stderr.as_str()), (1, expected), "{command:?}");
    }
}

#[tokio::test]
async fn a_locked_table_is_waited_for_in_vain_for_a_while() {
    let postgres = crate::support::postgres::postgres().await;
    create_attachment_table(postgres.url()).await;
    let lock = lock_attachment_table(postgres.url()).await;
    let expected = format!(
        "error: the attachment table socket_io_attachments is locked by another session (pid {})\nhint: ",
        lock.pid().await
    );
    let commands = [
        &["list"][..],
        &["show", "1"],
        &["stats"],
        &["cleanup", "--yes"],
        &["cleanup", "--dry-run"],
        &["init"],
    ];
    let run = async |command| (command, attachments(postgres.url(), command).await);
    for (command, outcome) in join_all(commands.map(run)).await {
        // A warning may come before it.
        let error = outcome.stderr.find("error: ").map(|start| &outcome.stderr[start..]).unwrap_or_default();
        assert!(outcome.status == 1 && error.starts_with(&expected), "{command:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty(), "{command:?}: {outcome:?}");
    }
    lock.release().await;
    attachments(postgres.url(), &["init"]).await.succeeded();
}
