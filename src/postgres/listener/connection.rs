//! A listening connection: opened with its channels, and read message by message.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};

use super::Command;
use crate::cluster::state::ListenSnapshot;
use crate::postgres::connect::PgConnection;
use crate::postgres::same_server::SessionPlace;
use crate::postgres::table::quote_identifier;
use crate::postgres::{Presence, Settings, failure, no_answer};
use crate::protocol::{Channel, LivenessLock, LockSnapshot};
use crate::{Error, Result};

/// The timeout for the confirmation of the channels of a new connection.
pub(super) const SET_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// The answer to a statement.
pub(super) enum Answer {
    /// It is done, with the snapshot of its LISTEN.
    Done(Option<Arc<ListenSnapshot>>),
    /// It was a ping. The session holds that lock now.
    Locks { snapshot: LockSnapshot, held: Option<LivenessLock> },
}

impl Answer {
    pub(super) fn into_snapshot(self) -> Option<Arc<ListenSnapshot>> {
        match self {
            Self::Done(snapshot) => snapshot,
            Self::Locks { .. } => None,
        }
    }
}

/// The query for a [`ListenSnapshot`]: one row of three texts. Postgres 12 has no `pg_current_snapshot`.
const SNAPSHOT: &str = "SELECT (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::int8, \
     (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8, pg_catalog.txid_current_snapshot()";

/// A connection, and the channels that it listens to.
pub(crate) struct ListeningConnection {
    client: Arc<Client>,
    pub(super) connection: PgConnection,
    pub(super) channels: BTreeSet<Channel>,
    pub(super) place: SessionPlace,
    /// The snapshot of its first LISTEN.
    pub(super) snapshot: Option<Arc<ListenSnapshot>>,
    /// Messages that arrived between the server's commit and its response.
    pub(super) early_messages: Vec<AsyncMessage>,
    /// The advisory lock that shows other servers that this process is alive.
    held: Option<LivenessLock>,
}

impl ListeningConnection {
    /// Connects and listens.
    pub(crate) async fn open(settings: &Settings, channels: Vec<Channel>) -> Result<Self> {
        Self::open_within(SET_UP_TIMEOUT, settings, channels).await
    }

    /// The same, with a timeout for the confirmation of the channels.
    pub(super) async fn open_within(
        limit: Duration,
        settings: &Settings,
        channels: Vec<Channel>,
    ) -> Result<Self> {
        let (client, mut connection) = settings.connect_to_listen().await?;
        let mut sql = String::new();
        for channel in &channels {
            sql += &listen(channel);
            sql.push(';');
        }
        sql += SessionPlace::SQL;
        if !channels.is_empty() {
            sql += ";";
            sql += SNAPSHOT;
        }
        let mut early_messages = Vec::new();
        let set_up = async {
            let mut answer = pin!(client.simple_query(&sql));
            loop {
                tokio::select! {
                    rows = &mut answer => return rows.map_err(|error| failure(&error)),
                    message = next_message(&mut connection) => early_messages.push(message?),
                }
            }
        };
        let rows = timeout(limit, set_up).await.map_err(|_| no_answer(limit))??;
        let mut rows = rows_of_texts(&rows);
        let place = SessionPlace::of_texts(rows.next().unwrap_or_default())?;
        let snapshot = rows.next().and_then(ListenSnapshot::of_texts).map(Arc::new);
        let channels = channels.into_iter().collect();
        Ok(Self { client: client.into(), connection, channels, place, snapshot, early_messages, held: None })
    }

    /// Whether this command is the first LISTEN of the session, which may take long.
    pub(super) fn starts_to_listen(&self, command: &Command) -> bool {
        self.channels.is_empty() && !command.listen.is_empty()
    }

    /// Executes a command. The response arrives while the connection is read.
    pub(super) fn execute(
        &self,
        command: &Command,
        presence: &Presence,
    ) -> BoxFuture<'static, Result<Answer>> {
        // Operators see this text in pg_stat_activity, so it begins with a LISTEN of a channel that is not internal.
        let is_kept = |channel: &&Channel| !command.unlisten.contains(channel);
        let remaining = self.channels.iter().rev().filter(is_kept).find(|channel| !channel.is_internal());
        let repeated = if command.listen.iter().all(Channel::is_internal) { remaining } else { None };
        let mut sql = String::new();
        let (internal, others): (Vec<_>, Vec<_>) = command.listen.iter().partition(|one| one.is_internal());
        for channel in others.into_iter().chain(repeated).chain(internal) {
            let marker = if sql.is_empty() { presence.marker() } else { "" };
            sql += &format!("{};{marker}", listen(channel));
        }
        for channel in &command.unlisten {
            sql += &format!("UNLISTEN {};", quote_identifier(channel.as_str()));
        }
        if !command.listen.is_empty() {
            sql += SNAPSHOT;
        }
        self.run(sql)
    }

    /// Reads the liveness locks, and renews the lock of this process. The statement begins with a redundant LISTEN, for
    /// operators who read `pg_stat_activity`.
    pub(super) fn ping(&self, presence: &Presence, may_hold: bool) -> BoxFuture<'static, Result<Answer>> {
        let ping = presence.ping(self.held, may_hold);
        let channel = self.channels.iter().rev().find(|channel| !channel.is_internal());
        let listen = channel.or(self.channels.last()).map(|one| listen(one) + ";").unwrap_or_default();
        let sql = listen + &ping.sql;
        let client = self.client.clone();
        async move {
            let answer = client.simple_query(&sql).await.map_err(|error| failure(&error))?;
            let (snapshot, held) = ping.read(&answer);
            Ok(Answer::Locks { snapshot, held })
        }
        .boxed()
    }

    /// Records the lock that the session holds since a ping.
    pub(super) fn record_lock(&mut self, held: Option<LivenessLock>) {
        self.held = held;
    }

    /// Whether it holds a lock.
    pub(super) fn holds_lock(&self) -> bool {
        self.held.is_some()
    }

    /// Ends the session that this one has replaced.
    pub(super) fn end(&self, old: &SessionPlace) -> BoxFuture<'static, Result<Answer>> {
        self.run(old.termination())
    }

    fn run(&self, sql: String) -> BoxFuture<'static, Result<Answer>> {
        let client = self.client.clone();
        async move {
            let answer = client.simple_query(&sql).await.map_err(|error| failure(&error))?;
            let mut rows = rows_of_texts(&answer);
            Ok(Answer::Done(rows.next().and_then(ListenSnapshot::of_texts).map(Arc::new)))
        }
        .boxed()
    }

    /// Records an executed command.
    pub(super) fn record_command(&mut self, command: &Command) {
        for channel in &command.unlisten {
            self.channels.remove(channel);
        }
        self.channels.extend(command.listen.iter().cloned());
    }
}

/// The rows of three texts in an answer.
fn rows_of_texts(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = [Option<&str>; 3]> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some([0, 1, 2].map(|column| row.try_get(column).ok().flatten())),
        _ => None,
    })
}

fn listen(channel: &Channel) -> String {
    format!("LISTEN {}", quote_identifier(channel.as_str()))
}

/// The next message of a connection. Polling it also drives the responses to statements.
pub(super) async fn next_message(connection: &mut PgConnection) -> Result<AsyncMessage> {
    match poll_fn(|context| connection.poll_message(context)).await {
        Some(message) => message.map_err(|error| failure(&error)),
        None => Err(Error::ConnectionLost("the server closed it".into())),
    }
}
