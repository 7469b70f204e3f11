//! The acknowledgements of a broadcast.

use crate::cluster::{Answer, Collected, Unresponsive};
use crate::protocol::{Uid, Value};
use crate::{Error, Result};

/// The acknowledgements of a broadcast that arrived in time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Acknowledgements<A> {
    /// The first argument of each acknowledgement, in the order of their arrival.
    pub answers: Vec<A>,
    /// The number of clients that got the event.
    pub expected: u64,
    /// The nodes that did not send their number of clients, or not all acknowledgements.
    pub silent: Vec<Uid>,
    /// The number of nodes that answered in full.
    pub nodes: usize,
    /// Whether the request knew all live nodes, as in [`Collected`].
    pub knew_nodes: bool,
    /// Servers that listen, as Postgres shows, and sent no message in time.
    pub unresponsive: Unresponsive,
}

impl<A> Acknowledgements<A> {
    /// Whether every client of every live node acknowledged in time.
    pub fn is_complete(&self) -> bool {
        self.knew_nodes && self.silent.is_empty() && self.unresponsive.servers() == 0
    }

    pub(super) fn read(collected: Collected<Value>) -> Result<Self>
    where
        A: serde::de::DeserializeOwned,
    {
        let Collected { answers, expected, silent, nodes, knew_nodes, unresponsive, .. } = collected;
        let answers = answers
            .into_iter()
            .map(|Answer { value, .. }| value.into_rust())
            .collect::<Result<_, Error>>()?;
        Ok(Self { answers, expected, silent, nodes, knew_nodes, unresponsive })
    }
}

impl<A> IntoIterator for Acknowledgements<A> {
    type Item = A;
    type IntoIter = std::vec::IntoIter<A>;

    fn into_iter(self) -> Self::IntoIter {
        self.answers.into_iter()
    }
}

impl<'a, A> IntoIterator for &'a Acknowledgements<A> {
    type Item = &'a A;
    type IntoIter = std::slice::Iter<'a, A>;

    fn into_iter(self) -> Self::IntoIter {
        self.answers.iter()
    }
}
