//! A client that polls without a library.

use super::pgio_serve::PgioServe;

const PATH: &str = "/socket.io/?EIO=4&transport=polling";

/// A polling session of Engine.IO, without the library.
pub struct RawPolling<'a> {
    serve: &'a PgioServe,
    path: String,
}

impl RawPolling<'_> {
    /// Opens a session. It is in no namespace yet.
    pub async fn open(serve: &PgioServe) -> RawPolling<'_> {
        let (head, open) = serve.request(&format!("GET {PATH} HTTP/1.0\r\n\r\n")).await;
        assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
        let sid = open.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
        RawPolling { serve, path: format!("{PATH}&sid={sid}") }
    }

    /// Opens a session and connects to the main namespace, as the only client that polls.
    pub async fn connect(serve: &PgioServe) -> RawPolling<'_> {
        let session = RawPolling::open(serve).await;
        assert_eq!(session.post("40").await.1, "ok");
        serve.wait_for_metric("pgio_connections{transport=\"polling\"}", 1.0).await;
        session
    }

    /// The id in the requests of the session. It is not the id of the socket.
    pub fn session_id(&self) -> &str {
        self.path.rsplit('=').next().unwrap()
    }

    /// Sends packets. Returns the head and the body of the response.
    pub async fn post(&self, packets: &str) -> (String, String) {
        let length = packets.len();
        let head = format!("POST {} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n", self.path);
        self.serve.request(&(head + packets)).await
    }

    /// Polls once. Returns the packets.
    pub async fn poll(&self) -> Vec<String> {
        let (_, body) = self.serve.request(&format!("GET {} HTTP/1.0\r\n\r\n", self.path)).await;
        body.split('\x1e').map(str::to_owned).collect()
    }

    /// Whether the server refuses a poll, as it does when the session is closed.
    pub async fn is_closed(&self) -> bool {
        self.serve.request(&format!("GET {} HTTP/1.0\r\n\r\n", self.path)).await.0.contains(" 400 ")
    }
}
