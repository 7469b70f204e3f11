//! The listener: the session that only listens, with its reconnects.
//!
//! One task owns the connection. In: statements. Out: notifications and the state of the connection, in order. A connection
//! that stalls is kept until a replacement listens to the same channels. If it resumes before, nothing was lost, and the
//! replacement is dropped. So each notification is delivered once.

mod connection;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_postgres::AsyncMessage;
use tokio_util::task::AbortOnDropHandle;

use super::doubling_timeout::DoublingTimeout;
use super::lossy_queue::{Reader, Writer, lossy_queue};
use super::same_server::{SameServer, SessionPlace};
use super::{Presence, Settings};
use crate::cluster::state::ListenSnapshot;
use crate::protocol::{Channel, LockSnapshot};
use crate::{Error, Result};
pub(crate) use connection::ListeningConnection;
use connection::{Answer, SET_UP_TIMEOUT, next_message};

/// The delay of the first ping after the first connection, so that neither LISTEN nor the first answers wait for it.
const FIRST_PING: Duration = Duration::from_millis(200);

/// The same after a reconnect: shorter, since the new session holds no lock yet.
const NEXT_PING: Duration = Duration::from_millis(20);

/// The timeout of a response. A ping is sent at least every two seconds, so a dead connection is detected within five.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2800);

/// The longest timeout of the first LISTEN of a session. Postgres reads its notification queue for it, which has gigabytes if
/// another session that listens is stuck in a transaction.
const LONGEST_FIRST_LISTEN: Duration = Duration::from_secs(60);

/// How long a stalled connection is read once more when its replacement is ready.
const DRAIN: Duration = Duration::from_millis(50);

/// The first and the longest back-off between attempts to reconnect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(350));

/// The maximum number of messages that are handled in one batch.
const MAX_BATCH: usize = 256;

/// The bound of the receive queue, in bytes.
const QUEUE_BYTES: usize = 256 << 20;

/// An event of the listener.
#[derive(Debug)]
pub(crate) enum ListenerEvent {
    /// A notification.
    Notification {
        /// The channel's name.
        channel: Arc<str>,
        /// The text.
        payload: String,
        /// The process id of the Postgres session that sent it.
        backend: i32,
    },
    /// A connection is open, and listens to these channels. Statements name its number.
    Connected { connection: u64, channels: Vec<Channel>, snapshot: Option<Arc<ListenSnapshot>> },
    /// The connection does not answer. It is kept, since it may resume.
    Stalled,
    /// It answers again, and no message is lost.
    Resumed,
    /// The connection is lost, with the statements in progress. Notifications are missed until the reconnect.
    Lost(Error),
    /// A statement has ended on that connection, with the snapshot of its LISTEN.
    Executed { connection: u64, outcome: Result<Option<Arc<ListenSnapshot>>> },
    /// The lock snapshot of a ping.
    Locks(LockSnapshot),
}

/// LISTEN and UNLISTEN for one connection.
#[derive(Debug)]
pub(crate) struct Command {
    /// The number of its connection. On any other connection the command is ignored.
    pub(crate) connection: u64,
    pub(crate) listen: Vec<Channel>,
    pub(crate) unlisten: Vec<Channel>,
}

/// A session that listens, and is replaced when it is lost.
pub(crate) struct Listener {
    commands: mpsc::Sender<Command>,
    _task: AbortOnDropHandle<()>,
}

impl Listener {
    /// Connects and listens to these channels. An error here is final.
    #[cfg(feature = "cli")]
    pub(crate) async fn connect(
        settings: Settings,
        same_server: SameServer,
        channels: Vec<Channel>,
        presence: Presence,
    ) -> Result<(Self, Reader<ListenerEvent>)> {
        let live = ListeningConnection::open(&settings, channels).await?;
        Ok(Self::start(live, &settings, same_server, presence))
    }

    /// Serves an open connection, and replaces it when it is lost.
    pub(crate) fn start(
        live: ListeningConnection,
        settings: &Settings,
        same_server: SameServer,
        presence: Presence,
    ) -> (Self, Reader<ListenerEvent>) {
        let (events, reader) = lossy_queue(QUEUE_BYTES);
        let (commands, receiver) = mpsc::channel(64);
        let owner = Owner {
            settings: settings.clone().for_replacement(),
            same_server,
            presence,
            commands: receiver,
            events,
            last_channel: Arc::default(),
            has_received: false,
            connection: 0,
            first_listen: DoublingTimeout::new(ANSWER_TIMEOUT, LONGEST_FIRST_LISTEN),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(owner.run(live)));
        (Self { commands, _task: task }, reader)
    }

    /// Queues a statement. Returns false if the queue is full; it never is while the caller sends one statement at a time.
    pub(crate) fn execute(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }
}

/// Why a connection ended.
enum End {
    /// The listener was dropped.
    Dropped,
    /// The connection is lost. A replacement may already be connecting.
    Lost(Error, Option<PendingReplacement>),
    /// It stalled, and a replacement is connected.
    Replaced(Box<ListeningConnection>),
}

/// A replacement that is connecting.
type PendingReplacement = BoxFuture<'static, Box<ListeningConnection>>;

/// The task that owns the connection.
struct Owner {
    settings: Settings,
    same_server: SameServer,
    presence: Presence,
    commands: mpsc::Receiver<Command>,
    events: Writer<ListenerEvent>,
    /// A cache of the last channel: the next notification is most likely on the same one.
    last_channel: Arc<str>,
    /// Whether any notification ever arrived. Behind a pooler in transaction mode none arrives, and a lock would stay with
    /// a session that the pooler gives to another client next.
    has_received: bool,
    /// The number of the connection in use.
    connection: u64,
    /// The timeout of the first LISTEN of a session.
    first_listen: DoublingTimeout,
}

/// A statement without an answer yet.
struct Running {
    answer: BoxFuture<'static, Result<Answer>>,
    /// The command to report; `None` for a ping.
    command: Option<Command>,
}

impl Owner {
    async fn run(mut self, live: ListeningConnection) {
        let mut live = Box::new(live);
        // The stalled session that the current one has replaced.
        let mut stalled: Option<SessionPlace> = None;
        loop {
            self.connection += 1;
            self.same_server.listen_on(&live.place.server);
            let generation = self.same_server.agreed().generation;
            let channels = live.channels.iter().cloned().collect();
            let snapshot = live.snapshot.take();
            let connected = ListenerEvent::Connected { connection: self.connection, channels, snapshot };
            if !self.events.push_always(connected) {
                return;
            }
            for message in std::mem::take(&mut live.early_messages) {
                if self.handle_message(message).is_err() {
                    return;
                }
            }
            let end = self.serve(&mut live, stalled.take(), generation).await;
            let (error, replacement, ready) = match end {
                End::Dropped => return,
                End::Lost(error, replacement) => (error, replacement, None),
                End::Replaced(next) => {
                    let why = "the server stopped answering".into();
                    (Error::ConnectionLost(why), None, Some(next))
                }
            };
            let since = Instant::now();
            match live.channels.is_empty() {
                // There are no subscriptions that could miss messages.
                true => tracing::debug!(%error, "lost the listening connection; reconnecting"),
                false => tracing::warn!(%error, "lost the listening connection; reconnecting"),
            }
            self.same_server.set_listening(false);
            if !self.events.push_always(ListenerEvent::Lost(error)) {
                return;
            }
            live = match ready {
                Some(next) => {
                    stalled = Some(live.place.clone()).filter(|old| old.server == next.place.server);
                    next
                }
                None => {
                    let replacement = replacement.unwrap_or_else(|| self.replace(&live));
                    match self.wait_for(replacement).await {
                        Some(next) => next,
                        None => return,
                    }
                }
            };
            tracing::info!(after = ?since.elapsed(), "reconnected and listening");
        }
    }

    /// Runs until the connection is lost or replaced, or the last handle is dropped.
    async fn serve(
        &mut self,
        live: &mut ListeningConnection,
        stalled: Option<SessionPlace>,
        generation: u64,
    ) -> End {
        let end = |old: SessionPlace| Running { answer: live.end(&old), command: None };
        let mut running: Option<Running> = stalled.map(end);
        let mut replacement: Option<PendingReplacement> = None;
        // The deadline of the response to the running statement.
        let mut answer_due = Instant::now() + ANSWER_TIMEOUT;
        let mut ping_at = Instant::now() + if self.has_received { NEXT_PING } else { FIRST_PING };
        let same_server = self.same_server.clone();
        let mut replaced = std::pin::pin!(same_server.replaced_from(generation));
        loop {
            let is_idle = running.is_none();
            tokio::select! {
                message = next_message(&mut live.connection) => {
                    if let Err(error) = message.and_then(|first| self.handle_batch(first, live)) {
                        return if matches!(error, Error::Closed) { End::Dropped } else { End::Lost(error, replacement) };
                    }
                    // Any message proves liveness. In a flood, the answer is queued behind other messages.
                    answer_due = answer_due.max(Instant::now() + ANSWER_TIMEOUT);
                    self.on_resumed(&mut replacement);
                    if is_idle && self.has_received && self.presence.is_shown() && !live.holds_lock() {
                        // Other servers should see the lock as early as the first messages of this process.
                        ping_at = Instant::now().min(ping_at);
                    }
                }
                outcome = answer_of(&mut running) => {
                    let command = running.take().and_then(|running| running.command);
                    if let Err(error) = &outcome && error.is_disconnected() {
                        return End::Lost(error.clone(), replacement);
                    }
                    self.on_resumed(&mut replacement);
                    match command {
                        Some(command) => {
                            if outcome.is_ok() {
                                live.record_command(&command);
                                self.first_listen.on_success();
                            }
                            let (connection, outcome) = (self.connection, outcome.map(Answer::into_snapshot));
                            self.events.push_always(ListenerEvent::Executed { connection, outcome });
                        }
                        None => self.handle_ping(outcome, live),
                    }
                }
                command = self.commands.recv(), if is_idle => match command {
                    None => return End::Dropped,
                    Some(command) if command.connection != self.connection => {}
                    Some(command) => {
                        let limit = match live.starts_to_listen(&command) {
                            true => self.first_listen.current(),
                            false => ANSWER_TIMEOUT,
                        };
                        running = Some(Running { answer: live.execute(&command, &self.presence), command: Some(command) });
                        answer_due = Instant::now() + limit;
                    }
                },
                () = sleep_until(ping_at.into()), if is_idle && replacement.is_none() => {
                    running = Some(Running { answer: live.ping(&self.presence, self.has_received), command: None });
                    answer_due = Instant::now() + ANSWER_TIMEOUT;
                    ping_at = Instant::now() + self.presence.interval();
                }
                () = sleep_until(answer_due.into()), if !is_idle && replacement.is_none() => {
                    tracing::warn!("Postgres does not answer on the listening connection; opening another one");
                    if running.as_ref().and_then(|running| running.command.as_ref()).is_some_and(|one| live.starts_to_listen(one)) {
                        self.first_listen.on_timeout(self.first_listen.current());
                    }
                    self.same_server.set_listening(false);
                    self.events.push_always(ListenerEvent::Stalled);
                    replacement = Some(self.replace(live));
                }
                next = connected(&mut replacement) => {
                    // Messages may have arrived while the replacement connected.
                    match timeout(DRAIN, next_message(&mut live.connection)).await {
                        Ok(Ok(first)) => {
                            if let Err(error) = self.handle_batch(first, live) {
                                return if matches!(error, Error::Closed) { End::Dropped } else { End::Lost(error, None) };
                            }
                            answer_due = Instant::now() + ANSWER_TIMEOUT;
                            self.on_resumed(&mut replacement);
                        }
                        Ok(Err(_)) | Err(_) => return End::Replaced(next),
                    }
                }
                () = &mut replaced => {
                    let why = "another session reached another server, or received no notifications from it";
                    return End::Lost(Error::ConnectionLost(why.into()), None);
                }
            }
        }
    }

    /// Reports the lock snapshot of a ping.
    fn handle_ping(&mut self, outcome: Result<Answer>, live: &mut ListeningConnection) {
        let snapshot = match outcome {
            Ok(Answer::Locks { snapshot, held }) => {
                live.record_lock(held);
                snapshot
            }
            // An old session was ended.
            Ok(Answer::Done(_)) => return,
            Err(error) => {
                tracing::debug!(%error, "cannot read pg_locks, so heartbeats decide liveness");
                LockSnapshot { locks: None, holds_lock: false }
            }
        };
        self.events.push_always(ListenerEvent::Locks(snapshot));
    }

    /// A stalled connection has answered again.
    fn on_resumed(&mut self, replacement: &mut Option<PendingReplacement>) {
        if replacement.take().is_some() {
            tracing::info!("Postgres answers again on the listening connection");
            self.same_server.set_listening(true);
            self.events.push_always(ListenerEvent::Resumed);
        }
    }

    /// Connects a replacement that listens to the same channels. Retries until it succeeds, with back-off and jitter.
    fn replace(&self, live: &ListeningConnection) -> PendingReplacement {
        let (settings, channels) = (self.settings.clone(), live.channels.iter().cloned().collect::<Vec<_>>());
        async move {
            let (mut pause, longest) = BACKOFF;
            let mut first_listen = DoublingTimeout::new(SET_UP_TIMEOUT, LONGEST_FIRST_LISTEN);
            let mut last_error = None;
            loop {
                // Jitter: all nodes of the cluster have lost the same server at once.
                sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = longest.min(pause * 2);
                let (start, limit) = (Instant::now(), first_listen.current());
                match ListeningConnection::open_within(limit, &settings, channels.clone()).await {
                    Ok(next) => return Box::new(next),
                    Err(error) => {
                        if start.elapsed() >= limit {
                            first_listen.on_timeout(limit);
                        }
                        let text = error.to_string();
                        match last_error.as_ref() == Some(&text) {
                            true => tracing::debug!(%error, "no listening connection yet"),
                            false => tracing::warn!(%error, "no listening connection yet"),
                        }
                        last_error = Some(text);
                    }
                }
            }
        }
        .boxed()
    }

    /// Waits for the replacement, and ignores commands for the lost connection. `None` after the listener is dropped.
    async fn wait_for(&mut self, mut replacement: PendingReplacement) -> Option<Box<ListeningConnection>> {
        loop {
            tokio::select! {
                next = &mut replacement => return Some(next),
                command = self.commands.recv() => drop(command?),
            }
        }
    }

    /// Handles a message and all further messages that are ready, then flushes the queue once.
    fn handle_batch(&mut self, first: AsyncMessage, live: &mut ListeningConnection) -> Result<()> {
        self.handle_message(first)?;
        for _ in 1..MAX_BATCH {
            let Some(message) = next_message(&mut live.connection).now_or_never() else { break };
            self.handle_message(message?)?;
        }
        match self.events.flush() {
            true => Ok(()),
            false => Err(Error::Closed),
        }
    }

    fn handle_message(&mut self, message: AsyncMessage) -> Result<()> {
        match message {
            AsyncMessage::Notification(notification) => {
                self.has_received = true;
                if *self.last_channel != *notification.channel() {
                    self.last_channel = notification.channel().into();
                }
                let (channel, payload) = (self.last_channel.clone(), notification.payload().to_owned());
                let backend = notification.process_id();
                let bytes = payload.len();
                match self.events.push(ListenerEvent::Notification { channel, payload, backend }, bytes) {
                    true => Ok(()),
                    false => Err(Error::Closed),
                }
            }
            AsyncMessage::Notice(notice) => {
                tracing::debug!(message = notice.message(), "notice from Postgres");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The response to the running statement. Pending forever without one.
async fn answer_of(running: &mut Option<Running>) -> Result<Answer> {
    match running {
        Some(running) => (&mut running.answer).await,
        None => std::future::pending().await,
    }
}

/// The replacement, when it is connected. Pending forever without one.
async fn connected(replacement: &mut Option<PendingReplacement>) -> Box<ListeningConnection> {
    match replacement {
        Some(replacement) => replacement.await,
        None => std::future::pending().await,
    }
}
