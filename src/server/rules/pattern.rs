//! Patterns of room names, with the claims of a client's token in them.

use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use crate::protocol::Value;
use crate::{Error, Result};

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

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// A part of a glob.
    Glob(String),
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
        if !pattern.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            return Ok(Self(Kind::Literal(pattern.to_owned())));
        }
        let parts = parts(pattern);
        // A claim can have any value, so a sample checks the syntax.
        let sample = parts.iter().map(|part| match part {
            Part::Glob(glob) => glob,
            Part::Claim(_) => "x",
        });
        let glob = compile(&sample.collect::<String>())
            .map_err(|error| Error::Setting { setting: "join".into(), reason: error.kind().to_string() })?;
        let is_template = parts.iter().any(|part| matches!(part, Part::Claim(_)));
        Ok(Self(if is_template { Kind::Template(parts) } else { Kind::Glob(glob) }))
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
                let filled: Option<String> = parts.iter().map(|part| part.fill(claims)).collect();
                filled.is_some_and(|glob| compile(&glob).is_ok_and(|glob| glob.is_match(room)))
            }
        }
    }
}

fn compile(glob: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(glob).backslash_escape(true).build()?.compile_matcher())
}

/// Splits a pattern at its claims.
fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut glob, mut rest) = (String::new(), pattern);
    while let Some(at) = rest.find(['\\', '{']) {
        let (before, found) = rest.split_at(at);
        glob.push_str(before);
        let path = found.strip_prefix('{').and_then(|inside| inside.split_once('}')).map(|(name, _)| name);
        match path.filter(|path| is_path(path)) {
            Some(path) => {
                parts.push(Part::Glob(std::mem::take(&mut glob)));
                parts.push(Part::Claim(path.split('.').map(str::to_owned).collect()));
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
    parts.push(Part::Glob(glob));
    parts
}

fn is_path(path: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '/'))
    };
    path.split('.').all(is_name)
}

impl Part {
    /// The part as a glob. `None` if the client has no such claim.
    fn fill(&self, claims: &Value) -> Option<String> {
        let path = match self {
            Self::Glob(glob) => return Some(glob.clone()),
            Self::Claim(path) => path,
        };
        let claim = path.iter().try_fold(claims, |claim, name| claim.get(name))?;
        let values = match claim {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let texts: Vec<_> = values.iter().take(MAX_VALUES).filter_map(text).collect();
        match texts.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            more => Some(format!("{{{}}}", more.join(","))),
        }
    }
}

/// A value as the glob that matches only it.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => return None,
    };
    if text.is_empty() || text.len() > MAX_VALUE_BYTES {
        return None;
    }
    let escape = |c: char| (!c.is_alphanumeric()).then_some('\\').into_iter().chain([c]);
    Some(text.chars().flat_map(escape).collect())
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
        ] {
            assert!(!matches(pattern, room), "{pattern} {room}");
        }
        assert!("[a".parse::<RoomPattern>().is_err() && "x{sub}[".parse::<RoomPattern>().is_err());
    }
}
