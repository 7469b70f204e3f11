//! The task that owns a transport. It answers pings, detects a silent server, and keeps two bounded queues.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Trouble;
use super::engine::{EngineTransport, Outgoing, Packet};

/// The capacity of the queue of outgoing messages.
pub(super) const OUTGOING: usize = 16;

/// The deadline for the server to accept a packet.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A message to send, and who waits until the transport has sent it.
struct ToSend {
    message: Outgoing,
    sent: oneshot::Sender<()>,
}

/// A running connection. Dropping it ends the connection.
pub(super) struct Driver {
    incoming: mpsc::Receiver<Packet>,
    /// `None` once there is nothing more to send.
    outgoing: Option<mpsc::Sender<ToSend>>,
    task: AbortOnDropHandle<Result<(), Trouble>>,
    end: Option<Trouble>,
}

impl Driver {
    pub(super) fn start(transport: impl EngineTransport) -> Self {
        let (received, incoming) = mpsc::channel(1);
        let (outgoing, to_send) = mpsc::channel(OUTGOING);
        let task = AbortOnDropHandle::new(tokio::spawn(drive(transport, received, to_send)));
        Self { incoming, outgoing: Some(outgoing), task, end: None }
    }

    /// Waits for the next message.
    pub(super) async fn next(&mut self) -> Result<Packet, Trouble> {
        match self.incoming.recv().await {
            Some(packet) => Ok(packet),
            None => Err(self.why().await),
        }
    }

    /// Sends a message: returns once the transport has written it, and with polling once the server has taken it.
    pub(super) async fn send(&mut self, message: Outgoing) -> Result<(), Trouble> {
        let (sent, is_sent) = oneshot::channel();
        let is_sent = match &self.outgoing {
            Some(outgoing) => outgoing.send(ToSend { message, sent }).await.is_ok() && is_sent.await.is_ok(),
            None => false,
        };
        if is_sent { Ok(()) } else { Err(self.why().await) }
    }

    /// Waits until the session is closed.
    pub(super) async fn finish(&mut self) {
        self.outgoing = None;
        // Discards messages that still arrive.
        while self.incoming.recv().await.is_some() {}
        self.why().await;
    }

    /// The reason why the task has ended.
    async fn why(&mut self) -> Trouble {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let end = match (&mut self.task).await {
            Ok(Err(trouble)) => trouble,
            Ok(Ok(())) => Trouble::Transient("the connection is closed".into()),
            Err(error) => Trouble::Transient(format!("the connection's task failed: {error}")),
        };
        self.end.insert(end).clone()
    }
}

/// Runs until the connection ends, or the queue of outgoing messages is closed.
async fn drive(
    mut transport: impl EngineTransport,
    received: mpsc::Sender<Packet>,
    mut to_send: mpsc::Receiver<ToSend>,
) -> Result<(), Trouble> {
    let patience = transport.session().patience();
    // The server sets this time. If its end overflows the clock, there is no deadline.
    let deadline = || Instant::now().checked_add(patience);
    let mut silent_at = deadline();
    let mut held = None;
    loop {
        tokio::select! {
            message = to_send.recv() => match message {
                Some(ToSend { message, sent }) => {
                    transport.session().check(&message)?;
                    in_time(transport.send(message)).await?;
                    // A sender that has stopped waiting does not need to know.
                    sent.send(()).ok();
                }
                None => {
                    transport.close().await;
                    return Ok(());
                }
            },
            // Waits for the receiver of a message, while outgoing messages are still sent.
            permit = received.reserve(), if held.is_some() => match (permit, held.take()) {
                (Ok(permit), Some(packet)) => {
                    permit.send(packet);
                    silent_at = deadline();
                }
                _ => return Ok(()),
            },
            packet = transport.receive(), if held.is_none() => {
                silent_at = deadline();
                match packet? {
                    // In the meantime nothing is received that would show that the server is alive.
                    Packet::Ping if patience < SEND_TIMEOUT => match timeout(patience, transport.pong()).await {
                        Ok(outcome) => outcome?,
                        Err(_) => return Err(silent(patience)),
                    },
                    Packet::Ping => in_time(transport.pong()).await?,
                    Packet::Close => return Err(Trouble::Transient("the server closed the connection".into())),
                    Packet::Noop => {}
                    message => held = Some(message),
                }
            }
            () = until(silent_at), if held.is_none() => {
                return Err(silent(patience));
            }
        }
    }
}

fn silent(patience: Duration) -> Trouble {
    Trouble::Transient(format!("the server has been silent for {patience:.0?}"))
}

async fn in_time(send: impl Future<Output = Result<(), Trouble>>) -> Result<(), Trouble> {
    match timeout(SEND_TIMEOUT, send).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Trouble::Transient(format!("the server accepted no packet within {SEND_TIMEOUT:.0?}"))),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::Session;
    use super::*;

    /// A server that sends a ping, and then accepts nothing.
    struct StandsStill(Session);

    impl EngineTransport for StandsStill {
        fn session(&self) -> &Session {
            &self.0
        }

        async fn receive(&mut self) -> Result<Packet, Trouble> {
            Ok(Packet::Ping)
        }

        async fn send(&mut self, _: Outgoing) -> Result<(), Trouble> {
            std::future::pending().await
        }

        async fn pong(&mut self) -> Result<(), Trouble> {
            std::future::pending().await
        }

        async fn close(self) {}
    }

    #[tokio::test]
    async fn a_server_that_does_not_take_a_pong_is_silent() {
        let session = r#"0{"sid":"s","pingInterval":30,"pingTimeout":20}"#;
        let mut driver = Driver::start(StandsStill(Session::read(session).unwrap()));
        let end = timeout(Duration::from_secs(5), driver.next()).await.expect("it is noticed in time");
        assert_eq!(end.unwrap_err(), Trouble::Transient("the server has been silent for 50ms".into()));
    }
}
