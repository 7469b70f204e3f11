//! The servers side by side: how many events a second get through them, and what their clients cost. Beside them the
//! least that it can cost: a bare LISTEN, socketioxide without Postgres, and a bare `write`.

use std::io;

use super::peers::Peer;
use super::programs::Programs;
use super::publisher::Publisher;
use super::report::{self, Row};
use super::server::Server;
use super::work::Work;
use super::{alone, bare_listen, bare_write, clients, load, one_worker};

const ROUNDS: usize = 3;
const IDLE: usize = 1_000;

/// Clients, and events to each of them.
const FLOODS: [(usize, usize); 4] = [(1, 100_000), (100, 5_000), (1_000, 1_000), (5_000, 200)];

/// Events of the bare LISTEN: it is fast.
const LISTENED: usize = 300_000;

const BARE_LISTEN: &str = "LISTEN \"socket.io#/\"";

/// What one server did in one round.
struct Round {
    floods: Vec<Work>,
    /// MiB of memory with idle clients.
    memory: f64,
}

/// What the bare ones did in one round.
struct Bare {
    listen: Work,
    lost: usize,
    floods: Vec<Work>,
    alone: Vec<Work>,
}

pub async fn run(programs: &Programs) -> io::Result<()> {
    let count = programs.rounds(ROUNDS);
    let mut rounds = Vec::new();
    let mut one_worker = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..count {
        let mut round = Vec::new();
        for peer in Peer::ALL {
            let outcome = serve(programs, peer).await;
            round.push(outcome.map_err(|error| io::Error::other(format!("{}: {error}", peer.name())))?);
        }
        rounds.push(round);
        one_worker.push(with_one_worker(programs).await?);
        bare.push(bare_round(programs).await?);
    }
    let of = |value: &dyn Fn(&Round) -> f64| {
        let row = |(index, peer): (usize, Peer)| {
            let values = rounds.iter().map(|round| value(&round[index])).collect();
            Row::new(peer.name(), values, peer.command())
        };
        Peer::ALL.into_iter().enumerate().map(row).collect::<Vec<_>>()
    };
    let of_bare = |name, value: &dyn Fn(&Bare) -> f64, command| {
        Row::new(name, bare.iter().map(value).collect(), command)
    };

    let of_one_worker = |value: &dyn Fn(&Vec<Work>) -> f64| {
        Row::new(one_worker::NAME, one_worker.iter().map(value).collect(), one_worker::COMMAND)
    };

    for (index, (clients, events)) in FLOODS.into_iter().enumerate() {
        let clients = if clients == 1 { "one client".into() } else { format!("{clients} clients") };
        report::heading(&format!("{events} small events at full speed to {clients}: deliveries"));
        report::draw("");
        let mut rows = of(&|round| round.floods[index].rate);
        rows.push(of_one_worker(&|floods| floods[index].rate));
        if index == 0 {
            rows.push(of_bare("bare LISTEN, no clients", &|bare| bare.listen.rate, BARE_LISTEN));
        }
        rows.push(of_bare(alone::NAME, &|bare| bare.alone[index].rate, alone::COMMAND));
        rows.push(of_bare(bare_write::NAME, &|bare| bare.floods[index].rate, bare_write::COMMAND));
        let [node, socketioxide, pgio] = report::rows("events/s", &mut rows);
        report::ratio("pgio : Node", pgio / node);
        report::ratio("pgio : socketioxide", pgio / socketioxide);
        if index == 0 {
            let lost: usize = bare.iter().map(|bare| bare.lost).sum();
            report::figures("bare LISTEN", &[("notifications lost", lost as i64)], BARE_LISTEN);
        }

        report::heading(&format!(
            "{events} small events at full speed to {clients}: processor time a delivery"
        ));
        let mut rows = of(&|round| round.floods[index].processor);
        rows.push(of_one_worker(&|floods| floods[index].processor));
        if index == 0 {
            rows.push(of_bare("bare LISTEN, no clients", &|bare| bare.listen.processor, BARE_LISTEN));
        }
        rows.push(of_bare(alone::NAME, &|bare| bare.alone[index].processor, alone::COMMAND));
        rows.push(of_bare(bare_write::NAME, &|bare| bare.floods[index].processor, bare_write::COMMAND));
        report::processor_times(&mut rows);
    }
    report::heading(&format!("Resident memory with {IDLE} idle clients"));
    report::draw("");
    let [node, socketioxide, pgio] = report::rows("MiB", &mut of(&|round| round.memory));
    report::ratio("pgio : Node", pgio / node);
    report::ratio("pgio : socketioxide", pgio / socketioxide);
    Ok(())
}

async fn serve(programs: &Programs, peer: Peer) -> io::Result<Round> {
    let publisher = peer.publisher(programs).await?;
    // Memory first, as the process has only just started.
    let server = peer.start(programs)?;
    let idle = clients::connect(&server.address, IDLE).await?;
    let memory = server.memory()? as f64 / f64::from(1 << 20);
    drop(idle);
    Ok(Round { floods: deliver(&publisher, &server).await?, memory })
}

async fn with_one_worker(programs: &Programs) -> io::Result<Vec<Work>> {
    deliver(&Peer::Pgio.publisher(programs).await?, &one_worker::start(programs)?).await
}

async fn deliver(publisher: &Publisher, server: &Server) -> io::Result<Vec<Work>> {
    // Of a server that has warmed up.
    clients::until_reached(publisher, &server.address).await?;
    load::flood(publisher, clients::connect(&server.address, 1).await?, FLOODS[0].1 / 10).await?;
    let mut floods = Vec::new();
    for (count, events) in FLOODS {
        let clients = clients::connect(&server.address, count).await?;
        let before = server.processor_time()?;
        let rate = load::flood(publisher, clients, events).await?;
        floods.push(Work { rate, processor: server.per_delivery(before, count * events)? });
    }
    Ok(floods)
}

async fn bare_round(programs: &Programs) -> io::Result<Bare> {
    let publisher = Peer::Pgio.publisher(programs).await?;
    let (listen, lost) = bare_listen::measure(programs, &publisher, LISTENED).await?;
    let mut floods = Vec::new();
    for (count, events) in FLOODS {
        floods.push(bare_write::measure(count, events, 0).await?);
    }
    Ok(Bare { listen, lost, floods, alone: alone_round(programs).await? })
}

async fn alone_round(programs: &Programs) -> io::Result<Vec<Work>> {
    let mut server = alone::start(programs)?;
    alone::measure(&mut server, 1, FLOODS[0].1 / 10, 0).await?;
    let mut floods = Vec::new();
    for (count, events) in FLOODS {
        floods.push(alone::measure(&mut server, count, events, 0).await?);
    }
    Ok(floods)
}
