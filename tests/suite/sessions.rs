//! The effect of the settings of a role or a database on the sessions of pgio.

use pgio::cluster::Event as Heard;
use pgio::{Emitter, Error, Namespace};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::support::attachments::create_attachment_table;
use crate::support::pgio_serve::{PgioServe, fails};
use crate::support::postgres::postgres;

#[tokio::test]
async fn an_idle_session_timeout_ends_no_session_of_ours() {
    let postgres = postgres().await;
    let url = postgres.url_of_role_with("SET idle_session_timeout = '300ms'").await;
    let emitter = Emitter::connect(&url).await.unwrap();
    let mut heard = emitter.cluster().subscribe(&[Namespace::default()], |h| h.is_some()).await.unwrap();
    emitter.emit("before", ()).await.unwrap();
    assert!(matches!(heard.next().await, Some(Heard::Message(_))));

    // The timeout of a newer session expires, while the session of pgio stays open.
    let (_client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let ended = connection.await.unwrap_err();
    assert_eq!(ended.code().map(SqlState::code), Some("57P05"), "{ended}");

    emitter.emit("after", ()).await.unwrap();
    let next = heard.next().await;
    assert!(matches!(next, Some(Heard::Message(_))), "{next:?}");
}

#[tokio::test]
async fn a_lack_of_connections_is_transient_and_has_its_code() {
    let postgres = postgres().await;
    let url = postgres.url_of_role_with("CONNECTION LIMIT 0").await;
    let error = Emitter::connect(&url).await.err().unwrap();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert_eq!(error.sqlstate(), Some("53300"));
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
    let source: &tokio_postgres::Error = source.expect("the driver's error");
    assert_eq!(source.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
}

#[tokio::test]
async fn a_server_starts_with_a_session_to_publish_and_one_to_listen() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let url = postgres.url_of_role_with("CONNECTION LIMIT 2").await;
    let serve = PgioServe::start(&url, &[]).await;
    serve.wait_for_ready(200).await;
}

#[tokio::test]
async fn a_server_does_not_start_without_a_session_to_listen() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let url = postgres.url_of_role_with("CONNECTION LIMIT 1").await;
    let (code, stderr) = fails(&["--database-url", &url]).await;
    assert!(code == 3 && stderr.contains("too many connections for role"), "{code}: {stderr}");
}
