//! Requests to the whole cluster, which this node makes when it is asked over HTTP. Each answers with a count.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use futures_util::StreamExt;
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;

type Counted = Result<String, StatusCode>;

pub fn of<A: Adapter>(io: SocketIo<A>) -> Router {
    let (to_acks, to_sockets) = (io.clone(), io);
    Router::new()
        .route("/acks", get(async move || acks(to_acks).await))
        .route("/sockets", get(async move || sockets(to_sockets).await))
}

/// The acknowledgements of one event by all clients.
async fn acks<A: Adapter>(io: SocketIo<A>) -> Counted {
    let operators = io.timeout(Duration::from_secs(20));
    let stream = operators.emit_with_ack::<_, u64>("question", &1).await.map_err(failed)?;
    Ok(stream.filter(|(_, answer)| std::future::ready(answer.is_ok())).count().await.to_string())
}

/// The sockets of the cluster.
async fn sockets<A: Adapter>(io: SocketIo<A>) -> Counted {
    Ok(io.fetch_sockets().await.map_err(failed)?.len().to_string())
}

fn failed(error: impl std::fmt::Display) -> StatusCode {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR
}
