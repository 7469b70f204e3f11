//! Prints the notification that the adapter makes of an event: this node has a driver that prints instead of sending.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use socketioxide::SocketIo;
use socketioxide_postgres::drivers::{Driver, Notification};
use socketioxide_postgres::{CustomPostgresAdapter, PostgresAdapterConfig, PostgresAdapterCtr};

/// The number in the event, which the benchmark replaces. The adapter writes the bytes of its digits.
const NUMBER: u64 = 123_456_789;
const DIGITS: &str = "49,50,51,52,53,54,55,56,57";

pub async fn print() -> Result<(), Box<dyn Error>> {
    let adapter = PostgresAdapterCtr::new_with_driver(Printer, PostgresAdapterConfig::default());
    let (_, io) = SocketIo::builder().with_adapter::<CustomPostgresAdapter<_, Printer>>(adapter).build_svc();
    io.ns("/", async || {}).await?;
    Ok(io.emit("tick", &NUMBER).await?)
}

/// A driver that prints the notifications with the event, and stores nothing.
#[derive(Clone)]
struct Printer;

struct Never(Infallible);

impl Notification for Never {
    fn channel(&self) -> &str {
        match self.0 {}
    }

    fn payload(&self) -> &str {
        match self.0 {}
    }
}

impl Driver for Printer {
    type Error = Infallible;
    type Notification = Never;
    type NotificationStream = futures_util::stream::Pending<Never>;

    async fn init(&self, _: &str) -> Result<(), Infallible> {
        Ok(())
    }

    async fn listen(&self, _: &[&str]) -> Result<Self::NotificationStream, Infallible> {
        Ok(futures_util::stream::pending())
    }

    async fn notify(&self, channel: &str, message: &str) -> Result<(), Infallible> {
        // Heartbeats do not hold the number.
        if let Some((before, after)) = message.split_once(DIGITS) {
            println!("{}", serde_json::json!({ "channel": channel, "before": before, "after": after }));
        }
        Ok(())
    }

    async fn push_attachment(&self, _: &str, _: &[u8]) -> Result<i64, Infallible> {
        Ok(0)
    }

    async fn get_attachment(&self, _: &str, _: i64) -> Result<Vec<u8>, Infallible> {
        Ok(Vec::new())
    }

    async fn cleanup_attachments(&self, _: &str, _: Duration) -> Result<(), Infallible> {
        Ok(())
    }

    async fn close(&self, _: &[&str]) -> Result<(), Infallible> {
        Ok(())
    }
}
