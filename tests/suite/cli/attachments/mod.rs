//! `pgio attachments`: the table is created once, however many try, and looked after while it is in use.

mod cleaners;
mod cleanup;
mod init;
mod look;

use crate::support::pgio::{Outcome, pgio, run};

/// Runs one of its commands to the end.
async fn attachments(url: &str, arguments: &[&str]) -> Outcome {
    run(&mut pgio(url, &[&["attachments"], arguments].concat())).await
}

#[tokio::test]
async fn each_help_ends_in_examples_and_fits() {
    for command in [&[][..], &["init"], &["list"], &["show"], &["stats"], &["cleanup"]] {
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
