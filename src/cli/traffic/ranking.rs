//! Finds the heaviest of many names, and counts their messages in each of the last seconds.
//!
//! The number of rows is fixed. While all rows are taken, a new name counts as "other" until it is heavier than the
//! lightest row. Then it takes that row, and the past of the row becomes part of "other". So a name that comes once
//! displaces no other, and a name that becomes heavy is seen soon. Sums stay exact.

use std::collections::HashMap;

use super::ring::Ring;
use super::sketch::Sketch;
use crate::safe_text;

/// The maximum number of names with their own row.
pub(super) const ROWS: usize = 256;

/// The number of bytes of a name that are compared. Names with the same prefix of this length share a row.
const NAME_BYTES: usize = 120;

/// The half-life of the weight of a message, in seconds.
const HALF_LIFE: u64 = 60;

/// The separator between namespace and name in a key. No namespace contains it, since Postgres does not accept it in a
/// channel.
const SEPARATOR: char = '\0';

/// A number of messages, and of their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli) struct Count {
    pub(in crate::cli) messages: u64,
    pub(in crate::cli) bytes: u64,
}

/// The counts of one second. Both saturate.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    messages: u32,
    bytes: u32,
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }
}

impl Second {
    fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl From<Second> for Count {
    fn from(second: Second) -> Self {
        Self { messages: second.messages.into(), bytes: second.bytes.into() }
    }
}

/// A name and its counts.
pub(in crate::cli) struct Row {
    /// Namespace and name, as received.
    key: Box<str>,
    total: Count,
    seconds: Ring<Second>,
    /// The number of messages. Old messages count less.
    weight: u64,
}

impl Row {
    fn new(key: &str) -> Self {
        Self { key: key.into(), total: Count::default(), seconds: Ring::new(), weight: 0 }
    }

    fn add(&mut self, second: u64, bytes: u64) {
        self.total.messages += 1;
        self.total.bytes += bytes;
        self.weight += 1;
        let slot = self.seconds.at(second);
        slot.messages = slot.messages.saturating_add(1);
        slot.bytes = slot.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The namespace, as received. It may contain any text.
    pub(in crate::cli) fn namespace(&self) -> &str {
        self.key.split(SEPARATOR).next().unwrap_or_default()
    }

    /// The name, as received, but truncated. It may contain any text. `None` for a broadcast to all sockets, for an
    /// event without a name, and for the other names.
    pub(in crate::cli) fn name(&self) -> Option<&str> {
        self.key.split_once(SEPARATOR).map(|(_, name)| name)
    }

    /// The name, escaped for display.
    pub(in crate::cli) fn safe_name(&self) -> Option<String> {
        self.name().map(|name| safe_text::cut(name, NAME_BYTES).into_owned())
    }

    /// The counts since the name has a row.
    #[cfg(test)]
    pub(in crate::cli) fn total(&self) -> Count {
        self.total
    }

    /// The sum of at most `seconds` seconds before `second`.
    pub(in crate::cli) fn recent(&self, second: u64, seconds: usize) -> Count {
        self.seconds.before(second, seconds).map(Count::from).fold(Count::default(), Count::plus)
    }

    /// The messages in each of at most `seconds` seconds before `second`, the oldest first.
    pub(in crate::cli) fn history(&self, second: u64, seconds: usize) -> impl Iterator<Item = u64> + '_ {
        self.seconds.before(second, seconds).map(|second| second.messages.into())
    }
}

/// The ranking that the module describes.
pub(in crate::cli) struct Ranking {
    rows: Vec<Row>,
    places: HashMap<Box<str>, usize>,
    other: Row,
    sketch: Box<Sketch>,
    /// The second in which the weights were last halved.
    halved: u64,
    /// A lower bound of the weights of all rows.
    lightest: u64,
    /// A buffer for a key, so that a look-up allocates nothing.
    key: String,
}

impl Ranking {
    pub(super) fn new() -> Self {
        Self {
            rows: Vec::new(),
            places: HashMap::new(),
            other: Row::new(""),
            sketch: Sketch::new(),
            halved: 0,
            lightest: 0,
            key: String::new(),
        }
    }

    /// Counts a message.
    pub(super) fn add(&mut self, second: u64, namespace: &str, name: Option<&str>, bytes: u64) {
        self.fade(second);
        self.key.clear();
        self.key.push_str(start(namespace));
        if let Some(name) = name {
            self.key.push(SEPARATOR);
            self.key.push_str(start(name));
        }
        let key = self.key.as_str();
        if let Some(row) = self.places.get(key).and_then(|place| self.rows.get_mut(*place)) {
            return row.add(second, bytes);
        }
        if self.rows.len() < ROWS {
            self.places.insert(key.into(), self.rows.len());
            let mut row = Row::new(key);
            row.add(second, bytes);
            self.rows.push(row);
            return;
        }
        let weight = self.sketch.add(key);
        match self.lighter_than(weight) {
            None => self.other.add(second, bytes),
            Some(place) => self.replace(place, second, bytes, weight),
        }
    }

    /// Counts a message as "other".
    pub(super) fn add_other(&mut self, second: u64, bytes: u64) {
        self.other.add(second, bytes);
    }

    /// The rows, unsorted.
    pub(in crate::cli) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// The row of all names without their own row.
    pub(in crate::cli) fn other(&self) -> &Row {
        &self.other
    }

    /// Halves all weights after each half-life.
    fn fade(&mut self, second: u64) {
        if second < self.halved + HALF_LIFE {
            return;
        }
        self.halved = second;
        self.sketch.halve();
        self.rows.iter_mut().for_each(|row| row.weight /= 2);
        self.lightest /= 2;
    }

    /// The index of the lightest row, if it is lighter than `weight`.
    fn lighter_than(&mut self, weight: u64) -> Option<usize> {
        if weight <= self.lightest {
            return None;
        }
        let (place, row) = self.rows.iter().enumerate().min_by_key(|(_, row)| row.weight)?;
        self.lightest = row.weight;
        (row.weight < weight).then_some(place)
    }

    /// Gives a row to the name in `key`. Adds the counts of the old name to "other".
    fn replace(&mut self, place: usize, second: u64, bytes: u64, weight: u64) {
        let Some(row) = self.rows.get_mut(place) else { return };
        self.other.total = self.other.total.plus(row.total);
        self.other.seconds.absorb(second, &row.seconds, Second::plus);
        self.places.remove(&row.key);
        self.places.insert(self.key.as_str().into(), place);
        row.key = self.key.as_str().into();
        row.total = Count::default();
        row.seconds.clear();
        row.add(second, bytes);
        row.weight = weight;
    }
}

/// The first bytes of a name, up to a whole character.
fn start(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(ranking: &'a Ranking, name: &str) -> Option<&'a Row> {
        ranking.rows().find(|row| row.name() == Some(name))
    }

    fn sum(ranking: &Ranking) -> u64 {
        ranking.rows().chain([ranking.other()]).map(|row| row.total().messages).sum()
    }

    #[test]
    fn names_are_told_apart_by_their_namespaces() {
        let mut ranking = Ranking::new();
        ranking.add(0, "/", Some("a"), 10);
        ranking.add(0, "/admin", Some("a"), 20);
        ranking.add(0, "/admin", None, 30);
        let rows: Vec<_> =
            ranking.rows().map(|row| (row.namespace(), row.name(), row.total().bytes)).collect();
        assert_eq!(rows, [("/", Some("a"), 10), ("/admin", Some("a"), 20), ("/admin", None, 30)]);
    }

    #[test]
    fn names_that_come_once_displace_nobody() {
        let mut ranking = Ranking::new();
        for name in 0..ROWS {
            (0..100).for_each(|_| ranking.add(0, "/", Some(&format!("n{name}")), 1));
        }
        for name in 0..10_000 {
            ranking.add(1, "/", Some(&format!("once{name}")), 1);
        }
        assert!((0..ROWS).all(|name| row(&ranking, &format!("n{name}")).is_some()));
        assert_eq!((ranking.other().total().messages, sum(&ranking)), (10_000, 35_600));
    }

    #[test]
    fn a_name_that_becomes_heavy_takes_the_lightest_row() {
        let mut ranking = Ranking::new();
        for name in 0..ROWS {
            (0..=name).for_each(|_| ranking.add(0, "/", Some(&format!("n{name}")), 1));
        }
        let before = sum(&ranking);
        (0..50).for_each(|_| ranking.add(1, "/", Some("new"), 1));
        assert!(row(&ranking, "new").is_some() && row(&ranking, "n0").is_none());
        assert_eq!((ranking.rows().count(), sum(&ranking)), (ROWS, before + 50));
        // The past of the replaced row stays in its seconds.
        let recent = |row: &Row| row.recent(2, 2).messages;
        assert_eq!(ranking.rows().chain([ranking.other()]).map(recent).sum::<u64>(), before + 50);
        assert_eq!(ranking.other().history(1, 1).next(), Some(1));
        // A row that was heavy long ago gives way to a name that is heavy now.
        (0..40).for_each(|_| ranking.add(3600, "/", Some("later"), 1));
        (0..10).for_each(|minute| ranking.add(3600 + minute * HALF_LIFE, "/", Some("later"), 1));
        assert!(row(&ranking, "later").is_some());
    }

    #[test]
    fn hostile_names_are_cut_and_escaped() {
        let mut ranking = Ranking::new();
        for name in ["\u{1b}[2J\n", "a\0b", &"漢".repeat(1000), ""] {
            ranking.add(0, &"/x".repeat(1000), Some(name), 1);
        }
        let names: Vec<_> = ranking.rows().map(|row| row.safe_name().unwrap()).collect();
        assert_eq!(names, ["\\u{1b}[2J\\n", "a\\u{0}b", &"漢".repeat(40), ""]);
        assert!(ranking.rows().all(|row| row.namespace().len() <= NAME_BYTES));
    }
}
