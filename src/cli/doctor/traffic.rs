//! Notifications: whether they arrive, which session blocks the queue, and which sessions listen on which channels.

use std::time::Duration;

use super::Context;
use super::finding::Finding;
use super::server::short;
use crate::Result;
use crate::cli::output::number::counted;
use crate::postgres::health::{Delivery, Holder, Listening, Queue};
use crate::protocol::MAX_CHANNEL_BYTES;

/// The time after which a notification counts as not delivered.
const PATIENCE: Duration = Duration::from_secs(3);

/// The delivery time from which the check warns.
const SLOW: Duration = Duration::from_millis(250);

/// The duration from which a transaction is suspected of blocking the queue.
const LONG: Duration = Duration::from_secs(2);

/// The shares of the queue from which the check warns and fails.
const SOME: f64 = 0.01;
const MUCH: f64 = 0.5;

/// Checks for a connection pooler, and whether published notifications arrive.
pub(super) async fn delivery(context: &Context) -> Result<Vec<Finding>> {
    let Delivery { published, arrived, sessions_are_shared } = context.examiner.delivery(PATIENCE).await?;
    let published = short(published);
    let pooler = match sessions_are_shared {
        true => Finding::fail(
            "pooler",
            "there is a connection pooler in transaction mode, which drops notifications",
            "connect to Postgres directly, or through a pooler with pool_mode = session",
        ),
        false => Finding::ok("pooler", "each connection has a dedicated session"),
    };
    let delivery = match arrived {
        None => Finding::fail(
            "delivery",
            format!("a notification was published in {published}, and did not arrive within {PATIENCE:?}"),
            "connect to Postgres directly, or through a pooler in session mode",
        ),
        Some(time) if time > SLOW => Finding::warn(
            "delivery",
            format!("a notification was published in {published}, and arrived after {}", short(time)),
            "check the load of Postgres, and the notification queue",
        ),
        Some(time) => {
            Finding::ok("delivery", format!("published in {published}, arrived after {}", short(time)))
        }
    };
    Ok(vec![pooler, delivery])
}

pub(super) async fn queue(context: &Context) -> Result<Finding> {
    Ok(judge_queue(context.examiner.queue(LONG).await?))
}

fn judge_queue(queue: Queue) -> Finding {
    let Queue { usage, holders, hidden } = queue;
    // A usage close to zero is normal: sessions have not read the newest page yet.
    let detail = format!("the notification queue is {} full", percent(usage));
    if usage == 0.0 || (usage < SOME && holders.is_empty()) {
        return Finding::ok("queue", detail);
    }
    let suspects = holders.iter().take(3).map(describe).collect::<Vec<_>>().join("; ");
    let detail = match holders.len() {
        0 => format!("{detail}: a listening session does not read its notifications"),
        1..4 => format!("{detail}, and a session in a long transaction reads nothing: {suspects}"),
        count => format!("{detail}, and {count} sessions in long transactions read nothing: {suspects}; ..."),
    };
    let mut advice = match holders.first() {
        Some(Holder { pid, .. }) => {
            format!(
                "end that transaction, or SELECT pg_terminate_backend({pid}); use a dedicated connection \
                 for LISTEN"
            )
        }
        None => "find a listening client that has stopped reading".into(),
    };
    if hidden > 0 {
        advice =
            format!("{advice}; {hidden} sessions are hidden from this user: GRANT pg_monitor shows them");
    }
    match usage < MUCH {
        true => Finding::warn("queue", detail, advice),
        false => Finding::fail("queue", format!("{detail} (at 100% every NOTIFY fails)"), advice),
    }
}

fn percent(usage: f64) -> String {
    match usage * 100.0 {
        0.0 => "0%".into(),
        ..0.1 => "less than 0.1%".into(),
        percent => format!("{percent:.1}%"),
    }
}

/// `pid 4711 ("chat", app@db, idle for 12.0 s)`.
fn describe(holder: &Holder) -> String {
    let Holder { pid, application, user, database, is_idle, since } = holder;
    let name = if application.is_empty() { "no application_name".into() } else { format!("{application:?}") };
    let doing = if *is_idle { "idle in a transaction" } else { "busy" };
    format!("pid {pid} ({name}, {user}@{database}, {doing} for {})", short(*since))
}

/// Checks that each namespace has a channel name that Postgres accepts.
pub(super) fn channels(context: &Context) -> Finding {
    let prefix = &context.options.channel_prefix;
    let names = context.namespaces.iter().map(|nsp| nsp.channel(prefix));
    match names.collect::<Result<Vec<_>>>() {
        Ok(channels) => {
            let names: Vec<_> = channels.iter().map(|channel| channel.as_str()).collect();
            Finding::ok("channels", names.join(", "))
        }
        Err(error) => Finding::fail(
            "channels",
            error.to_string(),
            "shorten the namespace, or --channel-prefix on all servers",
        ),
    }
}

/// Checks the channels on which other sessions listen, and their prefixes.
pub(super) async fn listeners(context: &Context, user: &str) -> Result<Vec<Finding>> {
    let listening = context.examiner.listening().await?;
    let prefix = &context.options.channel_prefix;
    let mut findings = vec![judge_prefix(prefix, &listening)];
    let too_long = listening.iter().filter(|listening| listening.channel.len() > MAX_CHANNEL_BYTES);
    findings.extend(too_long.map(|Listening { channel, .. }| {
        Finding::fail(
            "listeners",
            format!(
                "a server listens on {channel:?}, which has {} bytes; Postgres truncates it to {MAX_CHANNEL_BYTES}, so the server receives nothing",
                channel.len()
            ),
            "shorten the namespace, or the channelPrefix of all servers",
        )
    }));
    let hidden = context.examiner.hidden_sessions().await?;
    if hidden > 0 {
        let sessions = counted(hidden, "session");
        findings.push(Finding::warn(
            "listeners",
            format!("{sessions} of other users: {user} may not see whether servers listen there, and do not answer"),
            format!("GRANT pg_read_all_stats TO {user}"),
        ));
    }
    Ok(findings)
}

fn judge_prefix(ours: &str, listening: &[Listening]) -> Finding {
    let mut sessions = 0;
    let mut others: Vec<&str> = Vec::new();
    for Listening { channel, sessions: count } in listening {
        // A namespace starts with a slash. Other channels do not belong to Socket.IO.
        match channel.split_once("#/") {
            Some((prefix, _)) if prefix == ours => sessions += count,
            Some((prefix, _)) if !others.contains(&prefix) => others.push(prefix),
            _ => {}
        }
    }
    let others = others.join(", ");
    match (sessions, others.is_empty()) {
        (0, true) => Finding::ok("prefix", format!("no session was seen listening on {ours}#/...")),
        (0, false) => Finding::warn(
            "prefix",
            format!("no session was seen listening with the prefix {ours}, but servers listen with {others}"),
            "give all servers and pgio the same --channel-prefix (channelPrefix in Node)",
        ),
        (count, true) => Finding::ok("prefix", format!("{count} listening with the prefix {ours}")),
        (count, false) => Finding::warn(
            "prefix",
            format!("{count} listening with the prefix {ours}; servers with {others} are another cluster"),
            "give all servers the same --channel-prefix (channelPrefix in Node), unless these are two clusters",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    #[test]
    fn a_queue_is_worse_the_fuller_it_is() {
        for (usage, status) in
            [(0.0, Status::Ok), (0.005, Status::Ok), (0.2, Status::Warn), (0.5, Status::Fail)]
        {
            let found = judge_queue(Queue { usage, holders: vec![], hidden: 0 });
            assert_eq!(found.status, status, "{usage}");
        }
    }

    #[test]
    fn prefixes() {
        let on = |channel: &str| Listening { channel: channel.into(), sessions: 1 };
        for (listening, status) in [
            (vec![], Status::Ok),
            (vec![on("jobs"), on("cache#1")], Status::Ok),
            (vec![on("socket.io#/"), on("other#/")], Status::Warn),
            (vec![on("other#/"), on("socket.io")], Status::Warn),
        ] {
            assert_eq!(judge_prefix("socket.io", &listening).status, status, "{listening:?}");
        }
    }
}
