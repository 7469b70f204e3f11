//! Pages of other origins: a browser lets them open websockets to any server.

use super::{POLLING, ask};
use crate::support::node::NodePeer;
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

#[tokio::test]
async fn pages_of_other_origins_cannot_connect() {
    let postgres = postgres().await;
    let (a, b) = ("https://a.example", "https://b.example");
    let own = "http://127.0.0.1:8080";
    let cases: [(&[&str], &str, [bool; 3]); 4] = [
        (&[], "same host", [false, false, true]),
        (&["--cors-origin", a], "same host and [\"https://a.example\"]", [true, false, true]),
        (&["--cors-origin", "*"], "any", [true, true, true]),
        (&["--origin", "https://a.*"], "[\"https://a.*\"]", [true, false, false]),
    ];
    for (flags, rule, expected) in cases {
        let serve = PgioServe::start(postgres.url(), flags).await;
        let line = serve.wait_for_log("origin check").await;
        assert_eq!(line["fields"]["origins"], rule);
        let host = serve.address().to_owned();
        for (origin, expected) in [a, b, own].into_iter().zip(expected) {
            let headers = format!("host: {host}\r\norigin: {origin}\r\n");
            let websocket = RawWebsocket::try_open_with(serve.address(), &headers).await;
            assert_eq!(websocket.is_some(), expected, "{flags:?} {origin}");
            let request = format!("GET {POLLING} HTTP/1.0\r\n{headers}\r\n");
            let is_open = serve.request(&request).await.0.contains(" 200 ");
            assert_eq!(is_open, expected, "{flags:?} {origin}");
        }
        // A program that is not a browser sends no origin.
        serve.client(&NodePeer::start().await).await;
        assert_eq!(ask(&serve, "GET", POLLING, "", "").await.0, 200);
        let refused = expected.iter().filter(|expected| !**expected).count() as f64;
        assert_eq!(serve.metric("pgio_connections_refused_total{reason=\"origin\"}").await, 2.0 * refused);
    }
}
