//! Makes a fault happen, and ends it.

use std::time::Duration;

use pgio::postgres::private::Shutdown;
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

use super::check::{Broken, Check};
use super::clock::Moment;
use super::fault::{Fault, Silent};
use super::postgres::{Admin, FILLER, PASSWORD, Standby, VICTIM, grant};
use super::proxy::Mode;
use super::support::freeze::Frozen;
use super::support::frozen::postmaster;
use super::world::{World, sessions};

/// How long the old primary stands still before the standby is promoted: a node has noticed by then.
const BEFORE_PROMOTION: Duration = Duration::from_secs(6);

/// How long a node may take to close its sessions on the old primary once that one goes on.
const THAWED: Duration = Duration::from_secs(8);

/// The course of a fault.
pub struct Injected {
    pub began: Moment,
    /// Postgres answers again, for the victims as for everyone.
    pub answers: Moment,
    /// Of a failover: both primaries.
    pub failover: Option<Failover>,
    /// Checks that already failed during the injection.
    pub broken: Vec<Broken>,
}

/// Two primaries; both are there until this is dropped.
pub struct Failover {
    standby: Standby,
    frozen: Option<Frozen>,
}

/// Makes a fault happen and ends it; returns when Postgres answers again.
pub async fn inject(world: &mut World, fault: Fault) -> Injected {
    let mut began = Moment::now();
    let mut broken = Vec::new();
    let lasts = fault.lasts();
    match fault {
        Fault::Reset => world.reset_victims(),
        Fault::Silence(silent, _) => {
            let mode = Mode {
                silent_to_server: silent != Silent::ToClient,
                silent_to_client: silent != Silent::ToServer,
                ..Mode::default()
            };
            hold(world, mode, lasts).await;
        }
        Fault::Latency(_) => {
            hold(world, Mode { latency: Duration::from_millis(200), ..Mode::default() }, lasts).await;
        }
        Fault::Throttle(_) => {
            hold(world, Mode { bytes_per_second: Some(40_000), ..Mode::default() }, lasts).await;
        }
        Fault::RestartFast => restart(world, Shutdown::Fast).await,
        Fault::RestartImmediate => restart(world, Shutdown::Immediate).await,
        Fault::EndListener => began = end_sessions(world, "query ILIKE '%LISTEN%'", &mut broken).await,
        Fault::EndPublisher => began = end_sessions(world, "query ILIKE '%notify%'", &mut broken).await,
        Fault::LockTable(_) => {
            let admin = world.admin().await;
            admin.execute("BEGIN; LOCK TABLE socket_io_attachments").await;
            began = Moment::now();
            sleep(lasts).await;
            admin.execute("COMMIT").await;
        }
        Fault::Revoke(_) => {
            let admin = world.admin().await;
            began = Moment::now();
            admin.execute(&format!("REVOKE ALL ON socket_io_attachments FROM {VICTIM}")).await;
            sleep(lasts).await;
            admin.execute(&grant(VICTIM)).await;
        }
        Fault::FreezePostgres(_) => {
            let frozen = Frozen::server(postmaster(&world.primary), lasts);
            sleep(lasts).await;
            drop(frozen);
        }
        Fault::FreezeNode(_) => {
            let pids = [world.a.pid(), world.node05.pid().await];
            let frozen = Frozen::processes(&pids.into_iter().flatten().collect::<Vec<_>>(), lasts);
            sleep(lasts).await;
            drop(frozen);
        }
        Fault::KillNode => {
            tokio::join!(world.a.kill(), world.node05.kill());
            tokio::join!(world.a.start_again(), world.node05.start_again());
        }
        Fault::Exhausted(_) => exhaust(world, lasts).await,
        Fault::Password(_) => {
            let admin = world.admin().await;
            admin.execute(&format!("ALTER ROLE {VICTIM} PASSWORD 'another'")).await;
            began = Moment::now();
            world.reset_victims();
            sleep(lasts).await;
            admin.execute(&format!("ALTER ROLE {VICTIM} PASSWORD '{PASSWORD}'")).await;
        }
        Fault::Failover | Fault::FailoverCrash => return failover(world, fault).await,
    }
    Injected { began, answers: Moment::now(), failover: None, broken }
}

/// Keeps the connections of the victims in a mode.
async fn hold(world: &World, mode: Mode, time: Duration) {
    world.set_victims(mode);
    sleep(time).await;
    world.set_victims(Mode::default());
}

async fn restart(world: &mut World, how: Shutdown) {
    world.primary.take_down(how).await.expect("it can be stopped");
    world.primary.start_again().await.expect("it starts again");
}

/// Ends the sessions of each victim whose last statement is such a one; returns when those of A ended.
async fn end_sessions(world: &World, condition: &str, broken: &mut Vec<Broken>) -> Moment {
    let admin = world.admin().await;
    let mut began = Moment::now();
    for victim in ["soak-node05", "soak-a"] {
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = '{victim}' AND {condition}"
        );
        // The last statement of a session varies.
        began = Moment::now();
        let deadline = Instant::now() + Duration::from_secs(3);
        while admin.count(&end).await == 0 {
            if Instant::now() > deadline {
                let seen = format!("{victim} has no session with {condition}");
                broken.push(Broken::new(Check::Harness, seen));
                break;
            }
            sleep(Duration::from_millis(5)).await;
            began = Moment::now();
        }
    }
    began
}

/// Takes every connection that Postgres allows, so that the victims cannot come back.
async fn exhaust(world: &World, time: Duration) {
    // Until all are taken the victims may not even try.
    world.set_victims(Mode { refuse: true, ..Mode::default() });
    world.reset_victims();
    let url = format!("postgres://{FILLER}@127.0.0.1:{}/pgio", world.primary.port());
    let mut taken = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
        taken.push((client, tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection))));
    }
    world.set_victims(Mode::default());
    sleep(time).await;
    drop(taken);
    let is_free = async || tokio_postgres::connect(&url, NoTls).await.is_ok();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_free().await && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn failover(world: &mut World, fault: Fault) -> Injected {
    let standby = Standby::start(&world.primary, world.standby_port).await;
    let began = Moment::now();
    let frozen = match fault {
        Fault::FailoverCrash => {
            world.primary.take_down(Shutdown::Immediate).await.expect("it can be stopped");
            None
        }
        _ => {
            let postmaster = postmaster(&world.primary);
            let frozen = Frozen::server(postmaster, BEFORE_PROMOTION + THAWED + Duration::from_secs(60));
            sleep(BEFORE_PROMOTION).await;
            Some(frozen)
        }
    };
    standby.promote().await;
    // The Node packages know one address; an operator would move it to the new primary.
    world.proxy_node05.set_upstream(standby.port());
    world.proxy_node03.set_upstream(standby.port());
    let failover = Failover { standby, frozen };
    Injected { began, answers: Moment::now(), failover: Some(failover), broken: Vec::new() }
}

impl Failover {
    /// Lets the old primary go on, if it is there, and checks that every session of a node is on the new one.
    pub async fn thaw(&mut self, world: &World) -> Vec<Broken> {
        let mut old = None;
        if let Some(frozen) = self.frozen.take() {
            drop(frozen);
            old = Some(world.admin().await);
        }
        let new = match Admin::connect(self.standby.url()).await {
            Ok(new) => new,
            Err(error) => {
                return vec![Broken::new(
                    Check::Harness,
                    format!("the new primary does not answer: {error}"),
                )];
            }
        };
        let mut broken = Vec::new();
        let deadline = Instant::now() + THAWED;
        for name in ["soak-a", "soak-b"] {
            loop {
                let at_old = match &old {
                    Some(old) => sessions(old, name).await,
                    None => 0,
                };
                let at_new = sessions(&new, name).await;
                if at_old == 0 && at_new >= 2 {
                    break;
                }
                if Instant::now() > deadline {
                    let seconds = THAWED.as_secs();
                    let seen = format!(
                        "{name} has {at_old} sessions on the old primary and {at_new} on the new one, {seconds} s later"
                    );
                    broken.push(Broken::new(Check::OneServer, seen));
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        broken
    }
}
