//! The acknowledgements of a broadcast.

use crate::cluster::{Answer, Collected};
use crate::protocol::{Uid, Value};
use crate::{Error, Result};

/// The acknowledgements of a broadcast: those that came in time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Acknowledgements<A> {
    /// The first argument of each acknowledgement, in the order in which they came.
    pub answers: Vec<A>,
    /// How many clients were sent the event.
    pub expected: u64,
    /// Nodes that did not say how many clients they have, or that miss acknowledgements of some.
    pub silent: Vec<Uid>,
    /// How many nodes answered completely.
    pub nodes: usize,
}

impl<A> Acknowledgements<A> {
    /// Whether every client of every live node acknowledged in time.
    pub fn is_complete(&self) -> bool {
        self.silent.is_empty()
    }

    pub(super) fn read(collected: Collected<Value>) -> Result<Self>
    where
        A: serde::de::DeserializeOwned,
    {
        let Collected { answers, expected, silent, nodes, .. } = collected;
        let answers = answers
            .into_iter()
            .map(|Answer { value, .. }| value.into_rust())
            .collect::<Result<_, Error>>()?;
        Ok(Self { answers, expected, silent, nodes })
    }
}

impl<A> IntoIterator for Acknowledgements<A> {
    type Item = A;
    type IntoIter = std::vec::IntoIter<A>;

    fn into_iter(self) -> Self::IntoIter {
        self.answers.into_iter()
    }
}
