//! Asks the server for the outcome of a transaction whose connection was lost while it was in flight.

use std::time::Instant;

use tokio::time::sleep;

use super::{ANSWER_TIMEOUT, BACKOFF, Sender, UnknownTransaction};
use crate::Result;
use crate::postgres::same_server::SessionPlace;
use crate::postgres::session::Live;
use crate::postgres::{batch, failure};

impl Sender {
    /// Asks the server whether a transaction was committed. `None` if the server cannot tell: it is another server, or it
    /// was restarted and may have reused the transaction id. `can_tell` is false if an earlier attempt could not reach it.
    pub(super) async fn was_committed(
        &self,
        unknown: Option<UnknownTransaction>,
        can_tell: bool,
    ) -> Option<bool> {
        let UnknownTransaction { transaction, live: old } = unknown.filter(|_| can_tell)?;
        let live = self.session.replace(&old).await.ok()?;
        if old.place.as_ref()?.server != live.place.as_ref()?.server {
            return None;
        }
        let until = Instant::now() + ANSWER_TIMEOUT;
        while Instant::now() < until {
            let status = batch::transaction_status(&live.client, &transaction);
            match self.answer(&live, ANSWER_TIMEOUT, status).await.ok()?.ok()?.as_deref() {
                Some("committed") => return Some(true),
                Some("aborted") => return Some(false),
                Some(_) => sleep(BACKOFF.0).await,
                None => return None,
            }
        }
        None
    }

    /// Asks the server whether a transaction with a durable event was committed, with retries. It first ends the lost
    /// session, which may commit later. A restarted or promoted server also has the row.
    pub(super) async fn was_row_inserted(
        &self,
        unknown: Option<UnknownTransaction>,
        identity: &[u8],
    ) -> Option<bool> {
        let UnknownTransaction { transaction, live: old } = unknown?;
        loop {
            let error = match self.try_find_row(&transaction, &old, identity).await {
                Ok(found) => return found,
                Err(error) => error,
            };
            if self.gives_up(&error) {
                return None;
            }
            sleep(BACKOFF.1).await;
        }
    }

    async fn try_find_row(&self, transaction: &str, old: &Live, identity: &[u8]) -> Result<Option<bool>> {
        let live = self.session.replace(old).await?;
        let is_same = |old: &SessionPlace| live.place.as_ref().is_some_and(|new| new.server == old.server);
        let fail = |error: tokio_postgres::Error| failure(&error);
        if old.place.as_ref().is_some_and(is_same) {
            let until = Instant::now() + ANSWER_TIMEOUT;
            loop {
                let status = batch::transaction_status(&live.client, transaction);
                match self.answer(&live, ANSWER_TIMEOUT, status).await?.map_err(fail)?.as_deref() {
                    Some("committed") => return Ok(Some(true)),
                    Some("aborted") => return Ok(Some(false)),
                    Some(_) if Instant::now() < until => sleep(BACKOFF.0).await,
                    Some(_) => return Ok(None),
                    None => break,
                }
            }
        }
        let found = batch::has_row(&live.client, self.table.unchecked(), identity);
        Ok(Some(self.answer(&live, ANSWER_TIMEOUT, found).await?.map_err(fail)?))
    }
}
