//! `pgio emit` that stays, or that waits for Postgres.

use pgio::postgres::private::Shutdown;
use serde_json::json;

use crate::support::pgio::{Running, pgio, run};
use crate::support::postgres::{own_server, postgres};

#[tokio::test]
async fn every_so_often_and_so_many_times() {
    let postgres = postgres().await;
    let mut tail = Running::start(&mut pgio(postgres.url(), &["tail", "-o", "json", "--count", "3"]));
    tail.wait_for_note("listening").await;
    let outcome =
        run(&mut pgio(postgres.url(), &["emit", "--every", "50ms", "--count", "3", "-o", "json", "tick"]))
            .await;
    assert_eq!(outcome.succeeded().json(), [json!({"sent": 1}), json!({"sent": 1}), json!({"sent": 1})]);
    for _ in 0..3 {
        assert_eq!(tail.json().await["event"], "tick");
    }
}

#[tokio::test]
async fn by_a_crontab_expression() {
    let postgres = postgres().await;
    let mut tail = Running::start(&mut pgio(postgres.url(), &["tail", "-o", "json", "--count", "1"]));
    tail.wait_for_note("listening").await;
    let cron = ["emit", "--cron", "* * * * * *", "--tz", "Europe/Madrid", "--count", "1", "each second"];
    run(&mut pgio(postgres.url(), &cron)).await.succeeded();
    assert_eq!(tail.json().await["event"], "each second");

    let never = run(&mut pgio(postgres.url(), &["emit", "--cron", "0 0 30 2 *", "never"])).await;
    assert_eq!((never.status, never.stderr.as_str()), (1, "error: --cron is never due again (0 sent)\n"));
}

#[tokio::test]
async fn a_schedule_goes_on_after_a_restart() {
    let mut server = own_server().await;
    let mut emit =
        Running::start(&mut pgio(&server.url(), &["emit", "--every", "100ms", "-o", "json", "tick"]));
    emit.line().await;
    server.take_down(Shutdown::Fast).await.unwrap();
    emit.wait_for_note("warning: ").await;
    server.start_again().await.unwrap();
    let mut tail = Running::start(&mut pgio(&server.url(), &["tail", "-o", "json", "--count", "1"]));
    assert_eq!(tail.json().await["event"], "tick");
}

#[tokio::test]
async fn patience_while_postgres_is_down() {
    let mut server = own_server().await;
    let url = server.url();
    server.take_down(Shutdown::Fast).await.unwrap();
    let at_once = run(&mut pgio(&url, &["emit", "x"])).await;
    assert_eq!(at_once.status, 3);
    assert!(at_once.stderr.ends_with(": connection refused\n"), "{at_once:?}");
    let too_short = run(&mut pgio(&url, &["emit", "--retry-for", "300ms", "x"])).await;
    assert_eq!(too_short.status, 3);

    let mut patient = Running::start(&mut pgio(&url, &["emit", "--retry-for", "60s", "-o", "json", "x"]));
    patient.wait_for_note("trying again").await;
    server.start_again().await.unwrap();
    assert_eq!(patient.end().await.succeeded().json(), [json!({"sent": 1})]);

    // What does not get better by waiting fails at once.
    let wrong = url.replace("pgio:", "nobody:");
    let refused = run(&mut pgio(&wrong, &["emit", "--retry-for", "60s", "x"])).await;
    assert_eq!(refused.status, 3);
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
}
