//! A model of Postgres: one order of commits, sessions with their LISTEN sets, and the rows of the attachment table.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use pgio::cluster::state::{ListenSnapshot, RowOrigin, Statement};
use pgio::protocol::{LivenessLock, LockSnapshot};
use pgio::{Error, Namespace};

use crate::trace::SECOND;
use crate::wire::Says;

/// The namespaces of a world, and so its channels.
pub const NAMESPACES: [&str; 4] = ["/", "/a", "/b", "/c"];

/// The name of a channel.
pub const CHANNELS: [&str; 4] = ["socket.io#/", "socket.io#/a", "socket.io#/b", "socket.io#/c"];

/// The number of the channel of that name.
pub fn channel_number(name: &str) -> usize {
    CHANNELS.iter().position(|channel| *channel == name).expect("a channel of this world")
}

pub fn channel(number: usize) -> pgio::protocol::Channel {
    static ALL: LazyLock<[pgio::protocol::Channel; 4]> = LazyLock::new(|| {
        NAMESPACES.map(|nsp| Namespace::new(nsp).channel("socket.io").expect("a short name"))
    });
    ALL[number].clone()
}

/// The publisher of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Peer(usize),
    Machine(usize),
    Emitter,
}

/// A notification, in its place in the order of commits.
pub struct Commit {
    pub channel: usize,
    pub sender: Sender,
    pub uid: String,
    pub says_nsp: bool,
    pub says: Says,
    pub row: Option<i64>,
    /// When the transaction of a durable event began.
    pub durable_since: Option<u64>,
    pub text: String,
}

/// The owner of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Machine(usize),
    Peer(usize),
}

/// What travels from the server to a client.
#[derive(Debug, Clone)]
pub enum Item {
    Commit(usize),
    Done { number: u64, listen: Vec<usize>, outcome: Result<(), Error>, snapshot: Option<Snapshot> },
    Locks(LockSnapshot),
}

/// A snapshot of a LISTEN, with the number of commits before it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub of_server: Arc<ListenSnapshot>,
    pub at: u64,
    pub commits: usize,
}

/// The transactions of durable events.
#[derive(Default)]
pub struct Transactions {
    next: u64,
    /// The transactions in progress, with their rows.
    running: BTreeMap<u64, i64>,
    /// The transaction of each row, and when it began by the server's clock.
    of_rows: BTreeMap<i64, (u64, i64)>,
    /// How far the server's clock is ahead of the time.
    clock_ahead: i64,
}

/// A listening session.
pub struct Session {
    pub owner: Owner,
    /// The channels that it listens to, as bits.
    pub channels: u8,
    /// Whether the server still knows it.
    pub is_alive: bool,
    /// Whether nothing reaches the client for now.
    pub is_paused: bool,
    /// What waits until the network heals.
    pub held: Vec<Item>,
    /// The advisory lock that it holds.
    pub lock: Option<LivenessLock>,
    /// When the last item arrives: the next one arrives no earlier.
    pub last_arrival: u64,
}

#[derive(Default)]
pub struct Postgres {
    pub commits: Vec<Commit>,
    pub sessions: Vec<Session>,
    pub rows: BTreeMap<i64, (u64, Vec<u8>)>,
    /// The commits of durable events, by their rows.
    pub durable: BTreeMap<i64, usize>,
    last_row: i64,
    pub transactions: Transactions,
    /// Until when it takes no connections and no statements.
    pub down_until: u64,
    /// When it was restarted last.
    pub restarted_at: u64,
    /// Until when the attachment table is locked.
    pub locked_until: u64,
    /// Until when it refuses to listen to a channel.
    pub refusing_until: [u64; 4],
}

impl Postgres {
    pub fn open(&mut self, owner: Owner) -> usize {
        self.sessions.push(Session {
            owner,
            channels: 0,
            is_alive: true,
            is_paused: false,
            held: Vec::new(),
            lock: None,
            last_arrival: 0,
        });
        self.sessions.len() - 1
    }

    pub fn listens(&self, session: usize, channel: usize) -> bool {
        self.sessions[session].channels & (1 << channel) != 0
    }

    pub fn insert_row(&mut self, now: u64, document: Vec<u8>) -> i64 {
        self.last_row += 1;
        self.rows.insert(self.last_row, (now, document));
        self.last_row
    }

    /// The id of a row that is inserted with a commit to come.
    pub fn next_row(&mut self) -> i64 {
        self.last_row += 1;
        self.last_row
    }

    fn clock(&self, now: u64) -> i64 {
        now as i64 + self.transactions.clock_ahead
    }

    /// A transaction begins, which inserts that row.
    pub fn begin(&mut self, now: u64, row: i64) {
        let began = self.clock(now);
        let transactions = &mut self.transactions;
        let id = transactions.next;
        transactions.running.insert(id, row);
        transactions.of_rows.insert(row, (id, began));
        // Two other transactions begin and end as well.
        transactions.next += 3;
    }

    pub fn end_transaction(&mut self, row: i64) {
        self.transactions.running.retain(|_, running| *running != row);
    }

    /// Another server takes over: its clock differs, and it has not seen the last transactions of the former one.
    pub fn restart(&mut self, now: u64) {
        self.restarted_at = now;
        let transactions = &mut self.transactions;
        transactions.running.clear();
        let committed = self.durable.keys().filter_map(|row| transactions.of_rows.get(row));
        transactions.next = committed.map(|(id, _)| id + 1).max().unwrap_or_default();
        transactions.clock_ahead = (now % (10 * SECOND)) as i64 - 5 * SECOND as i64;
    }

    /// The snapshot that a LISTEN takes.
    pub fn snapshot(&self, now: u64) -> Snapshot {
        let Transactions { next, running, .. } = &self.transactions;
        let of_server = ListenSnapshot {
            server: self.restarted_at as i64,
            clock: self.clock(now),
            next: *next,
            running: running.keys().copied().collect(),
        };
        Snapshot { of_server: of_server.into(), at: now, commits: self.commits.len() }
    }

    /// The transaction of a row, as the server lists it now.
    pub fn origin(&self, row: i64) -> Option<RowOrigin> {
        let (transaction, began) = *self.transactions.of_rows.get(&row)?;
        Some(RowOrigin { server: self.restarted_at as i64, began, transaction })
    }

    /// The rows of a channel's durable events that are no older than that, with their ages.
    pub fn list(&self, now: u64, channel: usize, max_age: u64) -> Vec<(i64, u64)> {
        let age = |row: i64| Some((row, now - self.rows.get(&row)?.0));
        let of_channel = self.durable.iter().filter(|(_, seq)| self.commits[**seq].channel == channel);
        of_channel.filter_map(|(row, _)| age(*row)).filter(|(_, age)| *age < max_age).collect()
    }

    /// Deletes rows that are that old.
    pub fn clean_up(&mut self, now: u64, age: u64) -> usize {
        let before = self.rows.len();
        self.rows.retain(|_, (at, _)| *at + age > now);
        before - self.rows.len()
    }

    /// Executes LISTEN and UNLISTEN in one transaction, which takes effect as a whole or not at all.
    pub fn execute(&mut self, now: u64, session: usize, statement: &Statement) -> Result<(), Error> {
        let numbers = |channels: &[pgio::protocol::Channel]| -> Vec<usize> {
            channels.iter().map(|channel| channel_number(channel.as_str())).collect()
        };
        let listen = numbers(&statement.listen);
        if let Some(refused) = listen.iter().find(|channel| now < self.refusing_until[**channel]) {
            return Err(Error::Namespace {
                namespace: CHANNELS[*refused].into(),
                reason: "no LISTEN".into(),
            });
        }
        let channels = &mut self.sessions[session].channels;
        listen.into_iter().for_each(|channel| *channels |= 1 << channel);
        numbers(&statement.unlisten).into_iter().for_each(|channel| *channels &= !(1 << channel));
        Ok(())
    }
}
