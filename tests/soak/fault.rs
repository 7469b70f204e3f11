//! The faults, and the promises that hold during each of them.

use std::fmt;
use std::time::Duration;

use super::routes::Reach;

/// Which direction of the connections to Postgres is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    Both,
    ToServer,
    ToClient,
}

/// A fault, with its duration in seconds if it varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All connections of the victims get a TCP reset.
    Reset,
    /// The network swallows everything, also of new connections, and delivers all of it in the end.
    Silence(Silent, u64),
    /// `pg_ctl restart -m fast`.
    RestartFast,
    /// `pg_ctl restart -m immediate`: as after a crash.
    RestartImmediate,
    /// `pg_terminate_backend` of the victims' listening sessions.
    EndListener,
    /// `pg_terminate_backend` of the victims' publishing sessions.
    EndPublisher,
    /// Every byte is 200 ms late, each way.
    Latency(u64),
    /// 40 kB/s, each way.
    Throttle(u64),
    /// Another session locks the attachment table.
    LockTable(u64),
    /// The victims lose their rights on the attachment table.
    Revoke(u64),
    /// All processes of Postgres stand still (SIGSTOP).
    FreezePostgres(u64),
    /// The victims themselves stand still (SIGSTOP).
    FreezeNode(u64),
    /// The victims get SIGKILL, and start again.
    KillNode,
    /// The victims lose their connections while others have taken all that Postgres allows.
    Exhausted(u64),
    /// The victims lose their connections while their password is another one.
    Password(u64),
    /// The primary is frozen, the standby is promoted, and later the old primary resumes.
    Failover,
    /// The primary crashes, and the standby is promoted.
    FailoverCrash,
}

/// Whether a node has to notice a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Within the bound.
    Required,
    /// It may, as there is something to notice, but it may be over before.
    Possible,
    /// There is nothing to notice.
    Nothing,
}

/// The promises of a pgio node that hold in spite of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    pub notice: Notice,
    /// How soon the node has recovered once Postgres answers again; `None` where no time is promised.
    pub recovered: Option<Duration>,
    /// Every event that others publish reaches the node's clients, also meanwhile.
    pub keeps_receiving: bool,
    /// Every event that the node acknowledges reaches others.
    pub keeps_sending: bool,
    /// Neither is the case for events with an attachment.
    pub files_suffer: bool,
    /// Inline events are no later than this.
    pub inline_delay: Option<Duration>,
    /// Clients of one node reach each other all the time.
    pub keeps_local: bool,
    /// Every event of a client is answered.
    pub answers: bool,
    /// The witness hears one server only. An old primary that goes on after a failover publishes what was in its sockets,
    /// which the witness hears late, and no member any more.
    pub has_one_server: bool,
}

/// How soon a fault is noticed.
pub const NOTICED: Duration = Duration::from_secs(5);

/// How soon a node has recovered once Postgres answers again.
pub const RECOVERED: Duration = Duration::from_secs(1);

impl Fault {
    /// All of them, a class a line.
    pub const CLASSES: &[&[Fault]] = &[
        &[Self::Reset],
        &[
            Self::Silence(Silent::Both, 3),
            Self::Silence(Silent::ToServer, 3),
            Self::Silence(Silent::ToClient, 3),
            Self::Silence(Silent::Both, 10),
            Self::Silence(Silent::ToServer, 10),
            Self::Silence(Silent::ToClient, 10),
            Self::Silence(Silent::Both, 30),
            Self::Silence(Silent::ToServer, 30),
            Self::Silence(Silent::ToClient, 30),
        ],
        &[Self::RestartFast, Self::RestartImmediate],
        &[Self::EndListener, Self::EndPublisher],
        &[Self::Latency(5), Self::Throttle(5)],
        &[Self::LockTable(3), Self::LockTable(25)],
        &[Self::Revoke(3)],
        &[Self::FreezePostgres(3), Self::FreezePostgres(10), Self::FreezePostgres(30)],
        &[Self::FreezeNode(3), Self::FreezeNode(15)],
        &[Self::KillNode],
        &[Self::Exhausted(3)],
        &[Self::Password(3)],
        &[Self::Failover, Self::FailoverCrash],
    ];

    /// The faults of `make test`: the seed chooses one of each line.
    pub const SHORT: &[&[Fault]] = &[
        &[Self::Reset, Self::EndListener, Self::EndPublisher],
        &[
            Self::Silence(Silent::Both, 3),
            Self::Silence(Silent::ToServer, 3),
            Self::Silence(Silent::ToClient, 3),
            Self::FreezePostgres(3),
        ],
        &[Self::RestartFast, Self::RestartImmediate],
        &[Self::Latency(2), Self::Throttle(2)],
        &[Self::LockTable(2)],
        &[Self::Revoke(2)],
        &[Self::FreezeNode(3)],
        &[Self::KillNode],
        &[Self::Exhausted(2), Self::Password(2)],
        &[Self::Failover],
    ];

    /// The fault of that name, as [`Display`](fmt::Display) has it.
    pub fn named(name: &str) -> Option<Self> {
        let all = Self::CLASSES.iter().chain(Self::SHORT).flat_map(|class| class.iter());
        all.copied().find(|fault| fault.to_string() == name)
    }

    /// How long it lasts, until Postgres answers again.
    pub fn lasts(self) -> Duration {
        Duration::from_secs(match self {
            Self::Silence(_, seconds)
            | Self::Latency(seconds)
            | Self::Throttle(seconds)
            | Self::LockTable(seconds)
            | Self::Revoke(seconds)
            | Self::FreezePostgres(seconds)
            | Self::FreezeNode(seconds)
            | Self::Exhausted(seconds)
            | Self::Password(seconds) => seconds,
            Self::RestartFast | Self::RestartImmediate | Self::KillNode => 1,
            Self::Reset | Self::EndListener | Self::EndPublisher => 0,
            Self::Failover => 22,
            Self::FailoverCrash => 10,
        })
    }

    /// Whether two primaries are left behind, so that it takes a cluster of its own.
    pub fn is_failover(self) -> bool {
        matches!(self, Self::Failover | Self::FailoverCrash)
    }

    /// The members that it hits.
    pub fn reach(self) -> Reach {
        match self {
            Self::RestartFast | Self::RestartImmediate | Self::Failover | Self::FailoverCrash => {
                Reach::Everyone
            }
            _ => Reach::Victims,
        }
    }

    /// The members that must be back for a member to have recovered. A server that stood still hit the Node servers too,
    /// and how long those take is not for pgio to answer; nothing may be lost on their routes all the same.
    pub fn recovery(self) -> Reach {
        match self {
            Self::FreezePostgres(_) => Reach::Everyone,
            _ => self.reach(),
        }
    }

    /// The promises of a pgio node during this fault.
    pub fn promise(self) -> Promise {
        let stall = Promise {
            notice: Notice::Possible,
            recovered: Some(RECOVERED),
            keeps_receiving: true,
            keeps_sending: true,
            files_suffer: false,
            inline_delay: None,
            keeps_local: true,
            answers: true,
            has_one_server: true,
        };
        let loss = Promise { keeps_receiving: false, notice: Notice::Required, ..stall };
        let everywhere = Promise { keeps_sending: false, ..loss };
        match self {
            Self::Silence(_, ..=5) | Self::FreezePostgres(..=5) => stall,
            Self::Silence(..) | Self::FreezePostgres(_) => Promise { notice: Notice::Required, ..stall },
            Self::EndPublisher | Self::Throttle(_) => stall,
            Self::Latency(_) => Promise { notice: Notice::Nothing, ..stall },
            Self::LockTable(_) => Promise { files_suffer: true, inline_delay: Some(RECOVERED), ..stall },
            Self::Revoke(_) => Promise { files_suffer: true, inline_delay: Some(RECOVERED), ..stall },
            // The node has to process 15 s of events first; how long that takes depends on the machine.
            Self::FreezeNode(_) => {
                Promise { notice: Notice::Nothing, recovered: None, keeps_local: false, ..stall }
            }
            Self::KillNode => Promise {
                notice: Notice::Nothing,
                recovered: None,
                keeps_local: false,
                answers: false,
                ..loss
            },
            Self::Reset | Self::EndListener | Self::Exhausted(_) | Self::Password(_) => loss,
            Self::RestartFast | Self::RestartImmediate => everywhere,
            Self::Failover | Self::FailoverCrash => Promise { has_one_server: false, ..everywhere },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_seconds = |f: &mut fmt::Formatter<'_>, name: &str, seconds| write!(f, "{name}-{seconds}");
        match self {
            Self::Reset => f.write_str("reset"),
            Self::Silence(Silent::Both, seconds) => with_seconds(f, "silence", seconds),
            Self::Silence(Silent::ToServer, seconds) => with_seconds(f, "silence-to-server", seconds),
            Self::Silence(Silent::ToClient, seconds) => with_seconds(f, "silence-to-client", seconds),
            Self::RestartFast => f.write_str("restart-fast"),
            Self::RestartImmediate => f.write_str("restart-immediate"),
            Self::EndListener => f.write_str("end-listener"),
            Self::EndPublisher => f.write_str("end-publisher"),
            Self::Latency(seconds) => with_seconds(f, "latency", seconds),
            Self::Throttle(seconds) => with_seconds(f, "throttle", seconds),
            Self::LockTable(seconds) => with_seconds(f, "lock-table", seconds),
            Self::Revoke(seconds) => with_seconds(f, "revoke", seconds),
            Self::FreezePostgres(seconds) => with_seconds(f, "freeze-postgres", seconds),
            Self::FreezeNode(seconds) => with_seconds(f, "freeze-node", seconds),
            Self::KillNode => f.write_str("kill-node"),
            Self::Exhausted(seconds) => with_seconds(f, "connections-exhausted", seconds),
            Self::Password(seconds) => with_seconds(f, "password-changed", seconds),
            Self::Failover => f.write_str("failover"),
            Self::FailoverCrash => f.write_str("failover-crash"),
        }
    }
}
