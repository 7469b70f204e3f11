//! Parses event lines.

use serde::Deserialize;

use super::verbatim::{self, PlainArgs};
use crate::cli::binary_json::decode_binary;
use crate::protocol::{EventArgs, Flags, MessageKind, RequestId};
use crate::{Namespace, Value};

/// The event of a line. Missing fields take the defaults of the command line.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Wanted {
    pub(in crate::cli) event: EventArgs,
    pub(in crate::cli) namespace: Option<Namespace>,
    pub(in crate::cli) rooms: Option<Vec<String>>,
    pub(in crate::cli) except: Option<Vec<String>>,
    pub(in crate::cli) flags: Option<Flags>,
    pub(in crate::cli) time: Option<jiff::Timestamp>,
}

impl Wanted {
    /// The event alone. Everything else comes from the command line.
    pub(in crate::cli) fn only(event: EventArgs) -> Self {
        Self { event, namespace: None, rooms: None, except: None, flags: None, time: None }
    }

    /// Whether the command line alone decides the targets and the flags of the event.
    pub(in crate::cli) fn is_bare(&self) -> bool {
        let Self { namespace, rooms, except, flags, .. } = self;
        namespace.is_none() && rooms.is_none() && except.is_none() && flags.is_none()
    }
}

/// A parsed line.
#[derive(Debug, PartialEq)]
pub(in crate::cli) enum Line {
    /// An event to emit.
    Event(Wanted),
    /// A message of another kind, which an emitter skips.
    Other(MessageKind),
}

/// The fields of an event line, with the arguments as `A`.
#[derive(Deserialize)]
#[serde(bound(deserialize = "A: Deserialize<'de> + Default"))]
struct Fields<A> {
    #[serde(rename = "type")]
    kind: Option<String>,
    event: Option<String>,
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
pub(in crate::cli) fn parse(line: &str) -> Result<Line, String> {
    as_text(line).map_or_else(|| as_values(line), Ok)
}

/// Parses a line whose event can be published as the text of the line.
pub(super) fn as_text(line: &str) -> Option<Line> {
    if let Some(event) = verbatim::array(line) {
        return Some(Line::Event(Wanted::only(event)));
    }
    let fields = serde_json::from_str::<Fields<PlainArgs<'_>>>(line).ok()?;
    line_of(fields, verbatim::with_args).ok()
}

/// Parses any line.
pub(super) fn as_values(line: &str) -> Result<Line, String> {
    let value = Value::from_json(line).map_err(|e| e.to_string().replace("cannot decode: ", "not JSON: "))?;
    match value {
        Value::Array(items) => array(items),
        Value::Object(_) => {
            let fields = value.into_rust().map_err(|e| e.to_string().replace("cannot decode: ", ""))?;
            line_of(fields, with_values)
        }
        _ => Err("neither an event line nor [\"event\", ...args]".into()),
    }
}

fn array(items: Vec<Value>) -> Result<Line, String> {
    let mut items = items.into_iter();
    let Some(Value::String(event)) = items.next() else {
        return Err("the first item of an array has to be the event's name".into());
    };
    Ok(Line::Event(Wanted::only(with_values(&event, items.collect())?)))
}

fn with_values(event: &str, args: Vec<Value>) -> Result<EventArgs, String> {
    let args = args.into_iter().map(decode_binary).collect::<Result<Vec<_>, _>>()?;
    Ok(EventArgs::new(event, args))
}

fn line_of<A>(
    fields: Fields<A>,
    with_args: impl FnOnce(&str, A) -> Result<EventArgs, String>,
) -> Result<Line, String> {
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
    let event = with_args(&fields.event.ok_or("no \"event\"")?, fields.args)?;
    let namespace = fields.namespace.map(|name| Namespace::new(&name));
    let Fields { rooms, except, flags, time, .. } = fields;
    Ok(Line::Event(Wanted { event, namespace, rooms, except, flags, time }))
}
