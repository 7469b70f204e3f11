//! The channels in use, and those for which the server has confirmed `LISTEN`.
//!
//! Owns both sets and the one statement that may be in flight. In: handles that acquire and release channels, and the
//! answers of the server. Out: statements and confirmations. Invariant: with no statement in flight and none pending, the
//! wanted set equals the confirmed set.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use indexmap::IndexSet;

use super::delivery::Queue;
use super::instances::Instances;
use super::members::Member;
use super::peers::Peers;
use super::replay::DeliveredIds;
use super::{Statement, SubscriptionId};
use crate::Error;
use crate::protocol::{Channel, EnvelopeCache, Namespace, RequestId, Uid};

/// The maximum number of channels in one statement.
const MAX_CHANNELS_PER_STATEMENT: usize = 256;

/// The back-off before LISTEN is retried on a channel that the server refused and that earlier subscriptions still want.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A channel with subscriptions or requests.
pub(super) struct ChannelState {
    pub(super) channel: Channel,
    pub(super) namespace: Namespace,
    pub(super) subscribers: Vec<SubscriptionId>,
    pub(super) requests: IndexSet<RequestId>,
    pub(super) peers: Peers,
    /// The nodes of this process, usually one.
    pub(super) members: Vec<Member>,
    pub(super) queue: Queue,
    pub(super) delivered: DeliveredIds,
    /// The envelope of the last broadcast.
    pub(super) envelopes: EnvelopeCache,
    /// The generation number that tells this state from an earlier one of the same channel.
    pub(super) epoch: u64,
}

impl ChannelState {
    fn is_wanted(&self) -> bool {
        !self.subscribers.is_empty() || !self.requests.is_empty()
    }
}

/// The answer of the server to the LISTEN of a channel.
pub(super) struct Confirmation {
    pub(super) channel: Channel,
    pub(super) outcome: Result<(), Error>,
}

#[derive(Default)]
pub(super) struct Channels {
    wanted: HashMap<Channel, ChannelState>,
    confirmed: HashSet<Channel>,
    /// Wanted, and confirmed on an earlier connection but not on this one: their messages are missed for now.
    unrestored: HashSet<Channel>,
    /// Wanted, not confirmed, and in no statement.
    to_listen: BTreeSet<Channel>,
    /// Confirmed, not wanted, and in no statement.
    to_unlisten: BTreeSet<Channel>,
    /// The channels of a refused statement. Each is tried alone, to find the channel that the server refuses.
    suspects: VecDeque<Channel>,
    /// Refused, and still wanted by earlier subscriptions, with the time of the retry.
    refused: BTreeMap<Channel, Instant>,
    in_flight: Option<Statement>,
    last_epoch: u64,
}

impl Channels {
    pub(super) fn get(&self, channel: &Channel) -> Option<&ChannelState> {
        self.wanted.get(channel)
    }

    pub(super) fn get_mut(&mut self, channel: &Channel) -> Option<&mut ChannelState> {
        self.wanted.get_mut(channel)
    }

    /// Finds a channel by its name, without an allocation.
    pub(super) fn get_by_name(&mut self, name: &str) -> Option<&mut ChannelState> {
        self.wanted.get_mut(name)
    }

    pub(super) fn has_any(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn confirmed(&self) -> usize {
        self.confirmed.len()
    }

    pub(super) fn sets(&self) -> (Vec<Channel>, Vec<Channel>) {
        let mut wanted: Vec<_> = self.wanted.keys().cloned().collect();
        let mut confirmed: Vec<_> = self.confirmed.iter().cloned().collect();
        wanted.sort();
        confirmed.sort();
        (wanted, confirmed)
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.wanted.values().map(|state| state.queue.bytes()).sum()
    }

    pub(super) fn is_confirmed(&self, channel: &Channel) -> bool {
        self.confirmed.contains(channel)
    }

    /// Whether the session listens to every channel that it listened to before. A new channel, whose subscriber still
    /// waits, does not count.
    pub(super) fn all_restored(&self) -> bool {
        self.unrestored.is_empty()
    }

    /// The state of a channel, created if it is new. The caller adds itself to it. `receiving` holds the present moment and
    /// the heartbeat timeout while the connection answers.
    pub(super) fn acquire(
        &mut self,
        now: Instant,
        channel: &Channel,
        prefix: &str,
        receiving: Option<(Instant, Duration)>,
    ) -> &mut ChannelState {
        let is_confirmed = self.confirmed.contains(channel);
        if !self.wanted.contains_key(channel) {
            self.to_unlisten.remove(channel);
            if !is_confirmed && !self.is_in_flight(channel) {
                self.to_listen.insert(channel.clone());
            }
        }
        let epoch = &mut self.last_epoch;
        self.wanted.entry(channel.clone()).or_insert_with(|| {
            *epoch += 1;
            let mut peers = Peers::default();
            if let Some((now, timeout)) = receiving.filter(|_| is_confirmed) {
                peers.on_listening(now, timeout);
            }
            ChannelState {
                channel: channel.clone(),
                namespace: channel.namespace(prefix).unwrap_or_default(),
                subscribers: Vec::new(),
                requests: IndexSet::new(),
                peers,
                members: Vec::new(),
                queue: Queue::default(),
                delivered: DeliveredIds::new(now, is_confirmed),
                envelopes: EnvelopeCache::default(),
                epoch: *epoch,
            }
        })
    }

    /// Removes one use of a channel. An unused channel is removed.
    pub(super) fn release(&mut self, channel: &Channel, remove_use: impl FnOnce(&mut ChannelState)) {
        let Some(state) = self.wanted.get_mut(channel) else { return };
        remove_use(state);
        if state.is_wanted() {
            return;
        }
        self.wanted.remove(channel);
        self.to_listen.remove(channel);
        self.refused.remove(channel);
        self.unrestored.remove(channel);
        self.suspects.retain(|suspect| suspect != channel);
        if self.confirmed.contains(channel) {
            self.to_unlisten.insert(channel.clone());
        }
    }

    fn is_in_flight(&self, channel: &Channel) -> bool {
        self.in_flight.as_ref().is_some_and(|statement| {
            statement.listen.contains(channel) || statement.unlisten.contains(channel)
        })
    }

    /// The next statement, if none is in flight and the two sets differ.
    pub(super) fn next_statement(&mut self) -> Option<Statement> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut statement = Statement::default();
        if let Some(suspect) = self.suspects.pop_front() {
            statement.listen.push(suspect);
        } else {
            while statement.listen.len() < MAX_CHANNELS_PER_STATEMENT
                && let Some(channel) = self.to_listen.pop_first()
            {
                statement.listen.push(channel);
            }
            while statement.listen.len() + statement.unlisten.len() < MAX_CHANNELS_PER_STATEMENT
                && let Some(channel) = self.to_unlisten.pop_first()
            {
                self.confirmed.remove(&channel);
                statement.unlisten.push(channel);
            }
        }
        if statement.listen.is_empty() && statement.unlisten.is_empty() {
            return None;
        }
        self.in_flight = Some(statement.clone());
        Some(statement)
    }

    pub(super) fn statement_done(&mut self, now: Instant, outcome: Result<(), Error>) -> Vec<Confirmation> {
        let Some(Statement { listen, unlisten }) = self.in_flight.take() else { return Vec::new() };
        match outcome {
            Ok(()) => {
                for channel in unlisten {
                    if self.wanted.contains_key(&channel) {
                        self.to_listen.insert(channel);
                    }
                }
                listen.into_iter().filter_map(|channel| self.confirm(channel)).collect()
            }
            Err(error) => {
                // The server has rolled back the whole statement.
                let mut confirmations = self.refuse(now, listen, &error);
                confirmations.extend(unlisten.into_iter().filter_map(|channel| self.confirm(channel)));
                confirmations
            }
        }
    }

    fn confirm(&mut self, channel: Channel) -> Option<Confirmation> {
        self.confirmed.insert(channel.clone());
        self.unrestored.remove(&channel);
        if !self.wanted.contains_key(&channel) {
            self.to_unlisten.insert(channel);
            return None;
        }
        Some(Confirmation { channel, outcome: Ok(()) })
    }

    /// A refused statement with one channel: the server refuses that channel. With several channels, each is tried alone.
    fn refuse(&mut self, now: Instant, mut channels: Vec<Channel>, error: &Error) -> Vec<Confirmation> {
        let names_one_channel = channels.len() == 1;
        channels.retain(|channel| self.wanted.contains_key(channel));
        if !names_one_channel {
            self.suspects.extend(channels);
            return Vec::new();
        }
        self.refused.extend(channels.iter().map(|channel| (channel.clone(), now + RETRY_DELAY)));
        let refusal = |channel| Confirmation { channel, outcome: Err(error.clone()) };
        channels.into_iter().map(refusal).collect()
    }

    /// Queues the refused channels whose back-off is over.
    pub(super) fn retry_refused(&mut self, now: Instant) {
        self.refused.retain(|channel, due| {
            let is_due = *due <= now;
            if is_due {
                self.to_listen.insert(channel.clone());
            }
            !is_due
        });
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.refused.values().min().copied()
    }

    /// A new connection, which already listens to these channels, has replaced the previous one.
    pub(super) fn connected(&mut self, listening: Vec<Channel>) -> Vec<Confirmation> {
        self.disconnected();
        for channel in &listening {
            self.to_listen.remove(channel);
        }
        listening.into_iter().filter_map(|channel| self.confirm(channel)).collect()
    }

    pub(super) fn disconnected(&mut self) {
        self.on_messages_lost();
        self.in_flight = None;
        self.unrestored.extend(self.confirmed.drain().filter(|channel| self.wanted.contains_key(channel)));
        self.to_unlisten.clear();
        self.suspects.clear();
        self.refused.clear();
        self.to_listen = self.wanted.keys().cloned().collect();
    }

    /// Opens a gap for all confirmed channels: their messages may be missed from that moment on. Returns these channels.
    pub(super) fn open_gaps(&mut self, since: Instant) -> Vec<Channel> {
        let mut channels = Vec::new();
        for state in self.wanted.values_mut().filter(|state| self.confirmed.contains(&state.channel)) {
            state.delivered.on_messages_lost(since);
            channels.push(state.channel.clone());
        }
        channels.sort();
        channels
    }

    pub(super) fn stall_peers(&mut self, now: Instant) {
        self.wanted.values_mut().for_each(|state| state.peers.on_stall(now));
    }

    /// Messages of all channels are lost.
    pub(super) fn on_messages_lost(&mut self) {
        self.wanted.values_mut().for_each(|state| state.peers.on_messages_lost());
    }

    /// Applies a snapshot of the locks to the peers of all channels; returns those whose process has ended, in order.
    pub(super) fn apply_locks(&mut self, instances: Option<&Instances>, now: Instant) -> Vec<(Channel, Uid)> {
        let mut dead = Vec::new();
        for (channel, state) in &mut self.wanted {
            let left = state.peers.apply_locks(instances, now);
            dead.extend(left.into_iter().map(|uid| (channel.clone(), uid)));
        }
        dead.sort();
        dead
    }

    /// The channels with nodes of this process, and whether the server has confirmed each.
    pub(super) fn with_members(&self) -> impl Iterator<Item = (&ChannelState, bool)> {
        let states = self.wanted.values().filter(|state| !state.members.is_empty());
        states.map(|state| (state, self.confirmed.contains(&state.channel)))
    }

    /// The nodes of this process on confirmed channels.
    pub(super) fn confirmed_members(&mut self) -> impl Iterator<Item = &mut Member> {
        let confirmed = &self.confirmed;
        let states = self.wanted.values_mut().filter(|state| confirmed.contains(&state.channel));
        states.flat_map(|state| &mut state.members)
    }

    /// Whether this process has nodes.
    pub(super) fn has_members(&self) -> bool {
        self.wanted.values().any(|state| !state.members.is_empty())
    }

    /// All nodes of this process.
    pub(super) fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.wanted.values_mut().flat_map(|state| &mut state.members)
    }

    /// Removes the peers whose heartbeat timeout is over, and returns them in order.
    pub(super) fn prune_peers(&mut self, now: Instant, timeout: Duration) -> Vec<(Channel, Uid)> {
        let mut dead = Vec::new();
        for (channel, state) in &mut self.wanted {
            dead.extend(state.peers.prune(now, timeout).into_iter().map(|uid| (channel.clone(), uid)));
        }
        dead.sort();
        dead
    }

    pub(super) fn resume_peers(&mut self, now: Instant, timeout: Duration) {
        let confirmed = &self.confirmed;
        let listening = self.wanted.values_mut().filter(|state| confirmed.contains(&state.channel));
        listening.for_each(|state| state.peers.on_listening(now, timeout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(channels: &mut Channels, name: &str) -> Channel {
        let channel = Namespace::new(name).channel("socket.io").unwrap();
        channels.acquire(Instant::now(), &channel, "socket.io", None).subscribers.push(SubscriptionId(1));
        channel
    }

    fn listen(channels: &mut Channels) {
        while channels.next_statement().is_some() {
            channels.statement_done(Instant::now(), Ok(()));
        }
    }

    #[test]
    fn a_new_channel_is_not_missed_and_a_lost_one_is() {
        let mut channels = Channels::default();
        acquire(&mut channels, "/");
        assert!(channels.all_restored());
        listen(&mut channels);
        let new = acquire(&mut channels, "/new");
        assert!(channels.next_statement().is_some());
        assert!(channels.all_restored(), "its subscriber waits for the confirmation");

        channels.disconnected();
        assert!(!channels.all_restored());
        channels.release(&new, |state| state.subscribers.clear());
        listen(&mut channels);
        assert!(channels.all_restored());

        // A channel without subscriptions misses nothing.
        channels.disconnected();
        let main = Namespace::default().channel("socket.io").unwrap();
        channels.release(&main, |state| state.subscribers.clear());
        assert!(channels.all_restored());
    }
}
