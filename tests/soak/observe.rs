//! Observes the cluster: where events flow, where they are lost, and when a member has recovered.

use super::clock::Moment;
use super::ledger::Pair;
use super::routes::{Member, Reach, Routes};
use super::world::World;

/// When a member had recovered: a later event has come on each route, and `/readyz` says 200.
pub fn recovered_since(world: &World, member: Member, reach: Reach, answers: Moment) -> Option<Moment> {
    let flows = flows_since(world, &member.inline(reach), answers)?;
    match member {
        Member::A => Some(flows.max(world.a.ready_since()?)),
        _ => Some(flows),
    }
}

/// When an event had come on each route that was sent at that moment or later.
pub fn flows_since(world: &World, routes: &Routes, moment: Moment) -> Option<Moment> {
    routes
        .timed()
        .map(|pair| world.ledger.flows_since(pair, moment))
        .try_fold(moment, |last, flows| Some(last.max(flows?)))
}

/// The events that were published and did not arrive: the numbers for each route.
pub fn lost(world: &World, routes: &Routes, from: Moment, until: Moment) -> Vec<(Pair, Vec<u64>)> {
    let verdicts = routes.all().map(|pair| (pair, world.ledger.verdict(pair, from, until).lost));
    verdicts.filter(|(_, lost)| !lost.is_empty()).collect()
}

/// The window for events with an attachment: a second earlier, as the round does not wait for the last ones.
pub fn files_span(world: &World, from: Moment, until: Moment) -> (Moment, Moment) {
    (Moment(from.0 - 1000).max(world.flows_since), Moment(until.0 - 1000))
}
