//! Parses the arguments of events on a command line.

use std::fs::File;
use std::io::{Read, stdin};

use super::binary_json;
use super::exit::Failure;
use crate::error::without_os_code;
use crate::protocol::MAX_DOCUMENT_BYTES;
use crate::{Error, Value, safe_text};

/// Parses arguments: valid JSON as its value, `@FILE` as the bytes of a file, `@-` as the bytes of stdin, any other
/// argument as text. With `as_strings`, each argument is text.
pub(super) fn parse_all(arguments: &[String], as_strings: bool) -> Result<Vec<Value>, Failure> {
    let from_stdin = arguments.iter().filter(|argument| *argument == "@-").count();
    if from_stdin > 1 && !as_strings {
        return Err(Failure::Usage("@- may be used only once: stdin can be read only once".into()));
    }
    arguments
        .iter()
        .map(|argument| match argument.strip_prefix('@') {
            _ if as_strings => Ok(Value::String(argument.clone())),
            Some(file) => Ok(Value::Binary(bytes_of(file)?.into())),
            None => Ok(parse(argument)?),
        })
        .collect()
}

/// Parses JSON, and takes any other argument as text. Text that begins like an object or an array has to be valid JSON.
pub(super) fn parse(argument: &str) -> Result<Value, Failure> {
    let quoted = || safe_text::quoted(argument);
    match Value::from_json(argument) {
        Ok(value) => binary_json::decode_binary(value)
            .map_err(|e| Failure::Usage(format!("argument {}: {e}", quoted()))),
        Err(error) if argument.trim_start().starts_with(['{', '[']) => {
            let failure = Failure::Usage(format!("argument {} is not JSON: {error}", quoted()));
            Err(failure.with_hint("--string sends every argument as text"))
        }
        Err(_) => Ok(argument.into()),
    }
}

fn bytes_of(file: &str) -> Result<Vec<u8>, Failure> {
    let failed = |reason: String| Failure::Other(format!("@{file}: {reason}"));
    let mut bytes = Vec::new();
    // One byte above the limit shows that there is too much, without reading all of it.
    let limit = MAX_DOCUMENT_BYTES as u64 + 1;
    let read = match file {
        "-" => stdin().lock().take(limit).read_to_end(&mut bytes),
        path => {
            let file = File::open(path).map_err(|e| failed(without_os_code(&e)))?;
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            if size >= limit {
                return Err(failed(too_large(size)));
            }
            file.take(limit).read_to_end(&mut bytes)
        }
    };
    match read {
        Ok(_) if bytes.len() as u64 == limit => Err(failed(too_large(limit))),
        Ok(_) => Ok(bytes),
        Err(error) => Err(failed(without_os_code(&error))),
    }
}

fn too_large(bytes: u64) -> String {
    Error::TooLarge { bytes, limit: MAX_DOCUMENT_BYTES as u64 }.to_string()
}

/// Values that are serialized as separate arguments.
pub(super) struct Spread<'a>(pub(super) &'a [Value]);

impl serde::Serialize for Spread<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for value in self.0 {
            tuple.serialize_element(value)?;
        }
        tuple.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_where_it_is_json_and_text_elsewhere() {
        let parsed = |text: &str| parse_all(&[text.to_owned()], false).unwrap().remove(0);
        assert_eq!(parsed("<>"), Value::from("<>"));
        assert_eq!(parsed("42"), Value::Int(42));
        assert_eq!(parsed("-1.5"), Value::Float(-1.5));
        assert_eq!(parsed("\"42\""), Value::from("42"));
        assert_eq!(parsed("true"), Value::Bool(true));
        assert_eq!(parsed("null"), Value::Null);
        assert_eq!(parsed(""), Value::from(""));
        assert_eq!(parsed("a{"), Value::from("a{"));
        assert_eq!(parsed(r#"{"$binary":"AQI="}"#), Value::Binary(vec![1, 2].into()));
        assert_eq!(
            parse_all(&["@x".into(), "42".into()], true).unwrap(),
            [Value::from("@x"), Value::from("42")]
        );
        assert!(parse_all(&[r#"{"$binary":"?"}"#.into()], false).is_err());
        for broken in ["{a", "{EUR:42.5}", "[1, 2", " [x]"] {
            let failure = parse_all(&[broken.into()], false).unwrap_err().to_string();
            assert!(failure.contains("is not JSON") && failure.contains("column"), "{failure}");
            assert_eq!(parse_all(&[broken.into()], true).unwrap(), [Value::from(broken)]);
        }
        assert!(parse_all(&["@-".into(), "@-".into()], false).is_err());
        assert!(parse_all(&["@/no/such/file".into()], false).is_err());
    }
}
