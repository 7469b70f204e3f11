//! `pgio bench`.

use crate::support::attachments::create_attachment_table;
use crate::support::mixed::mixed;
use crate::support::pgio::{pgio, run};
use crate::support::postgres::postgres;

#[tokio::test]
async fn it_measures_and_no_client_notices() {
    let cluster = mixed().await;
    let before = cluster.server_counts().await;
    let arguments = ["bench", "--events", "5000", "--size", "50", "--rate", "200", "--for", "500ms"];
    let text = run(&mut pgio(cluster.url(), &arguments)).await.succeeded();
    for expected in
        ["5,000 events with 50 bytes of text\n", " events/s, committed\n", "200 events/s, from", "  p50 "]
    {
        assert!(text.stdout.contains(expected), "{text:?}");
    }
    let json =
        run(&mut pgio(cluster.url(), &[&arguments[..], &["-o", "json"]].concat())).await.succeeded().json();
    assert_eq!((json[0]["events"].as_u64(), json[0]["bytes"].as_u64()), (Some(5000), Some(50)));
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert!(number(&json[0]["emittedPerSecond"]) > 0.0 && number(&json[0]["deliveredPerSecond"]) > 0.0);
    let latency = &json[0]["latencyMs"];
    assert_eq!(latency["rate"], 200);
    assert!(
        number(&latency["p50"]) <= number(&latency["p99"])
            && number(&latency["p99"]) <= number(&latency["max"])
    );
    assert_eq!(cluster.server_counts().await, before);
    for client in &cluster.clients {
        assert!(client.received().await.is_empty());
    }
}

#[tokio::test]
async fn large_events_go_through_the_table_which_has_to_be_there() {
    let postgres = postgres().await;
    let arguments = ["bench", "--events", "20", "--size", "20000", "--rate", "50", "--for", "100ms"];
    let missing = run(&mut pgio(postgres.url(), &arguments)).await;
    assert_eq!(missing.status, 1);
    assert!(
        missing.stderr.starts_with("error: the attachment table socket_io_attachments does not exist"),
        "{missing:?}"
    );
    create_attachment_table(postgres.url()).await;
    run(&mut pgio(postgres.url(), &arguments)).await.succeeded();
    let none = run(&mut pgio(postgres.url(), &["bench", "--events", "0"])).await;
    assert_eq!(none.status, 2);
}
