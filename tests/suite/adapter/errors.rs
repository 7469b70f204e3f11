//! Errors that no caller gets: the error handler receives them.

use std::time::Duration;

use pgio::cluster::ErrorHandler;
use pgio::postgres::private::Shutdown;
use pgio::{AdapterOptions, Cluster, Error, Settings};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::Parser;
use crate::support::pgio_node::PgioNode;
use crate::support::postgres::{own_server, postgres};

/// Waits for an error that matches. Other errors may come before it.
async fn wait_for(errors: &mut UnboundedReceiver<Error>, is_right: impl Fn(&Error) -> bool) {
    let mut others = Vec::new();
    let found = timeout(Duration::from_secs(20), async {
        loop {
            match errors.recv().await.expect("the node is there") {
                error if is_right(&error) => return,
                other => others.push(other),
            }
        }
    });
    assert!(found.await.is_ok(), "it does not come; there were {others:?}");
}

#[tokio::test]
async fn the_error_handler_gets_errors_without_a_caller() {
    let mut server = own_server().await;
    let (sender, mut errors) = unbounded_channel();
    // The receiver is dropped if the test has ended.
    let handler = move |error: &Error| drop(sender.send(error.clone()));
    let options = AdapterOptions::default()
        .cleanup_interval(Duration::from_millis(200))
        .error_handler(ErrorHandler::new(handler));
    let _node = PgioNode::start_with(&server.url(), options, Parser::Default, |builder| builder).await;
    wait_for(&mut errors, |error| matches!(error, Error::MissingTable { .. })).await;

    create_attachment_table(&server.url()).await;
    let say = async |payload: &str| {
        execute(&server.url(), &format!("SELECT pg_notify('socket.io#/', '{payload}')")).await
    };
    say("nonsense").await;
    wait_for(&mut errors, |error| matches!(error, Error::Decode(_))).await;
    say(r#"{"uid":"x","type":3,"nsp":"/","data":{"packet":{"data":[7]}}}"#).await;
    wait_for(&mut errors, |error| matches!(error, Error::Decode(_))).await;
    say(r#"{"uid":"x","type":3,"nsp":"/","attachmentId":"999999"}"#).await;
    wait_for(&mut errors, |error| {
        error.to_string() == "the attachment of a broadcast from x is missing: its row was deleted"
    })
    .await;

    server.take_down(Shutdown::Immediate).await.unwrap();
    wait_for(&mut errors, |error| matches!(error, Error::ConnectionLost(_))).await;
    // Heartbeats are retried every second, and the loss concerns every namespace: each is reported once.
    sleep(Duration::from_millis(3500)).await;
    let mut others = Vec::new();
    while let Ok(error) = errors.try_recv() {
        others.push(error);
    }
    others.retain(|error| error.is_disconnected());
    // The first cleanup may come before the loss is noticed.
    assert!(others.len() <= 2, "{others:?}");
}

#[tokio::test]
async fn intervals_without_a_pause_are_refused() {
    let server = postgres().await;
    let connect = async |options| Cluster::connect(Settings::parse(server.url()).unwrap(), options).await;
    for (options, error) in [
        (
            AdapterOptions::default().heartbeat_interval(Duration::ZERO),
            "heartbeat_interval: 0ns is less than 1ms",
        ),
        (
            AdapterOptions::default().heartbeat_timeout(Duration::ZERO),
            "heartbeat_timeout: 0ns is less than 1ms",
        ),
        (
            AdapterOptions::default().cleanup_interval(Duration::ZERO),
            "cleanup_interval: 0ns is less than 1ms",
        ),
        (AdapterOptions::default().channel_prefix("p".repeat(70)), "pppp"),
    ] {
        let refused = connect(options).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains(error), "{refused}");
    }
}
