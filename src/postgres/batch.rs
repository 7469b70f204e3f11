//! A batch: messages that are published in one transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use futures_util::future::{self, BoxFuture, FutureExt};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error as PgError, SimpleQueryMessage};

use super::TableName;
use super::publisher::Job;
use crate::protocol::{Channel, Encoded, Header, MAX_INLINE_BYTES};

/// Beyond a thousand, a larger batch is no faster.
const MAX_MESSAGES: usize = 1000;

/// A batch ends with the message that reaches this size.
const MAX_BYTES: usize = 1 << 20;

/// Several notifications in one round trip. Messages live for seconds, so `synchronous_commit` is off: a crash of the
/// server may lose the last messages, and each commit saves a flush of the disk. The statement itself sets it, since a
/// connection pooler may give each transaction another session. The two arrays are unnested in the list of columns; in
/// FROM, the server would materialise all rows first.
const NOTIFY: &str = "SELECT count(*), set_config('synchronous_commit', 'off', true) \
     FROM (SELECT pg_notify(unnest($1::text[]), unnest($2::text[])) OFFSET 0) AS sent";

/// The same for one notification, which the server plans faster.
const NOTIFY_ONE: &str = "SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)";

/// The same in a transaction with a durable event. A crash of the server must not lose it after the commit, so the commit
/// is flushed.
const NOTIFY_FLUSHED: &str =
    "SELECT count(*) FROM (SELECT pg_notify(unnest($1::text[]), unnest($2::text[])) OFFSET 0) AS sent";

/// The messages of one transaction, in order.
#[derive(Default)]
pub(super) struct Batch {
    jobs: Vec<Job>,
    bytes: usize,
    has_attachment: bool,
    /// The repeats of each notification in the transaction, by its hash. A hash collision only costs white space.
    repeats: HashMap<u64, u32, RandomState>,
    hasher: RandomState,
    /// The hashes of the batch.
    hashes: Vec<u64>,
}

impl Batch {
    /// Adds a message, or returns it if it belongs to the next batch.
    ///
    /// Postgres delivers identical notifications of one transaction only once, so this appends insignificant white space to
    /// make them distinct.
    pub(super) fn add(&mut self, mut job: Job) -> Option<Job> {
        if self.room() == 0 {
            return Some(job);
        }
        if let Encoded::Inline(text) = &mut job.encoded {
            // A message that is sent again may have white space from its first batch.
            text.truncate(text.trim_end_matches([' ', '\t']).len());
            let hash = self.hasher.hash_one((&job.channel, &*text));
            match self.repeats.entry(hash) {
                Entry::Vacant(entry) => {
                    entry.insert(0);
                }
                Entry::Occupied(mut entry) => {
                    let padding = padding(*entry.get() + 1);
                    if text.len() + padding.len() >= MAX_INLINE_BYTES {
                        return Some(job);
                    }
                    text.push_str(&padding);
                    *entry.get_mut() += 1;
                }
            }
            self.hashes.push(hash);
        } else {
            self.has_attachment = true;
        }
        self.bytes += job.bytes();
        self.jobs.push(job);
        None
    }

    /// How many more messages it takes; 0 once it is full.
    pub(super) fn room(&self) -> usize {
        if self.bytes >= MAX_BYTES { 0 } else { MAX_MESSAGES - self.jobs.len() }
    }

    /// Forgets the notifications of earlier batches: an empty batch begins a new transaction.
    pub(super) fn begin(&mut self) {
        debug_assert!(self.is_empty());
        self.repeats.clear();
    }

    /// Takes the messages, in their order. They are all messages of their transaction.
    pub(super) fn take(&mut self) -> Vec<Job> {
        self.repeats.clear();
        self.take_next()
    }

    /// Takes the messages of a transaction to which later ones may be added.
    pub(super) fn take_first(&mut self) -> Vec<Job> {
        let before = std::mem::take(&mut self.repeats);
        // The number goes on, since an earlier transaction may have had the lower ones.
        let repeats = self.hashes.iter().filter_map(|hash| before.get_key_value(hash));
        self.repeats = repeats.map(|(hash, repeats)| (*hash, *repeats)).collect();
        self.take_next()
    }

    /// Takes the messages that are added to the transaction of the last batch.
    pub(super) fn take_next(&mut self) -> Vec<Job> {
        self.bytes = 0;
        self.has_attachment = false;
        self.hashes.clear();
        std::mem::take(&mut self.jobs)
    }

    /// Whether it has no attachment.
    pub(super) fn is_inline(&self) -> bool {
        !self.has_attachment
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

/// White space that is unique for a number: the number in binary, with spaces and tabs.
fn padding(number: u32) -> String {
    format!("{number:b}").chars().map(|bit| if bit == '1' { '\t' } else { ' ' }).collect()
}

/// How long a statement waits for a lock on the attachment table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockTimeout {
    /// Long enough for the short locks of usual operations.
    Long,
    /// Only to check whether the table is still locked.
    Short,
}

impl LockTimeout {
    fn as_sql(self) -> &'static str {
        match self {
            Self::Long => "SET LOCAL lock_timeout = '1s'",
            Self::Short => "SET LOCAL lock_timeout = '50ms'",
        }
    }
}

/// Begins a transaction, and returns its id. With the id, the server can later report the outcome.
pub(super) async fn begin(client: &Client) -> Result<String, PgError> {
    let answers = client.simple_query("BEGIN; SELECT pg_catalog.txid_current()").await?;
    let number = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(number.unwrap_or_default())
}

/// The outcome of a transaction: `committed`, `aborted`, `in progress`; `None` if it is too long ago.
pub(super) async fn transaction_status(client: &Client, number: &str) -> Result<Option<String>, PgError> {
    let Ok(number) = number.parse::<i64>() else { return Ok(None) };
    let rows = client.query_typed("SELECT pg_catalog.txid_status($1)", &[(&number, Type::INT8)]).await?;
    rows.first().map_or(Ok(None), |row| row.try_get(0))
}

/// Fails in a transaction that an error has aborted. The server answers COMMIT without an error there, though it rolls back,
/// and the error may be that of another task's statement on the same session. So this comes before the COMMIT of a
/// transaction that was not sent at once.
const CHECK_NOT_ABORTED: &str = "SELECT 1";

/// Sends messages in one transaction, which the caller has begun, or which begins here.
pub(super) async fn send(
    client: &Client,
    jobs: &[Job],
    table: &TableName,
    has_begun: bool,
    lock: LockTimeout,
) -> Result<(), PgError> {
    let statements = Statements::of(table, jobs.iter().any(|job| job.encoded.is_durable()));
    match steps(jobs).as_slice() {
        [step @ Step::Notify { .. }] if !has_begun => step.send(client, &statements).await,
        steps => in_one_transaction(client, steps, &statements, has_begun, lock).await,
    }
}

/// Sends inline messages as one statement of a transaction, which the caller begins and ends.
pub(super) async fn notify(client: &Client, jobs: &[Job]) -> Result<(), PgError> {
    let steps = steps(jobs);
    debug_assert!(steps.len() == 1, "inline messages are one statement");
    for step in &steps {
        step.send(client, &Statements::of_notifications()).await?;
    }
    Ok(())
}

/// Whether a transaction of a lost connection has inserted the row of this durable event. The row exists until the cleanup
/// deletes it.
pub(super) async fn has_row(client: &Client, table: &TableName, identity: &[u8]) -> Result<bool, PgError> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {} WHERE created_at > now() - interval '10 minutes' \
         AND substring(payload FROM 2 FOR $2) = $1)",
        table.as_sql()
    );
    let length = i32::try_from(identity.len()).unwrap_or(i32::MAX);
    let parameters: Parameters<'_> = &[(&identity, Type::BYTEA), (&length, Type::INT4)];
    let rows = client.query_typed(&sql, parameters).await?;
    rows.first().map_or(Ok(false), |row| row.try_get(0))
}

/// The statements of one transaction.
struct Statements {
    notify: &'static str,
    notify_one: &'static str,
    insert: String,
}

impl Statements {
    /// The statements of a transaction with neither attachments nor durable events.
    fn of_notifications() -> Self {
        Self { notify: NOTIFY, notify_one: NOTIFY_ONE, insert: String::new() }
    }

    fn of(table: &TableName, is_durable: bool) -> Self {
        let (notify, notify_one, setting) = match is_durable {
            true => (NOTIFY_FLUSHED, "SELECT pg_notify($1, $2)", ""),
            false => (NOTIFY, NOTIFY_ONE, ", set_config('synchronous_commit', 'off', true)"),
        };
        let insert = format!(
            "WITH row AS (INSERT INTO {} (payload) VALUES ($3) RETURNING id) \
             SELECT pg_notify($1, $2 || id || '\"}}'){setting} FROM row",
            table.as_sql()
        );
        Self { notify, notify_one, insert }
    }
}

/// Sends all statements in one transaction, pipelined: all are sent before the first response.
async fn in_one_transaction(
    client: &Client,
    steps: &[Step<'_>],
    all: &Statements,
    has_begun: bool,
    lock: LockTimeout,
) -> Result<(), PgError> {
    let mut before = if has_begun { String::new() } else { "BEGIN;".to_owned() };
    let has_attachment = steps.iter().any(|step| matches!(step, Step::Attach { .. }));
    if has_attachment {
        before += lock.as_sql();
    }
    let begin = (!before.is_empty()).then(|| async move { client.batch_execute(&before).await }.boxed());
    let check = has_begun.then(|| client.batch_execute(CHECK_NOT_ABORTED).boxed());
    // COMMIT waits for the lock of NOTIFY, which is no sign of a locked table.
    let unlimited = has_attachment.then(|| client.batch_execute("SET LOCAL lock_timeout = 0").boxed());
    let commit = client.batch_execute("COMMIT").boxed();
    let statements = steps.iter().map(|step| step.send(client, all));
    let sent = begin.into_iter().chain(statements).chain(check).chain(unlimited).chain([commit]);
    // After a failure the server treats COMMIT as ROLLBACK, and the first error is the cause.
    future::join_all(sent).await.into_iter().collect()
}

/// The parameters of a statement with their types, so the driver need not ask the server for them.
type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// One statement.
enum Step<'a> {
    Notify { channels: Vec<&'a str>, payloads: Vec<&'a str> },
    Attach { channel: &'a Channel, header: &'a Header, document: &'a [u8] },
}

/// The fewest statements that keep the order.
fn steps(jobs: &[Job]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for job in jobs {
        match &job.encoded {
            Encoded::Attachment { header, document } => {
                steps.push(Step::Attach { channel: &job.channel, header, document });
            }
            Encoded::Inline(text) => match steps.last_mut() {
                Some(Step::Notify { channels, payloads }) => {
                    channels.push(job.channel.as_str());
                    payloads.push(text);
                }
                _ => steps.push(Step::Notify { channels: vec![job.channel.as_str()], payloads: vec![text] }),
            },
        }
    }
    steps
}

impl Step<'_> {
    fn send<'a>(
        &'a self,
        client: &'a Client,
        statements: &'a Statements,
    ) -> BoxFuture<'a, Result<(), PgError>> {
        match self {
            Step::Notify { channels, payloads } => async move {
                match (channels.as_slice(), payloads.as_slice()) {
                    ([channel], [payload]) => {
                        let one: Parameters<'_> = &[(channel, Type::TEXT), (payload, Type::TEXT)];
                        client.query_typed(statements.notify_one, one).await.map(drop)
                    }
                    _ => {
                        let all: Parameters<'_> =
                            &[(channels, Type::TEXT_ARRAY), (payloads, Type::TEXT_ARRAY)];
                        client.query_typed(statements.notify, all).await.map(drop)
                    }
                }
            }
            .boxed(),
            Step::Attach { channel, header, document } => async move {
                let header = header.before_attachment_id();
                let channel = channel.as_str();
                let params: Parameters<'_> =
                    &[(&channel, Type::TEXT), (&header, Type::TEXT), (document, Type::BYTEA)];
                client.query_typed(&statements.insert, params).await.map(drop)
            }
            .boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paddings_differ_and_are_white_space_to_json() {
        let paddings: std::collections::HashSet<_> = (1..=MAX_MESSAGES as u32).map(padding).collect();
        assert_eq!(paddings.len(), MAX_MESSAGES);
        for padding in paddings {
            assert!(serde_json::from_str::<u8>(&format!("1{padding}")).is_ok());
        }
    }

    fn text(job: &Job) -> &str {
        match &job.encoded {
            Encoded::Inline(text) => text,
            Encoded::Attachment { .. } => panic!("an attachment"),
        }
    }

    fn texts(jobs: &[Job]) -> Vec<&str> {
        jobs.iter().map(text).collect()
    }

    #[test]
    fn the_white_space_of_an_earlier_batch_is_replaced() {
        let mut batch = Batch::default();
        for text in ["a", "a\t", "a", "a \t"] {
            assert!(batch.add(Job::inline(text)).is_none());
        }
        assert_eq!(texts(&batch.take()), ["a", "a\t", "a\t ", "a\t\t"]);
    }

    #[test]
    fn identical_notifications_of_one_transaction_are_made_distinct() {
        let mut batch = Batch::default();
        let mut collect = |texts: &[&str], take: fn(&mut Batch) -> Vec<Job>| {
            for text in texts {
                assert!(batch.add(Job::inline(text)).is_none());
            }
            take(&mut batch)
        };
        let alone = collect(&["a", "a", "b"], Batch::take);
        assert_eq!(texts(&alone), ["a", "a\t", "b"]);
        // One transaction: the first batch, which was collected during an earlier transaction, and two more.
        collect(&["a"], Batch::take_first);
        let first = collect(&["a", "c"], Batch::take_first);
        let second = collect(&["a", "b"], Batch::take_next);
        let third = collect(&["a", "c", "b"], Batch::take_next);
        let all = [texts(&first), texts(&second), texts(&third)].concat();
        assert_eq!(all, ["a\t", "c", "a\t ", "b", "a\t\t", "c\t", "b\t"]);
        assert_eq!(texts(&collect(&["c"], Batch::take)), ["c\t "]);
        assert_eq!(texts(&collect(&["c"], Batch::take)), ["c"]);
    }
}
