//! The listener: the session that only listens, with its reconnects.
//!
//! One task owns the connection. Statements go in; notifications and the state of the connection come out, in their order.
//! A connection that stops answering is kept until another one listens to the same channels: if it wakes up before,
//! nothing was lost and the other one is dropped. So each notification is handed on once.

mod connection;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_postgres::AsyncMessage;
use tokio_util::task::AbortOnDropHandle;

use super::lossy_queue::{Reader, Writer, lossy_queue};
use super::same_server::{SameServer, SessionPlace};
use super::{Presence, Settings};
use crate::protocol::{Channel, LockSnapshot};
use crate::{Error, Result};
use connection::{Answer, ListeningConnection, next_message};

/// How long after the first connection the first ping comes, so that neither LISTEN nor the first answers wait for it.
const FIRST_PING: Duration = Duration::from_millis(200);

/// The same after a later one, whose lock the others miss.
const NEXT_PING: Duration = Duration::from_millis(20);

/// How long the server may take to answer. As a ping comes every two seconds at least, a dead connection is noticed
/// within five.
const ANSWER_WITHIN: Duration = Duration::from_millis(2800);

/// How long a silent connection is read once more when another one could take its place.
const DRAIN: Duration = Duration::from_millis(50);

/// The first and the longest pause between attempts to connect again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(350));

/// How many messages are taken before anything else is looked at.
const AT_ONCE: usize = 256;

/// How many bytes of notifications may wait to be worked on.
const QUEUE_BYTES: usize = 256 << 20;

/// What the listener has to say.
#[derive(Debug)]
pub(crate) enum ListenerEvent {
    /// A notification.
    Notification {
        /// The channel's name.
        channel: Arc<str>,
        /// The text.
        payload: String,
        /// The process of Postgres whose session sent it.
        backend: i32,
    },
    /// There is a connection, which listens to these channels. Statements name its number.
    Connected { connection: u64, channels: Vec<Channel> },
    /// The connection does not answer. It is kept, as it may wake up.
    Stalled,
    /// It answers again, and nothing is lost.
    Resumed,
    /// The connection is lost, with the statements in progress. Notifications are missed until the reconnect.
    Lost(Error),
    /// A statement has ended on that connection.
    Executed { connection: u64, outcome: Result<()> },
    /// Which processes live, as a ping has shown.
    Locks(LockSnapshot),
}

/// LISTEN and UNLISTEN for one connection.
#[derive(Debug)]
pub(crate) struct Command {
    /// The number of the connection that it is meant for. On any other it is void.
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
    /// Connects and listens to these channels; an error here is final, while later losses are repaired.
    pub(crate) async fn connect(
        settings: Settings,
        same_server: SameServer,
        channels: Vec<Channel>,
        presence: Presence,
    ) -> Result<(Self, Reader<ListenerEvent>)> {
        let live = ListeningConnection::open(&settings, channels).await?;
        let (heard, reader) = lossy_queue(QUEUE_BYTES);
        let (commands, receiver) = mpsc::channel(64);
        let owner = Owner {
            settings: settings.for_replacement(),
            same_server,
            presence,
            commands: receiver,
            heard,
            last_channel: Arc::default(),
            has_received: false,
            connection: 0,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(owner.run(live)));
        Ok((Self { commands, _task: task }, reader))
    }

    /// Hands a statement over. The caller sends one at a time, so that there is room; false where there is none.
    pub(crate) fn execute(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }
}

/// Why the work on a connection ended.
enum End {
    /// The listener was dropped.
    Dropped,
    /// The connection is lost; another one may be in the making.
    Lost(Error, Option<Replacing>),
    /// It was silent, and another one has taken its place.
    Replaced(Box<ListeningConnection>),
}

/// Another connection that is being made.
type Replacing = BoxFuture<'static, Box<ListeningConnection>>;

/// The task that owns the connection.
struct Owner {
    settings: Settings,
    same_server: SameServer,
    presence: Presence,
    commands: mpsc::Receiver<Command>,
    heard: Writer<ListenerEvent>,
    /// That of the last notification, as the next one is most likely on the same.
    last_channel: Arc<str>,
    /// Whether any notification ever came. Where none does, as behind a pooler that deals sessions out by the transaction, a
    /// lock would stay with a session that is another client's next.
    has_received: bool,
    /// The number of the connection in use.
    connection: u64,
}

/// A statement without an answer yet.
struct Running {
    answer: BoxFuture<'static, Result<Answer>>,
    /// What to report of it; nothing for a ping.
    command: Option<Command>,
}

impl Owner {
    async fn run(mut self, live: ListeningConnection) {
        let mut live = Box::new(live);
        // The session that the one in use has taken the place of, while it was silent.
        let mut silent: Option<SessionPlace> = None;
        loop {
            self.connection += 1;
            self.same_server.listen_on(&live.place.server);
            let generation = self.same_server.agreed().generation;
            let channels = live.channels.iter().cloned().collect();
            if !self.heard.push_always(ListenerEvent::Connected { connection: self.connection, channels }) {
                return;
            }
            for message in std::mem::take(&mut live.early) {
                if self.hear(message).is_err() {
                    return;
                }
            }
            let end = self.serve(&mut live, silent.take(), generation).await;
            let (error, replacing, ready) = match end {
                End::Dropped => return,
                End::Lost(error, replacing) => (error, replacing, None),
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
            if !self.heard.push_always(ListenerEvent::Lost(error)) {
                return;
            }
            live = match ready {
                Some(next) => {
                    silent = Some(live.place.clone()).filter(|old| old.server == next.place.server);
                    next
                }
                None => {
                    let replacing = replacing.unwrap_or_else(|| self.replace(&live));
                    match self.wait_for(replacing).await {
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
        silent: Option<SessionPlace>,
        generation: u64,
    ) -> End {
        let end = |old: SessionPlace| Running { answer: live.end(&old), command: None };
        let mut running: Option<Running> = silent.map(end);
        let mut replacing: Option<Replacing> = None;
        // When the statement in progress should have been answered.
        let mut due = Instant::now() + ANSWER_WITHIN;
        let mut ping_at = Instant::now() + if self.has_received { NEXT_PING } else { FIRST_PING };
        let same_server = self.same_server.clone();
        let mut replaced = std::pin::pin!(same_server.replaced_from(generation));
        loop {
            let is_idle = running.is_none();
            tokio::select! {
                message = next_message(&mut live.connection) => {
                    if let Err(error) = message.and_then(|first| self.hear_all(first, live)) {
                        return if matches!(error, Error::Closed) { End::Dropped } else { End::Lost(error, replacing) };
                    }
                    // Any message proves liveness. In a flood, the answer is queued behind other messages.
                    due = Instant::now() + ANSWER_WITHIN;
                    self.wake(&mut replacing);
                    if is_idle && self.has_received && self.presence.is_shown() && !live.holds() {
                        // The others are to see it as soon as they hear of it.
                        ping_at = Instant::now().min(ping_at);
                    }
                }
                outcome = answer_of(&mut running) => {
                    let command = running.take().and_then(|running| running.command);
                    if let Err(error) = &outcome && error.is_disconnected() {
                        return End::Lost(error.clone(), replacing);
                    }
                    self.wake(&mut replacing);
                    match command {
                        Some(command) => {
                            if outcome.is_ok() {
                                live.note(&command);
                            }
                            let (connection, outcome) = (self.connection, outcome.map(drop));
                            self.heard.push_always(ListenerEvent::Executed { connection, outcome });
                        }
                        None => self.take_ping(outcome, live),
                    }
                }
                command = self.commands.recv(), if is_idle => match command {
                    None => return End::Dropped,
                    Some(command) if command.connection != self.connection => {}
                    Some(command) => {
                        running = Some(Running { answer: live.execute(&command), command: Some(command) });
                        due = Instant::now() + ANSWER_WITHIN;
                    }
                },
                () = sleep_until(ping_at.into()), if is_idle && replacing.is_none() => {
                    running = Some(Running { answer: live.ping(&self.presence, self.has_received), command: None });
                    due = Instant::now() + ANSWER_WITHIN;
                    ping_at = Instant::now() + self.presence.interval();
                }
                () = sleep_until(due.into()), if !is_idle && replacing.is_none() => {
                    tracing::warn!("Postgres does not answer on the listening connection; opening another one");
                    self.same_server.set_listening(false);
                    self.heard.push_always(ListenerEvent::Stalled);
                    replacing = Some(self.replace(live));
                }
                next = made(&mut replacing) => {
                    // Something may have come while the other one was made.
                    match timeout(DRAIN, next_message(&mut live.connection)).await {
                        Ok(Ok(first)) => {
                            if let Err(error) = self.hear_all(first, live) {
                                return if matches!(error, Error::Closed) { End::Dropped } else { End::Lost(error, None) };
                            }
                            due = Instant::now() + ANSWER_WITHIN;
                            self.wake(&mut replacing);
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

    /// Hands on what a ping has shown.
    fn take_ping(&mut self, outcome: Result<Answer>, live: &mut ListeningConnection) {
        let look = match outcome {
            Ok(Answer::Locks { look, held }) => {
                live.note_held(held);
                look
            }
            // An old session was ended.
            Ok(Answer::Done) => return,
            Err(error) => {
                tracing::debug!(%error, "cannot read pg_locks, so heartbeats decide liveness");
                LockSnapshot { locks: None, holds_lock: false }
            }
        };
        self.heard.push_always(ListenerEvent::Locks(look));
    }

    /// A stalled connection has answered again.
    fn wake(&mut self, replacing: &mut Option<Replacing>) {
        if replacing.take().is_some() {
            tracing::info!("Postgres answers again on the listening connection");
            self.same_server.set_listening(true);
            self.heard.push_always(ListenerEvent::Resumed);
        }
    }

    /// Makes another connection that listens to the same channels; tries until it succeeds.
    fn replace(&self, live: &ListeningConnection) -> Replacing {
        let (settings, channels) = (self.settings.clone(), live.channels.iter().cloned().collect::<Vec<_>>());
        async move {
            let (mut pause, longest) = BACKOFF;
            let mut said = None;
            loop {
                // Spreads the nodes of a cluster, which have all lost the same server.
                sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = longest.min(pause * 2);
                match ListeningConnection::open(&settings, channels.clone()).await {
                    Ok(next) => return Box::new(next),
                    Err(error) => {
                        let text = error.to_string();
                        match said.as_ref() == Some(&text) {
                            true => tracing::debug!(%error, "no listening connection yet"),
                            false => tracing::warn!(%error, "no listening connection yet"),
                        }
                        said = Some(text);
                    }
                }
            }
        }
        .boxed()
    }

    /// Waits for the other connection; commands for the lost one are void. `None` when the listener was dropped.
    async fn wait_for(&mut self, mut replacing: Replacing) -> Option<Box<ListeningConnection>> {
        loop {
            tokio::select! {
                next = &mut replacing => return Some(next),
                command = self.commands.recv() => drop(command?),
            }
        }
    }

    /// Takes a message and those that are there with it, and hands them on together.
    fn hear_all(&mut self, first: AsyncMessage, live: &mut ListeningConnection) -> Result<()> {
        self.hear(first)?;
        for _ in 1..AT_ONCE {
            let Some(message) = next_message(&mut live.connection).now_or_never() else { break };
            self.hear(message?)?;
        }
        match self.heard.flush() {
            true => Ok(()),
            false => Err(Error::Closed),
        }
    }

    fn hear(&mut self, message: AsyncMessage) -> Result<()> {
        match message {
            AsyncMessage::Notification(notification) => {
                self.has_received = true;
                if *self.last_channel != *notification.channel() {
                    self.last_channel = notification.channel().into();
                }
                let (channel, payload) = (self.last_channel.clone(), notification.payload().to_owned());
                let backend = notification.process_id();
                let bytes = payload.len();
                match self.heard.push(ListenerEvent::Notification { channel, payload, backend }, bytes) {
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

/// The answer to the statement in progress; never, if there is none.
async fn answer_of(running: &mut Option<Running>) -> Result<Answer> {
    match running {
        Some(running) => (&mut running.answer).await,
        None => std::future::pending().await,
    }
}

/// The other connection, once it is made; never, if none is.
async fn made(replacing: &mut Option<Replacing>) -> Box<ListeningConnection> {
    match replacing {
        Some(replacing) => replacing.await,
        None => std::future::pending().await,
    }
}
