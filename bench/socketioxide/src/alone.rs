//! A server without Postgres, with the adapter for a single server. It emits the events itself: what socketioxide costs
//! whatever the adapter.
//!
//! Each line of stdin orders events `["tick",N]` to all clients: their number, and the microseconds between two of them.
//! A pause of 0 is a flood.

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use axum::serve::ListenerExt;
use socketioxide::SocketIo;
use socketioxide::extract::SocketRef;
use tokio::sync::mpsc;

/// Events of a flood that are emitted before the clients get a turn: as many as the benchmark publishes in a transaction.
const TURN: u64 = 100;

pub async fn serve() -> Result<(), Box<dyn Error>> {
    let (layer, io) = SocketIo::builder().max_buffer_size(super::BUFFER).build_layer();
    io.ns("/", async |_: SocketRef| {});
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "address": listener.local_addr()?.to_string() }));
    let (sender, orders) = mpsc::channel(1);
    std::thread::spawn(move || read(&sender));
    tokio::spawn(emit(io, orders));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, axum::Router::new().layer(layer)).await?)
}

fn read(sender: &mpsc::Sender<(u64, Duration)>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let order = line.split_once(' ').and_then(|(events, pause)| {
            Some((events.parse().ok()?, Duration::from_micros(pause.parse().ok()?)))
        });
        let Some(order) = order else { return };
        if sender.blocking_send(order).is_err() {
            return;
        }
    }
}

async fn emit(io: SocketIo, mut orders: mpsc::Receiver<(u64, Duration)>) {
    while let Some((events, pause)) = orders.recv().await {
        for number in 0..events {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            } else if number % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            // It fails for a client that has left, which the benchmark notices.
            io.emit("tick", &number).await.ok();
        }
    }
}
