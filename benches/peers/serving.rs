//! The servers side by side: how many events a second get through them, and what their clients cost. Beside them the
//! least that it can cost: a bare LISTEN, socketioxide without Postgres, and a bare `write`.

use std::io;

use super::peers::Peer;
use super::programs::Programs;
use super::publisher::Publisher;
use super::report::{self, Row};
use super::server::Server;
use super::work::Work;
use super::{alone, bare_listen, bare_write, clients, load};

const ROUNDS: usize = 3;
const IDLE: usize = 1_000;

/// Clients, and events to each of them.
const FLOODS: [(usize, usize); 4] = [(1, 100_000), (100, 5_000), (1_000, 1_000), (5_000, 200)];

/// Events at a steady pace: clients, events, and events a second.
const PACED: [(usize, usize, u32); 2] = [(100, 1_000, 200), (5_000, 40, 10)];

/// Events of the bare LISTEN: it is fast.
const LISTENED: usize = 300_000;

const BARE_WRITE: &str = "one write(2) a frame and client";
const ONE_WORKER: &str = "TOKIO_WORKER_THREADS=1 pgio serve";
const BARE_LISTEN: &str = "LISTEN \"socket.io#/\"";

/// What one server did in one round.
struct Round {
    deliveries: Deliveries,
    /// MiB of memory with idle clients.
    memory: f64,
}

/// What the bare ones did in one round.
struct Bare {
    listen: Work,
    lost: usize,
    floods: Vec<Work>,
    paced: Vec<f64>,
    alone: Deliveries,
}

/// What a server did for its clients in one round.
struct Deliveries {
    floods: Vec<Work>,
    /// Processor time a delivery.
    paced: Vec<f64>,
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

    let of_one_worker = |value: &dyn Fn(&Deliveries) -> f64| {
        Row::new("pgio, one worker thread", one_worker.iter().map(value).collect(), ONE_WORKER)
    };

    for (index, (clients, events)) in FLOODS.into_iter().enumerate() {
        let clients = if clients == 1 { "one client".into() } else { format!("{clients} clients") };
        report::heading(&format!("{events} small events at full speed to {clients}: deliveries"));
        report::draw("");
        let mut rows = of(&|round| round.deliveries.floods[index].rate);
        rows.push(of_one_worker(&|work| work.floods[index].rate));
        if index == 0 {
            rows.push(of_bare("bare LISTEN, no clients", &|bare| bare.listen.rate, BARE_LISTEN));
        }
        rows.push(of_bare(alone::NAME, &|bare| bare.alone.floods[index].rate, alone::COMMAND));
        rows.push(of_bare("bare write, no Postgres", &|bare| bare.floods[index].rate, BARE_WRITE));
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
        let mut rows = of(&|round| round.deliveries.floods[index].processor);
        rows.push(of_one_worker(&|work| work.floods[index].processor));
        if index == 0 {
            rows.push(of_bare("bare LISTEN, no clients", &|bare| bare.listen.processor, BARE_LISTEN));
        }
        rows.push(of_bare(alone::NAME, &|bare| bare.alone.floods[index].processor, alone::COMMAND));
        rows.push(of_bare("bare write, no Postgres", &|bare| bare.floods[index].processor, BARE_WRITE));
        processor(&mut rows);
    }
    for (index, (clients, _, pace)) in PACED.into_iter().enumerate() {
        report::heading(&format!(
            "{pace} small events a second to {clients} clients: processor time a delivery"
        ));
        report::draw("");
        let mut rows = of(&|round| round.deliveries.paced[index]);
        rows.push(of_one_worker(&|work| work.paced[index]));
        rows.push(of_bare(alone::NAME, &|bare| bare.alone.paced[index], alone::COMMAND));
        rows.push(of_bare("bare write, no Postgres", &|bare| bare.paced[index], BARE_WRITE));
        processor(&mut rows);
        let [pgio, alone, write] =
            [&rows[2], &rows[4], &rows[5]].map(|row| report::median(&mut row.values.clone()));
        report::ratio("pgio : bare write", pgio / write);
        report::ratio("socketioxide, no Postgres : bare write", alone / write);
    }

    report::heading(&format!("Resident memory with {IDLE} idle clients"));
    report::draw("");
    let [node, socketioxide, pgio] = report::rows("MiB", &mut of(&|round| round.memory));
    report::ratio("pgio : Node", pgio / node);
    report::ratio("pgio : socketioxide", pgio / socketioxide);
    Ok(())
}

/// Rows of processor time, and what they are to pgio's.
fn processor(rows: &mut [Row]) {
    let [node, socketioxide, pgio] = report::rows("µs", rows);
    report::ratio("Node : pgio", node / pgio);
    report::ratio("socketioxide : pgio", socketioxide / pgio);
}

async fn serve(programs: &Programs, peer: Peer) -> io::Result<Round> {
    let publisher = peer.publisher(programs).await?;
    // Memory first, as the process has only just started.
    let server = peer.start(programs)?;
    let idle = clients::connect(&server.address, IDLE).await?;
    let memory = server.memory()? as f64 / f64::from(1 << 20);
    drop(idle);
    Ok(Round { deliveries: deliver(&publisher, &server).await?, memory })
}

async fn with_one_worker(programs: &Programs) -> io::Result<Deliveries> {
    let mut command = Peer::Pgio.server(programs, &["/".into()]);
    let server = Server::start(command.env("TOKIO_WORKER_THREADS", "1"))?;
    deliver(&Peer::Pgio.publisher(programs).await?, &server).await
}

async fn deliver(publisher: &Publisher, server: &Server) -> io::Result<Deliveries> {
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
    let mut paced = Vec::new();
    for (count, events, pace) in PACED {
        let clients = clients::connect(&server.address, count).await?;
        let before = server.processor_time()?;
        load::paced(publisher, clients, events, pace).await?;
        paced.push(server.per_delivery(before, count * events)?);
    }
    Ok(Deliveries { floods, paced })
}

async fn bare_round(programs: &Programs) -> io::Result<Bare> {
    let publisher = Peer::Pgio.publisher(programs).await?;
    let (listen, lost) = bare_listen::measure(programs, &publisher, LISTENED).await?;
    let mut floods = Vec::new();
    for (count, events) in FLOODS {
        floods.push(bare_write::measure(count, events, 0).await?);
    }
    let mut paced = Vec::new();
    for (count, events, pace) in PACED {
        paced.push(bare_write::measure(count, events, pace).await?.processor);
    }
    let alone = alone_round(programs).await?;
    Ok(Bare { listen, lost, floods, paced, alone })
}

async fn alone_round(programs: &Programs) -> io::Result<Deliveries> {
    let mut server = alone::start(programs)?;
    alone::measure(&mut server, 1, FLOODS[0].1 / 10, 0).await?;
    let (mut floods, mut paced) = (Vec::new(), Vec::new());
    for (count, events) in FLOODS {
        floods.push(alone::measure(&mut server, count, events, 0).await?);
    }
    for (count, events, pace) in PACED {
        paced.push(alone::measure(&mut server, count, events, pace).await?.processor);
    }
    Ok(Deliveries { floods, paced })
}
