//! Msgpack, as `@msgpack/msgpack` writes and reads it in the rows of the attachment table.

use std::io::Cursor;

use serde::Serialize;

use super::value::{self, MAX_DEPTH};
use super::{Value, surrogates};
use crate::{Error, Result};

/// Writes a document: every struct as a map with string keys.
pub(crate) fn write<T: Serialize + ?Sized>(document: &T) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    document.serialize(&mut serializer).map_err(|e| Error::Encode(e.to_string()))?;
    Ok(out)
}

/// Reads the document of one row.
pub(crate) fn read(bytes: &[u8]) -> Result<Value> {
    read_bounded(bytes, usize::MAX).map(|(value, _)| value)
}

/// The same, with a limit of the memory that the values take, in bytes. Also returns the memory that they take.
///
/// # Errors
/// [`Error::AttachmentTooLarge`] beyond the limit, and [`Error::Decode`] for bytes that are not msgpack.
pub(crate) fn read_bounded(bytes: &[u8], max_memory: usize) -> Result<(Value, usize)> {
    let bytes = surrogates::replace_lone(bytes);
    let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(&*bytes));
    // The value checks its own depth with a better error; each of its levels costs the library two levels.
    deserializer.set_max_depth(MAX_DEPTH * 3);
    let bounded = value::bounded(&mut deserializer, max_memory).map_err(|error| {
        let reason = error.to_string();
        match reason.contains(value::TOO_LARGE) {
            // A lower bound of the size.
            true => Error::AttachmentTooLarge { bytes: max_memory as u64 + 1, limit: max_memory as u64 },
            false => Error::Decode(format!("not msgpack: {reason}")),
        }
    })?;
    if deserializer.position() != bytes.len() as u64 {
        return Err(Error::Decode("bytes after the end of an attachment's document".into()));
    }
    Ok(bounded)
}
