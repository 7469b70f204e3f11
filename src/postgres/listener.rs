//! The one connection that listens, and does nothing else.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::task::AbortOnDropHandle;

use super::backlog::{Reader, Writer, backlog};
use super::connect::PgConnection;
use super::table::quote_identifier;
use super::{Settings, failure};
use crate::protocol::Channel;
use crate::{Error, Result};

/// How often the connection is tried, in case the peer vanished without a word, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The first and the longest pause between attempts to connect again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How many messages are taken before anything else is looked at.
const AT_ONCE: usize = 256;

/// How many bytes of notifications may wait to be worked on.
const BACKLOG_BYTES: usize = 256 << 20;

/// What the listener has to say.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A notification.
    Notification {
        /// The channel's name.
        channel: Arc<str>,
        /// The text.
        payload: String,
    },
    /// The connection is gone, and what is sent meanwhile is missed.
    Lost(Error),
    /// It is back after so long, and listens on every channel again.
    Restored(Duration),
}

/// A connection that listens, and comes back when it is lost.
pub(crate) struct Listener {
    commands: mpsc::Sender<Command>,
    _task: AbortOnDropHandle<()>,
}

enum Command {
    Listen(Channel, oneshot::Sender<Result<()>>),
    Unlisten(Channel),
}

impl Listener {
    /// Connects; an error here is final, while later losses are repaired.
    pub(crate) async fn connect(settings: Settings) -> Result<(Self, Reader<Heard>)> {
        let live = Live::connect(&settings).await?;
        let (writer, reader) = backlog(BACKLOG_BYTES);
        let (commands, receiver) = mpsc::channel(64);
        let owner = Owner {
            settings,
            channels: BTreeSet::new(),
            commands: receiver,
            heard: writer,
            last_channel: Arc::default(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(owner.run(live)));
        Ok((Self { commands, _task: task }, reader))
    }

    /// Listens on a channel; resolves when the server has confirmed it, so that nothing sent later is missed.
    pub(crate) async fn listen(&self, channel: Channel) -> Result<()> {
        let (done, confirmed) = oneshot::channel();
        self.commands.send(Command::Listen(channel, done)).await.map_err(|_| Error::Closed)?;
        confirmed.await.unwrap_or(Err(Error::Closed))
    }

    /// Stops listening on a channel, without waiting for it.
    pub(crate) fn unlisten(&self, channel: Channel) {
        if self.commands.try_send(Command::Unlisten(channel)).is_err() {
            // It costs some notifications that nobody reads, until the next connection.
            tracing::debug!("the listener is too busy to stop listening on a channel");
        }
    }
}

/// Nobody wants to hear any more.
struct Finished;

/// The task that owns the connection.
struct Owner {
    settings: Settings,
    channels: BTreeSet<Channel>,
    commands: mpsc::Receiver<Command>,
    heard: Writer<Heard>,
    /// That of the last notification, as the next one is most likely on the same.
    last_channel: Arc<str>,
}

/// A connection in use.
struct Live {
    client: Client,
    connection: PgConnection,
}

impl Live {
    async fn connect(settings: &Settings) -> Result<Self> {
        let (client, connection) = settings.connect_to_listen().await?;
        Ok(Self { client, connection })
    }
}

impl Owner {
    async fn run(mut self, mut live: Live) {
        loop {
            let error = match self.serve(live).await {
                Ok(Finished) => return,
                Err(error) => error,
            };
            match self.channels.is_empty() {
                // Nobody misses anything.
                true => tracing::debug!(%error, "the listening connection broke"),
                false => tracing::warn!(%error, "listening is interrupted"),
            }
            let since = Instant::now();
            if !self.heard.push_always(Heard::Lost(error)) {
                return;
            }
            live = self.reconnect().await;
            let away = since.elapsed();
            tracing::info!(?away, "listening again");
            if !self.heard.push_always(Heard::Restored(away)) {
                return;
            }
        }
    }

    /// Works until the connection breaks (the error) or nobody is interested any more.
    async fn serve(&mut self, mut live: Live) -> Result<Finished> {
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        loop {
            tokio::select! {
                message = next_message(&mut live.connection) => self.hear_all(message?, &mut live.connection)?,
                command = self.commands.recv() => match command {
                    None => return Ok(Finished),
                    Some(Command::Unlisten(channel)) => {
                        self.channels.remove(&channel);
                        let sql = format!("UNLISTEN {}", quote_identifier(channel.as_str()));
                        self.execute(&mut live, &sql).await?;
                        // The last statement is what others see of this session.
                        let listen = self.ping();
                        self.execute(&mut live, &listen).await?;
                    }
                    Some(Command::Listen(channel, done)) => {
                        let sql = format!("LISTEN {}", quote_identifier(channel.as_str()));
                        let outcome = self.execute(&mut live, &sql).await;
                        if outcome.is_ok() {
                            self.channels.insert(channel);
                        }
                        let lost = matches!(outcome, Err(Error::ConnectionLost(_)));
                        // The caller may have given up waiting.
                        let _ = done.send(outcome.clone());
                        if lost {
                            outcome?;
                        }
                    }
                },
                _ = ping.tick() => {
                    let ping = self.ping();
                    self.execute(&mut live, &ping).await?;
                }
            }
        }
    }

    /// Says again what is so already, for those who look into `pg_stat_activity` what the connection is good for.
    fn ping(&self) -> String {
        let listen = |channel: &Channel| format!("LISTEN {}", quote_identifier(channel.as_str()));
        self.channels.last().map(listen).unwrap_or_default()
    }

    /// Takes a message and those that are there with it, and hands them on together.
    fn hear_all(&mut self, first: AsyncMessage, connection: &mut PgConnection) -> Result<()> {
        self.hear(first)?;
        for _ in 1..AT_ONCE {
            let Some(message) = next_message(connection).now_or_never() else { break };
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
                if *self.last_channel != *notification.channel() {
                    self.last_channel = notification.channel().into();
                }
                let (channel, payload) = (self.last_channel.clone(), notification.payload().to_owned());
                let bytes = payload.len();
                match self.heard.push(Heard::Notification { channel, payload }, bytes) {
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

    /// Runs a statement, and goes on listening while it is under way.
    async fn execute(&mut self, live: &mut Live, sql: &str) -> Result<()> {
        let Live { client, connection } = live;
        let mut statement = pin!(client.batch_execute(sql));
        let mut patience = pin!(sleep(PING_INTERVAL));
        loop {
            tokio::select! {
                outcome = &mut statement => return outcome.map_err(|e| failure(&e)),
                message = next_message(connection) => {
                    self.hear_all(message?, connection)?;
                    // In a flood of notifications the answer is somewhere behind them.
                    patience.as_mut().reset(tokio::time::Instant::now() + PING_INTERVAL);
                }
                () = &mut patience => {
                    return Err(Error::ConnectionLost(format!("no answer within {PING_INTERVAL:?}")));
                }
            }
        }
    }

    /// Tries until it succeeds, more and more slowly.
    async fn reconnect(&mut self) -> Live {
        let (mut pause, longest) = BACKOFF;
        loop {
            // Spreads the nodes of a cluster, which have all lost the same server.
            sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = longest.min(pause * 2);
            match self.try_reconnect().await {
                Ok(live) => return live,
                Err(error) => tracing::debug!(%error, "not yet"),
            }
        }
    }

    async fn try_reconnect(&mut self) -> Result<Live> {
        let mut live = Live::connect(&self.settings).await?;
        let statements: String = self
            .channels
            .iter()
            .map(|channel| format!("LISTEN {};", quote_identifier(channel.as_str())))
            .collect();
        self.execute(&mut live, &statements).await?;
        Ok(live)
    }
}

async fn next_message(connection: &mut PgConnection) -> Result<AsyncMessage> {
    match poll_fn(|context| connection.poll_message(context)).await {
        Some(message) => message.map_err(|e| failure(&e)),
        None => Err(Error::ConnectionLost("the server closed it".into())),
    }
}
