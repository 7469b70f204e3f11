//! Keeps the server busy while many messages wait (pipelining).
//!
//! A transaction with one batch leaves the server idle from its commit until the next batch arrives. Here a transaction
//! takes several batches, and each is sent while the server works on the one before. The first batches of the next
//! transaction are sent before the commit is answered. A failure does not change the order: the server rolls back all
//! batches of its transaction and rejects the next transaction ([`CommitOrder`](super::commit_order::CommitOrder)), and
//! both are sent again, in order.

use std::pin::pin;
use std::task::Poll;

use futures_util::poll;

use super::Job;
use super::committed::Committed;
use super::intake::Intake;
use super::sender::{Failed, Sender};
use super::transaction::Transaction;
use crate::Error;

/// The transactions in flight.
struct Flight {
    first: Transaction,
    /// The transaction that was sent before the first one has ended.
    ahead: Option<Transaction>,
}

impl Flight {
    /// The transaction that later batches may join.
    fn last(&mut self) -> &mut Transaction {
        self.ahead.as_mut().unwrap_or(&mut self.first)
    }
}

impl Intake {
    /// Sends the full batch, and those that fill up meanwhile. Returns once a transaction has ended and no other is in
    /// flight.
    pub(super) async fn stream(&mut self, sender: &mut Sender, before: Committed) -> Committed {
        let jobs = self.batch.take_first();
        let (begun, before) = {
            let mut beginning = pin!(sender.begin(self.order.next()));
            match poll!(&mut beginning) {
                Poll::Ready(begun) => (begun, before),
                Poll::Pending => {
                    drop(before);
                    (beginning.await, Committed::default())
                }
            }
        };
        let first = match begun {
            Ok(transaction) => transaction,
            Err(failed) => {
                drop(before);
                return sender.settle(jobs, Err(failed)).await;
            }
        };
        let mut flight = Flight { first, ahead: None };
        let ended = self.send_transactions(sender, &mut flight, jobs, before).await;
        self.settle_flight(sender, flight, ended).await
    }

    /// Sends batches until a transaction has ended and no other is in flight, or has failed. Fails if the
    /// connection was lost.
    async fn send_transactions(
        &mut self,
        sender: &Sender,
        flight: &mut Flight,
        jobs: Vec<Job>,
        mut before: Committed,
    ) -> Result<(), Error> {
        let live = flight.first.live.clone();
        flight.first.send(jobs).await;
        let mut lost = pin!(sender.lost(&live, flight.first.answer_timeout()));
        loop {
            self.fill();
            if self.batch.room() == 0 && self.may_join() {
                if flight.last().takes_another() {
                    flight.last().send(self.batch.take_next()).await;
                    if flight.ahead.is_none() {
                        lost.set(sender.lost(&live, flight.first.answer_timeout()));
                    }
                    continue;
                }
                if flight.ahead.is_none() && self.may_send_ahead(sender, &flight.first) {
                    let ahead = flight.ahead.insert(flight.first.followed_by(self.order.next()));
                    ahead.send(self.batch.take_first()).await;
                    continue;
                }
            }
            drop(std::mem::take(&mut before));
            tokio::select! {
                biased;
                () = flight.first.answered() => {
                    let first = &mut flight.first;
                    if first.is_ending() {
                        if first.error.is_some() {
                            return Ok(());
                        }
                        let Some(ahead) = flight.ahead.take() else { return Ok(()) };
                        sender.clear_fault();
                        before = std::mem::replace(first, ahead).into_batches().into();
                    } else {
                        // Fewer messages arrive than the server commits, so it ends with those that wait.
                        if first.takes_another() && !self.batch.is_empty() && self.may_join() {
                            first.send(self.batch.take_next()).await;
                        }
                        if !first.is_ending() {
                            first.end().await;
                        }
                    }
                    lost.set(sender.lost(&live, flight.first.answer_timeout()));
                }
                error = &mut lost => return Err(error),
                () = self.receive_next() => {}
            }
        }
    }

    /// Reports the outcome of the transactions, and sends failed ones again as far as the failure allows.
    async fn settle_flight(
        &mut self,
        sender: &mut Sender,
        flight: Flight,
        ended: Result<(), Error>,
    ) -> Committed {
        let Flight { mut first, mut ahead } = flight;
        let is_out_of_order = ended.is_ok() && first.is_out_of_order();
        let id = first.id.take();
        let failed = match (ended, first.error.take()) {
            (Err(lost), _) => Failed::unknown(lost, id, &first.live),
            (Ok(()), Some(error)) => sender.failed(&error, id, &first.live),
            (Ok(()), None) => {
                sender.clear_fault();
                return first.into_batches().into();
            }
        };
        let unknown = match &failed {
            Failed::UnknownOutcome(error, _) => Some(error.clone()),
            _ => None,
        };
        match (&mut ahead, &unknown) {
            (Some(ahead), None) => ahead.roll_back().await,
            // The transaction must not stay open if the session lives.
            (Some(ahead), Some(_)) => sender.abandon(&ahead.live).await,
            (None, _) => {}
        }
        let committed = match is_out_of_order {
            true => {
                self.order.stop_sending_ahead();
                sender.send(first.into_jobs()).await
            }
            false => sender.settle(first.into_jobs(), Err(failed)).await,
        };
        let Some(ahead) = ahead else { return committed };
        // Its receipts resolve after those of the first one.
        drop(committed);
        match unknown {
            Some(error) => {
                let failed = Failed::unknown(error, None, &ahead.live);
                sender.settle(ahead.into_jobs(), Err(failed)).await
            }
            None => sender.send(ahead.into_jobs()).await,
        }
    }

    /// Whether the next transaction may be sent before this one has ended.
    fn may_send_ahead(&self, sender: &Sender, first: &Transaction) -> bool {
        self.order.may_send_ahead()
            && first.is_committing()
            && sender.fails_on_loss()
            && sender.is_current(&first.live)
    }

    /// Whether the batch may be sent in a transaction that is open, or ahead. Announcements come before it.
    fn may_join(&self) -> bool {
        self.batch.is_inline() && self.announced.is_empty()
    }
}
