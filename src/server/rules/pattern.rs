//! Patterns of room names, with the claims of a client's token in them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use crate::protocol::Value;
use crate::{Error, Result};

/// The characters that mean something in a pattern.
const SPECIAL: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// The maximum number of values of one claim in a pattern.
const MAX_VALUES: usize = 1000;

/// The maximum length of a value, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// A pattern of room names, with `*`, `?`, `[a-z]` and `{a,b}`. A `{claim}` without a comma stands for a claim of the
/// client's token: a string, an integer, or an array of these. One item of an array has to match. `{realm.roles}` is a
/// claim within an object.
///
/// ```
/// let join = vec!["chat:*".parse()?, "user:{sub}".parse()?];
/// let rules = pgio::server::ClientRules { join, ..Default::default() };
/// # Ok::<_, pgio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RoomPattern(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Literal(String),
    Glob(GlobMatcher),
    Template(Vec<Part>),
}

/// A piece of the text of a pattern.
enum Piece {
    Glob(String),
    /// The path of a claim.
    Claim(Vec<String>),
}

/// A part of a template. Nothing is compiled for a client, so a long list of rooms or of values costs little.
#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Glob(GlobMatcher),
    /// The path of a claim.
    Claim(Vec<String>),
}

impl FromStr for RoomPattern {
    type Err = Error;

    /// Reads a pattern.
    ///
    /// # Errors
    /// [`Error::Setting`] for a text that is no pattern, such as `[a`.
    fn from_str(pattern: &str) -> Result<Self> {
        if !pattern.contains(SPECIAL) {
            return Ok(Self(Kind::Literal(pattern.to_owned())));
        }
        let wrong = |reason: String| Error::Setting { setting: "join".into(), reason };
        let compiled = |glob: &str| compile(glob).map_err(|error| wrong(error.kind().to_string()));
        let pieces = pieces(pattern);
        if let [Piece::Glob(glob)] = pieces.as_slice() {
            return Ok(Self(Kind::Glob(compiled(glob)?)));
        }
        let parts = pieces.into_iter().map(|piece| match piece {
            Piece::Claim(path) => Ok(Part::Claim(path)),
            Piece::Glob(text) if !text.contains(SPECIAL) => Ok(Part::Literal(text)),
            Piece::Glob(glob) => match compile(&glob) {
                Ok(matcher) => Ok(Part::Glob(matcher)),
                Err(error) => {
                    Err(wrong(format!("{} (a claim cannot be inside of {{a,b}} or [ab])", error.kind())))
                }
            },
        });
        Ok(Self(Kind::Template(parts.collect::<Result<_>>()?)))
    }
}

impl RoomPattern {
    /// Whether the pattern is the name of one room.
    pub(super) fn is_literal(&self) -> bool {
        matches!(self.0, Kind::Literal(_))
    }

    /// Whether the pattern matches a room, for a client with these claims.
    pub(super) fn matches(&self, room: &str, claims: &Value) -> bool {
        match &self.0 {
            Kind::Literal(name) => name == room,
            Kind::Glob(glob) => glob.is_match(room),
            Kind::Template(parts) => {
                // The ends of the beginnings of the room that the parts so far match.
                let mut ends = BTreeSet::from([0]);
                for (index, part) in parts.iter().enumerate() {
                    ends = part.ends(room, &ends, index + 1 == parts.len(), claims);
                }
                ends.contains(&room.len())
            }
        }
    }
}

fn compile(glob: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(glob).backslash_escape(true).build()?.compile_matcher())
}

/// Splits a pattern at its claims.
fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut glob, mut rest) = (String::new(), pattern);
    while let Some(at) = rest.find(['\\', '{']) {
        let (before, found) = rest.split_at(at);
        glob.push_str(before);
        let path = found.strip_prefix('{').and_then(|inside| inside.split_once('}')).map(|(name, _)| name);
        match path.filter(|path| is_path(path)) {
            Some(path) => {
                if !glob.is_empty() {
                    pieces.push(Piece::Glob(std::mem::take(&mut glob)));
                }
                pieces.push(Piece::Claim(path.split('.').map(str::to_owned).collect()));
                rest = &found[path.len() + 2..];
            }
            None => {
                // An escaped character does not start a claim.
                let taken: usize = match found.starts_with('\\') {
                    true => found.chars().take(2).map(char::len_utf8).sum(),
                    false => 1,
                };
                glob.push_str(&found[..taken]);
                rest = &found[taken..];
            }
        }
    }
    glob.push_str(rest);
    if !glob.is_empty() {
        pieces.push(Piece::Glob(glob));
    }
    pieces
}

fn is_path(path: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '/'))
    };
    path.split('.').all(is_name)
}

impl Part {
    /// Where a match of this part can end, if it begins at one of `starts`. The last part has to end with the room.
    fn ends(&self, room: &str, starts: &BTreeSet<usize>, is_last: bool, claims: &Value) -> BTreeSet<usize> {
        let after = |start: usize, text: &str| room[start..].starts_with(text).then_some(start + text.len());
        match self {
            Self::Literal(text) => starts.iter().filter_map(|start| after(*start, text)).collect(),
            Self::Claim(path) => {
                let values = values(path, claims);
                let pairs = starts.iter().flat_map(|start| values.iter().map(move |value| (*start, value)));
                pairs.filter_map(|(start, value)| after(start, value)).collect()
            }
            Self::Glob(glob) => {
                let all = || room.char_indices().map(|(place, _)| place).chain([room.len()]);
                let candidates: Vec<_> = if is_last { vec![room.len()] } else { all().collect() };
                let matches = |start: usize, end: usize| end >= start && glob.is_match(&room[start..end]);
                candidates
                    .into_iter()
                    .filter(|end| starts.iter().any(|start| matches(*start, *end)))
                    .collect()
            }
        }
    }
}

/// The texts of a claim. Empty if the client has no such claim.
fn values<'a>(path: &[String], claims: &'a Value) -> Vec<Cow<'a, str>> {
    let Some(claim) = path.iter().try_fold(claims, |claim, name| claim.get(name)) else { return Vec::new() };
    let values = match claim {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    values.iter().take(MAX_VALUES).filter_map(text).collect()
}

/// A value as text.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    let text = match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Int(number) => Cow::Owned(number.to_string()),
        _ => return None,
    };
    (!text.is_empty() && text.len() <= MAX_VALUE_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, room: &str) -> bool {
        let claims = r#"{"sub":"ada","id":7,"wild":"*","odd":"a,b}[c","teams":["red","b*e",9,null],"empty":"",
                         "none":[],"realm":{"roles":["admin"]},"https://x/y":"z"}"#;
        pattern.parse::<RoomPattern>().unwrap().matches(room, &Value::from_json(claims).unwrap())
    }

    #[test]
    fn claims_are_filled_in() {
        for (pattern, room) in [
            ("user:{sub}", "user:ada"),
            ("{sub}-*-{id}", "ada-any-7"),
            ("wild:{wild}", "wild:*"),
            ("odd:{odd}", "odd:a,b}[c"),
            ("team:{teams}:*", "team:red:x"),
            ("team:{teams}", "team:b*e"),
            ("team:{teams}", "team:9"),
            ("role:{realm.roles}", "role:admin"),
            ("{https://x/y}", "z"),
            ("{a,b}:{sub}", "b:ada"),
            ("*{sub}*{sub}*", "xadaada"),
            ("{sub}{id}", "ada7"),
            (r"\{sub\}", "{sub}"),
            ("chat:*", "chat:1"),
            ("plain", "plain"),
        ] {
            assert!(matches(pattern, room), "{pattern} {room}");
        }
        for (pattern, room) in [
            ("user:{sub}", "user:bob"),
            ("user:{sub}", "user:adas"),
            ("wild:{wild}", "wild:x"),
            ("team:{teams}", "team:bxe"),
            ("team:{teams}", "team:null"),
            ("x{empty}", "x"),
            ("x{none}", "x"),
            ("x{missing}", "x"),
            ("x{missing}", "x{missing}"),
            ("x{realm}", "x"),
            (r"\{sub\}", "ada"),
            ("plain", "plainer"),
            ("*{sub}*{sub}*", "xadax"),
            ("{sub}{id}", "ada77"),
            ("{sub}?", "ada"),
        ] {
            assert!(!matches(pattern, room), "{pattern} {room}");
        }
        for bad in ["[a", "x{sub}[", "{a,{sub}}", "[{sub}]"] {
            assert!(bad.parse::<RoomPattern>().is_err(), "{bad}");
        }
    }
}
