//! A plain `LISTEN` at Postgres: the reference for which events were published, and in which order.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::clock::Moment;
use super::ledger::{Ledger, Receiver, Sender};

/// The pause until it connects again.
const AGAIN: Duration = Duration::from_millis(20);

/// Listens at that server from now on, whenever it is there.
pub fn listen(url: String, ledger: Arc<Ledger>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            // The server is away during some faults.
            hear(&url, &ledger).await.ok();
            sleep(AGAIN).await;
        }
    }))
}

async fn hear(url: &str, ledger: &Ledger) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let listen = client.batch_execute("LISTEN \"socket.io#/\"");
    let hear = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message? {
                enter(notification.payload(), ledger);
            }
        }
        Ok(())
    };
    tokio::try_join!(listen, hear).map(drop)
}

fn enter(payload: &str, ledger: &Ledger) {
    let at = Moment::now();
    // Other messages of the members are no part of a stream.
    let Ok(message) = serde_json::from_str::<Value>(payload) else { return };
    let event = &message["data"]["packet"]["data"];
    let sender = event[0].as_str().and_then(Sender::named);
    if let (Some(sender), Some(number)) = (sender, event[1].as_u64()) {
        ledger.received((sender, Receiver::Witness), number, at);
    }
}
