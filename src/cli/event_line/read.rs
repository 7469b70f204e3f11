//! Parses event lines.

use serde::Deserialize;

use super::verbatim::{self, PlainArgs};
use crate::cli::binary_json::decode_binary;
use crate::protocol::{EventArgs, EventText, Flags, MessageKind, RequestId};
use crate::{Namespace, Value};

/// The event of a line.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Wanted<'a> {
    pub(in crate::cli) event: LineEvent<'a>,
    /// `None` if the command line alone decides the targets and the flags of the event.
    own: Option<Box<LineTargets>>,
    pub(in crate::cli) time: Option<jiff::Timestamp>,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum LineEvent<'a> {
    /// A part of the line, which can be published unchanged.
    Text(EventText<'a>),
    Args(EventArgs),
}

/// The targets and flags that a line names. Missing fields take the defaults of the command line.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct LineTargets {
    pub(in crate::cli) namespace: Option<Namespace>,
    pub(in crate::cli) rooms: Option<Vec<String>>,
    pub(in crate::cli) except: Option<Vec<String>>,
    pub(in crate::cli) flags: Option<Flags>,
}

impl LineTargets {
    /// Those of a line that names none.
    pub(in crate::cli) const NONE: &Self = &Self { namespace: None, rooms: None, except: None, flags: None };
}

impl<'a> Wanted<'a> {
    /// An event with the targets of the command line.
    fn only(event: LineEvent<'a>) -> Self {
        Self { event, own: None, time: None }
    }

    /// Whether the command line alone decides the targets and the flags of the event.
    pub(in crate::cli) fn is_bare(&self) -> bool {
        self.own.is_none()
    }

    pub(in crate::cli) fn targets(&self) -> &LineTargets {
        self.own.as_deref().unwrap_or(LineTargets::NONE)
    }
}

impl LineEvent<'_> {
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) if the text is not JSON.
    pub(in crate::cli) fn to_args(&self) -> crate::Result<EventArgs> {
        match self {
            Self::Text(text) => text.to_args(),
            Self::Args(args) => Ok(args.clone()),
        }
    }
}

/// A parsed line.
#[derive(Debug, PartialEq)]
pub(in crate::cli) enum Line<'a> {
    /// An event to emit.
    Event(Wanted<'a>),
    /// A message of another kind, which an emitter skips.
    Other(MessageKind),
}

/// The fields of an event line, with the event's name as `N` and its arguments as `A`.
#[derive(Deserialize)]
#[serde(bound(deserialize = "N: Deserialize<'de>, A: Deserialize<'de> + Default"))]
struct Fields<N, A> {
    #[serde(rename = "type")]
    kind: Option<String>,
    event: Option<N>,
    #[serde(default)]
    args: A,
    namespace: Option<String>,
    rooms: Option<Vec<String>>,
    except: Option<Vec<String>>,
    flags: Option<Flags>,
    time: Option<jiff::Timestamp>,
    attachment: Option<MissingOrNot>,
    error: Option<String>,
    #[serde(rename = "requestId")]
    _request_id: Option<RequestId>,
}

#[derive(Deserialize)]
struct MissingOrNot {
    #[serde(default)]
    missing: bool,
}

/// Parses a line: an event line, or `["event", ...args]`.
///
/// Arguments without `$binary` stay JSON text, which saves a decoding and an encoding. A line that cannot be parsed in
/// this way is parsed as a value, which also yields the error message.
pub(in crate::cli) fn parse(line: &str) -> Result<Line<'_>, String> {
    as_text(line).map_or_else(|| as_values(line), Ok)
}

/// Parses a line whose event can be published as the text of the line.
pub(super) fn as_text(line: &str) -> Option<Line<'_>> {
    if let Some(event) = verbatim::array(line) {
        return Some(Line::Event(Wanted::only(LineEvent::Text(event))));
    }
    // A list would be read as the fields, in their order.
    if !line.trim_ascii_start().starts_with('{') {
        return None;
    }
    // A name with escapes cannot be borrowed.
    let fields = serde_json::from_str::<Fields<&str, PlainArgs<'_>>>(line).ok()?;
    line_of(fields, |name, args| Ok(LineEvent::Text(EventText { name, args: args.items() }))).ok()
}

/// Parses any line.
pub(super) fn as_values(line: &str) -> Result<Line<'static>, String> {
    // The caller names the line of the file.
    let not_json = |e: crate::Error| {
        e.to_string().replace("cannot decode: ", "not JSON: ").replace(" at line 1 column ", " at column ")
    };
    let value = Value::from_json(line).map_err(not_json)?;
    match value {
        Value::Array(items) => array(items),
        Value::Object(_) => {
            let fields = value.into_rust().map_err(|e| e.to_string().replace("cannot decode: ", ""))?;
            line_of(fields, |name: String, args| with_values(&name, args))
        }
        _ => Err("neither an event line nor [\"event\", ...args]".into()),
    }
}

fn array(items: Vec<Value>) -> Result<Line<'static>, String> {
    let mut items = items.into_iter();
    let Some(Value::String(event)) = items.next() else {
        return Err("the first item of an array has to be the event's name".into());
    };
    Ok(Line::Event(Wanted::only(with_values(&event, items.collect())?)))
}

fn with_values(event: &str, args: Vec<Value>) -> Result<LineEvent<'static>, String> {
    let args = args.into_iter().map(decode_binary).collect::<Result<Vec<_>, _>>()?;
    Ok(LineEvent::Args(EventArgs::new(event, args)))
}

fn line_of<'a, N, A>(
    fields: Fields<N, A>,
    event: impl FnOnce(N, A) -> Result<LineEvent<'a>, String>,
) -> Result<Line<'a>, String> {
    if let Some(kind) = &fields.kind {
        let kind: MessageKind = kind.parse().map_err(|_| format!("unknown type {kind:?}"))?;
        if kind != MessageKind::Broadcast {
            return Ok(Line::Other(kind));
        }
    }
    if fields.attachment.is_some_and(|attachment| attachment.missing) {
        return Err("its attachment was missing when it was recorded".into());
    }
    if let Some(error) = fields.error {
        return Err(format!("it could not be read when it was recorded: {error}"));
    }
    let event = event(fields.event.ok_or("no \"event\"")?, fields.args)?;
    let Fields { namespace, rooms, except, flags, time, .. } = fields;
    let is_bare = namespace.is_none() && rooms.is_none() && except.is_none() && flags.is_none();
    let own = (!is_bare).then(|| {
        let namespace = namespace.map(|name| Namespace::new(&name));
        Box::new(LineTargets { namespace, rooms, except, flags })
    });
    Ok(Line::Event(Wanted { event, own, time }))
}
