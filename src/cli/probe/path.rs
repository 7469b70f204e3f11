//! The end-to-end path of an event from Postgres to a client, kept open while it works.

use std::time::{Duration, Instant};

use tokio::time::{timeout, timeout_at};

use super::outcome::{Limits, Measured};
use crate::cli::arguments::Global;
use crate::cli::client::{self, Access};
use crate::cli::connection::Deadline;
use crate::cli::observer::STALLED;
use crate::cli::socket::{Incoming, Socket, Target, Trouble};
use crate::{Emitter, Namespace, Value};

/// The connections at both ends of the path.
pub(super) struct Open {
    emitter: Emitter,
    socket: Socket,
}

impl Open {
    /// Disconnects from the server. It would keep a socket that polls until its ping timeout.
    pub(super) async fn close(self) {
        self.socket.close().await;
    }
}

/// The path to measure.
pub(super) struct Path<'a> {
    pub(super) access: &'a Access,
    pub(super) target: &'a Target,
    pub(super) nsp: &'a Namespace,
    pub(super) auth: Option<&'a Value>,
    pub(super) limits: Limits,
}

/// The reason why there is no latency.
enum Lost {
    /// The event was sent, and did not arrive.
    NotDelivered,
    /// One end of the path does not work.
    Down(String),
    /// The probe is refused, so it cannot know whether others are served.
    Refused(String),
}

impl Path<'_> {
    /// Sends an event over the path. Opens the path first if it is not open, and closes it after a failure.
    pub(super) async fn measure(&self, global: &Global, open: &mut Option<Open>) -> Measured {
        let outcome = async {
            let ends = match open.take() {
                Some(ends) => open.insert(ends),
                None => {
                    let ends = open.insert(self.open(global).await?);
                    // The first event is not measured: caches are cold, and the server may still be busy with the
                    // connection.
                    self.send_one(ends).await?;
                    ends
                }
            };
            self.send_one(ends).await
        };
        let outcome = outcome.await;
        match outcome {
            Ok(latency) => Measured::delivered(latency, self.limits),
            Err(lost) => {
                if let Some(ends) = open.take() {
                    ends.close().await;
                }
                match lost {
                    Lost::NotDelivered => Measured::not_delivered(self.limits),
                    Lost::Down(reason) => Measured::critical(reason),
                    Lost::Refused(reason) => Measured::unknown(reason),
                }
            }
        }
    }

    /// Waits for `wake`, and discards the events of the server in the meantime. If the connection is lost, the next
    /// check opens it again.
    pub(super) async fn idle_until<T>(&self, open: &mut Option<Open>, wake: impl Future<Output = T>) {
        let mut wake = std::pin::pin!(wake);
        loop {
            let Some(ends) = open else {
                wake.await;
                return;
            };
            tokio::select! {
                _ = &mut wake => return,
                incoming = ends.socket.next() => if incoming.is_err() {
                    *open = None;
                },
            }
        }
    }

    async fn open(&self, global: &Global) -> Result<Open, Lost> {
        let cluster = Deadline::after(self.access.timeout).connect(global).await;
        let cluster = cluster.map_err(|failure| match failure.is_disconnected() {
            true => Lost::Down(failure.to_string()),
            false => Lost::Refused(failure.to_string()),
        })?;
        let socket = self.access.connect(self.target, self.nsp, self.auth).await;
        let socket = socket.map_err(|trouble| self.lost(&trouble))?;
        Ok(Open { emitter: Emitter::new(cluster), socket })
    }

    /// Emits an event to this client only, and waits for it. On every server, the id of a socket is also the name of
    /// its room.
    async fn send_one(&self, Open { emitter, socket }: &mut Open) -> Result<Duration, Lost> {
        let event = format!("pgio-probe-{:016x}", fastrand::u64(..));
        let room = socket.id().to_owned();
        let start = Instant::now();
        let deadline = start.checked_add(self.limits.critical).map(tokio::time::Instant::from_std);
        let emitter = emitter.clone();
        let operator = emitter.of(self.nsp.as_str()).to(room.as_str());
        // Postgres may be unreachable without an error.
        match timeout(self.access.timeout.max(self.limits.critical), operator.emit(&event, ())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Lost::Down(error.to_string())),
            Err(_) => return Err(Lost::Down(STALLED.into())),
        }
        let arrival = async {
            loop {
                match socket.next().await {
                    Ok(Incoming::Event { name, .. }) if name == event => return Ok(start.elapsed()),
                    Ok(_) => {}
                    Err(trouble) => return Err(self.lost(&trouble)),
                }
            }
        };
        match deadline {
            Some(deadline) => match timeout_at(deadline, arrival).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Lost::NotDelivered),
            },
            None => arrival.await,
        }
    }

    fn lost(&self, trouble: &Trouble) -> Lost {
        let reason = client::failure(self.target, self.nsp, trouble).to_string();
        match trouble {
            Trouble::Refused(_) | Trouble::Unsendable(_) => Lost::Refused(reason),
            Trouble::Transient(_) | Trouble::Disconnected | Trouble::Protocol(_) => Lost::Down(reason),
        }
    }
}
