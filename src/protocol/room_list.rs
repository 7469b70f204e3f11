//! Reads lists of rooms, from JSON and from a [`Value`](super::Value).
//!
//! A room may be any value in JavaScript, and Node servers pass it on: `socket.join(42)`, `io.except(null)`. A number is
//! read as its text. Any other item that is not a string is ignored, so that it does not cost the whole message. Ignored
//! items take no memory.

use std::fmt;
use std::sync::LazyLock;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{name, number_text};

/// The maximum number of rooms for which memory is allocated before they are counted.
const MAX_FIRST_CAPACITY: usize = 32;

/// The target of a message whose rooms are all ignored. An empty list would select every socket. No socket is in this
/// room, since only this process knows its name.
static NO_SOCKETS: LazyLock<String> = LazyLock::new(|| format!("invalid room {}", name::random_hex()));

/// Reads the rooms to exclude, or the rooms of a socket.
pub(super) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(ListVisitor { allows_one: false }).map(|list| list.rooms)
}

/// Reads the rooms of the target sockets. If all items are ignored, a room without sockets replaces them.
pub(super) fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let List { mut rooms, has_ignored } = deserializer.deserialize_seq(ListVisitor { allows_one: false })?;
    if rooms.is_empty() && has_ignored {
        rooms.push(NO_SOCKETS.clone());
    }
    Ok(rooms)
}

/// Reads the rooms to join or to leave. Some senders pass one room without a list.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(ListVisitor { allows_one: true }).map(|list| list.rooms)
}

/// The rooms of a list.
struct List {
    rooms: Vec<String>,
    has_ignored: bool,
}

impl List {
    fn of(item: Item) -> Self {
        let mut list = Self { rooms: Vec::new(), has_ignored: false };
        list.add(item);
        list
    }

    fn add(&mut self, Item(room): Item) {
        match room {
            Some(room) => self.rooms.push(room),
            None => self.has_ignored = true,
        }
    }
}

struct ListVisitor {
    allows_one: bool,
}

impl ListVisitor {
    fn one<E: serde::de::Error>(&self, item: impl FnOnce() -> Item) -> Result<List, E> {
        if self.allows_one { Ok(List::of(item())) } else { Err(E::custom("rooms that are not in a list")) }
    }
}

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rooms")
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<List, E> {
        self.one(|| Item(Some(v.to_owned())))
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<List, E> {
        self.one(|| Item(Some(number_text::of_i64(v))))
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<List, E> {
        self.one(|| Item(Some(number_text::of_u64(v))))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<List, E> {
        self.one(|| Item(Some(number_text::of_f64(v))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
        let capacity = seq.size_hint().unwrap_or(0).min(MAX_FIRST_CAPACITY);
        let mut list = List { rooms: Vec::with_capacity(capacity), has_ignored: false };
        while let Some(item) = seq.next_element()? {
            list.add(item);
        }
        Ok(list)
    }
}

/// An item of a list: the name of a room, or `None` if the item is ignored.
struct Item(Option<String>);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a room")
    }

    fn visit_str<E>(self, v: &str) -> Result<Item, E> {
        Ok(Item(Some(v.to_owned())))
    }

    fn visit_string<E>(self, v: String) -> Result<Item, E> {
        Ok(Item(Some(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Item, E> {
        Ok(Item(Some(number_text::of_i64(v))))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Item, E> {
        Ok(Item(Some(number_text::of_u64(v))))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Item, E> {
        Ok(Item(Some(number_text::of_f64(v))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item, E> {
        Ok(Item(None))
    }

    fn visit_unit<E>(self) -> Result<Item, E> {
        Ok(Item(None))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Item, E> {
        Ok(Item(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Item(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    /// The rooms that a list of `opts`, one of `except` and one to join have in JSON text, and the same for a value.
    #[derive(Deserialize, PartialEq, Debug)]
    struct Lists {
        #[serde(default, deserialize_with = "target")]
        target: Vec<String>,
        #[serde(default, deserialize_with = "lenient")]
        lenient: Vec<String>,
        #[serde(default, deserialize_with = "one_or_more")]
        some: Vec<String>,
    }

    fn read(list: &str, text: &str) -> Option<Lists> {
        let text = format!(r#"{{"{list}":{text}}}"#);
        let lists = serde_json::from_str(&text).ok();
        assert_eq!(Value::from_json(&text).unwrap().into_rust().ok(), lists, "{text}");
        lists
    }

    #[test]
    fn numbers_are_text_and_other_items_are_ignored() {
        for (text, rooms) in [
            ("[]", &[][..]),
            (r#"["a","é\n"]"#, &["a", "é\n"]),
            (
                r#"[42,"a",-1.5,1e21,12345678901234567890]"#,
                &["42", "a", "-1.5", "1e+21", "12345678901234567000"],
            ),
            (r#"[null,"a",true,[["b"],{"c":1}],{"d":["e"]},7]"#, &["a", "7"]),
        ] {
            assert_eq!(read("lenient", text).unwrap().lenient, rooms, "{text}");
            assert_eq!(read("target", text).unwrap().target, rooms, "{text}");
            assert_eq!(read("some", text).unwrap().some, rooms, "{text}");
        }
    }

    #[test]
    fn a_target_without_a_usable_room_is_not_everybody() {
        for text in ["[null]", "[{}, false]"] {
            let rooms = read("target", text).unwrap().target;
            assert_eq!(rooms, [NO_SOCKETS.as_str()], "{text}");
            assert_eq!(read("lenient", text).unwrap().lenient, [""; 0]);
            assert_eq!(read("some", text).unwrap().some, [""; 0]);
        }
    }

    #[test]
    fn only_rooms_to_join_may_come_without_a_list() {
        for (text, room) in [(r#""a""#, "a"), ("42", "42"), ("0.5", "0.5")] {
            assert_eq!(read("some", text).unwrap().some, [room], "{text}");
        }
        for text in ["null", "true", "{}"] {
            assert_eq!(read("some", text), None, "{text}");
        }
        for text in [r#""a""#, "42", "null", "{}"] {
            assert_eq!((read("target", text), read("lenient", text)), (None, None), "{text}");
        }
    }
}
