//! Messages that go out in one transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures_util::future::{self, BoxFuture, FutureExt};
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error as PgError};

use super::attachments::table_failure;
use super::publisher::Job;
use super::{Session, TableName};
use crate::protocol::{Channel, Encoded, Header, MAX_INLINE_BYTES};
use crate::{Error, Result};

/// Beyond a thousand, a larger batch is no faster.
const MAX_MESSAGES: usize = 1000;

/// A batch ends with the message that reaches this size.
const MAX_BYTES: usize = 1 << 20;

/// How long the server may take for a batch, before its size. Longer than locks on the table last, and an end where the
/// server hangs without closing its connections.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Several notifications in one round trip. Losing the last messages in a crash of the server is right for messages
/// that live for seconds, and spares a flush of the disk for each commit. That setting is made in the statement itself,
/// as a connection pooler in between may give each transaction another session. Two arrays are gone through side by side
/// in a list of columns; in FROM, the server would first write all rows down.
const NOTIFY: &str = "SELECT count(*), set_config('synchronous_commit', 'off', true) \
     FROM (SELECT pg_notify(unnest($1::text[]), unnest($2::text[])) OFFSET 0) AS sent";

/// The same for one notification: what is planned faster is published sooner.
const NOTIFY_ONE: &str = "SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)";

/// The messages of one transaction, in order.
#[derive(Default)]
pub(super) struct Batch {
    jobs: Vec<Job>,
    bytes: usize,
    /// How often each notification is in here, by its hash.
    repeats: HashMap<u64, u32>,
}

impl Batch {
    /// Adds a message, or gives it back when it has to go into the next batch.
    ///
    /// Postgres delivers equal notifications of one transaction once. White space at the end, which JSON does not see,
    /// makes those differ that are equal.
    pub(super) fn add(&mut self, mut job: Job) -> Option<Job> {
        if self.jobs.len() >= MAX_MESSAGES || self.bytes >= MAX_BYTES {
            return Some(job);
        }
        if let Encoded::Inline(text) = &mut job.encoded {
            let mut hasher = DefaultHasher::new();
            (&job.channel, &*text).hash(&mut hasher);
            match self.repeats.entry(hasher.finish()) {
                Entry::Vacant(entry) => {
                    entry.insert(0);
                }
                Entry::Occupied(mut entry) => {
                    let mark = mark(*entry.get() + 1);
                    if text.len() + mark.len() >= MAX_INLINE_BYTES {
                        return Some(job);
                    }
                    text.push_str(&mark);
                    *entry.get_mut() += 1;
                }
            }
        }
        self.bytes += job.bytes();
        self.jobs.push(job);
        None
    }

    /// Sends all; where the server refuses one of several, sends each alone, so that a bad message fails alone.
    pub(super) async fn send(self, session: &Session, table: &TableName) {
        let outcome = send_all(&self.jobs, session, table).await;
        match outcome {
            Err(error) if self.jobs.len() > 1 && was_refused(&error) => {
                for job in self.jobs {
                    let outcome = send_all(std::slice::from_ref(&job), session, table).await;
                    job.finish(outcome);
                }
            }
            outcome => finish_all(self.jobs, outcome),
        }
    }
}

/// White space that no other number gives: the number in binary.
fn mark(number: u32) -> String {
    format!("{number:b}").chars().map(|bit| if bit == '1' { '\t' } else { ' ' }).collect()
}

/// Whether the server has said no, so that nothing of the transaction has happened.
fn was_refused(error: &Error) -> bool {
    matches!(error, Error::Database { .. } | Error::MissingTable { .. } | Error::TablePrivilege { .. })
}

fn finish_all(jobs: Vec<Job>, outcome: Result<()>) {
    match outcome {
        Ok(()) => jobs.into_iter().for_each(|job| job.finish(Ok(()))),
        Err(error) => jobs.into_iter().for_each(|job| job.finish(Err(error.clone()))),
    }
}

async fn send_all(jobs: &[Job], session: &Session, table: &TableName) -> Result<()> {
    let client = session.client().await?;
    let steps = steps(jobs);
    let insert = format!(
        "WITH row AS (INSERT INTO {} (payload) VALUES ($3) RETURNING id) \
         SELECT pg_notify($1, $2 || id || '\"}}'), set_config('synchronous_commit', 'off', true) FROM row",
        table.as_sql()
    );
    let sent = async {
        match steps.as_slice() {
            [step] => step.send(&client, &insert).await,
            steps => in_one_transaction(&client, steps, &insert).await,
        }
    };
    let patience = patience(jobs);
    match timeout(patience, sent).await {
        Ok(sent) => sent.map_err(|error| table_failure(&error, table)),
        Err(_) => {
            session.abandon(&client).await;
            Err(Error::ConnectionLost(format!("no answer within {} s", patience.as_secs())))
        }
    }
}

/// How long the server may take before it counts as gone: more for what has to travel longer.
fn patience(jobs: &[Job]) -> Duration {
    let mebibytes = jobs.iter().map(Job::bytes).sum::<usize>() >> 20;
    ANSWER_WITHIN + Duration::from_secs(mebibytes as u64)
}

/// Pipelined: all statements are on their way before the first is answered.
async fn in_one_transaction(client: &Client, steps: &[Step<'_>], insert: &str) -> Result<(), PgError> {
    let begin = client.batch_execute("BEGIN").boxed();
    let commit = client.batch_execute("COMMIT").boxed();
    let statements = steps.iter().map(|step| step.send(client, insert));
    let all = std::iter::once(begin).chain(statements).chain([commit]);
    // After a failure the server takes COMMIT for ROLLBACK; the first error is the one that says why.
    future::join_all(all).await.into_iter().collect()
}

/// What a statement takes, with the types, so that nobody has to ask the server for them.
type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// One statement.
enum Step<'a> {
    Notify { channels: Vec<&'a str>, payloads: Vec<&'a str> },
    Attach { channel: &'a Channel, header: &'a Header, document: &'a [u8] },
}

/// As few statements as keep the order.
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
    fn send<'a>(&'a self, client: &'a Client, insert: &'a str) -> BoxFuture<'a, Result<(), PgError>> {
        match self {
            Step::Notify { channels, payloads } => async move {
                match (channels.as_slice(), payloads.as_slice()) {
                    ([channel], [payload]) => {
                        let one: Parameters<'_> = &[(channel, Type::TEXT), (payload, Type::TEXT)];
                        client.query_typed(NOTIFY_ONE, one).await.map(drop)
                    }
                    _ => {
                        let all: Parameters<'_> =
                            &[(channels, Type::TEXT_ARRAY), (payloads, Type::TEXT_ARRAY)];
                        client.query_typed(NOTIFY, all).await.map(drop)
                    }
                }
            }
            .boxed(),
            Step::Attach { channel, header, document } => async move {
                let header = header.before_attachment_id();
                let channel = channel.as_str();
                let params: Parameters<'_> =
                    &[(&channel, Type::TEXT), (&header, Type::TEXT), (document, Type::BYTEA)];
                client.query_typed(insert, params).await.map(drop)
            }
            .boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_differ_and_are_white_space_to_json() {
        let marks: std::collections::HashSet<_> = (1..=MAX_MESSAGES as u32).map(mark).collect();
        assert_eq!(marks.len(), MAX_MESSAGES);
        for mark in marks {
            assert!(serde_json::from_str::<u8>(&format!("1{mark}")).is_ok());
        }
    }
}
