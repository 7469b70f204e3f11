//! `emit --from --map-room A=B`: renames rooms of a recording.

use std::borrow::Cow;

/// A room and its new name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Renamed {
    from: String,
    to: String,
}

/// Parses `A=B`.
pub(super) fn parse(text: &str) -> Result<Renamed, String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            Ok(Renamed { from: from.to_owned(), to: to.to_owned() })
        }
        _ => Err("write it as A=B, with two room names".into()),
    }
}

/// The rooms with their new names.
pub(super) fn apply<'a>(map: &[Renamed], rooms: &'a [String]) -> Cow<'a, [String]> {
    if map.is_empty() {
        return Cow::Borrowed(rooms);
    }
    let renamed =
        |room: &String| map.iter().find(|renamed| renamed.from == *room).map(|renamed| renamed.to.clone());
    Cow::Owned(rooms.iter().map(|room| renamed(room).unwrap_or_else(|| room.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_room_is_renamed_once() {
        let map = [parse("a=b").unwrap(), parse("b=c=d").unwrap()];
        let rooms = ["a", "b", "x"].map(String::from);
        assert_eq!(apply(&map, &rooms).as_ref(), ["b", "c=d", "x"]);
        assert_eq!(apply(&[], &rooms).as_ref(), rooms);
        assert!(parse("a").is_err() && parse("=b").is_err() && parse("a=").is_err());
    }
}
