//! The names of rooms, in the forms that applications use.

/// One room or several: `"r1"`, `["r1", "r2"]`, a `Vec<String>`.
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

impl Rooms for Vec<String> {
    fn into_rooms(self) -> Vec<String> {
        self
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
