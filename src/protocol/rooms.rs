//! The names of rooms, in the forms that applications use.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

/// One room or several: `"r1"`, `["r1", "r2"]`, a `Vec<String>` or another collection of texts.
///
/// An empty list is no room. As a target (`to`, `within`) without any room, an operation applies to all sockets of the
/// namespace, as in Node.
pub trait Rooms {
    /// The names.
    fn into_rooms(self) -> Vec<String>;
}

impl Rooms for &str {
    fn into_rooms(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl Rooms for String {
    fn into_rooms(self) -> Vec<String> {
        vec![self]
    }
}

impl Rooms for &String {
    fn into_rooms(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl Rooms for Cow<'_, str> {
    fn into_rooms(self) -> Vec<String> {
        vec![self.into_owned()]
    }
}

impl<S: Into<String>> Rooms for Vec<S> {
    fn into_rooms(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<S: AsRef<str>> Rooms for &Vec<S> {
    fn into_rooms(self) -> Vec<String> {
        self.as_slice().into_rooms()
    }
}

impl<S: Into<String>, H> Rooms for HashSet<S, H> {
    fn into_rooms(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<S: Into<String>> Rooms for BTreeSet<S> {
    fn into_rooms(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<S: AsRef<str>> Rooms for &[S] {
    fn into_rooms(self) -> Vec<String> {
        self.iter().map(|room| room.as_ref().to_owned()).collect()
    }
}

impl<S: AsRef<str>, const N: usize> Rooms for [S; N] {
    fn into_rooms(self) -> Vec<String> {
        self.as_slice().into_rooms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gives_the_same_names() {
        let names = vec!["r1".to_owned(), "r2".to_owned()];
        fn rooms(rooms: impl Rooms) -> Vec<String> {
            rooms.into_rooms()
        }
        assert_eq!(rooms(["r1", "r2"]), names);
        assert_eq!(rooms(vec!["r1", "r2"]), names);
        assert_eq!(rooms(&names), names);
        assert_eq!(rooms(names.as_slice()), names);
        assert_eq!(rooms(names.iter().cloned().collect::<BTreeSet<_>>()), names);
        assert_eq!(rooms(names.clone()), names);
        let one = names[..1].to_vec();
        assert_eq!(rooms(HashSet::from(["r1"])), one);
        assert_eq!((rooms("r1"), rooms(Cow::from("r1")), rooms(&names[0])), (one.clone(), one.clone(), one));
    }
}
