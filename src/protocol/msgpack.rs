//! Msgpack, as `@msgpack/msgpack` writes and reads it in the rows of the attachment table.

use std::io::Cursor;

use serde::{Deserialize, Serialize};

use super::Value;
use super::value::MAX_DEPTH;
use crate::{Error, Result};

/// Writes a document: every struct as a map with string keys.
pub(crate) fn write<T: Serialize + ?Sized>(document: &T) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    document.serialize(&mut serializer).map_err(|e| Error::Encode(e.to_string()))?;
    Ok(out)
}

/// Reads whatever one row holds.
pub(crate) fn read(bytes: &[u8]) -> Result<Value> {
    let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(bytes));
    // A value bounds its own depth, and says so better; each level costs the library two of its own.
    deserializer.set_max_depth(MAX_DEPTH * 3);
    let value =
        Value::deserialize(&mut deserializer).map_err(|e| Error::Decode(format!("not msgpack: {e}")))?;
    if deserializer.position() != bytes.len() as u64 {
        return Err(Error::Decode("bytes after the end of an attachment's document".into()));
    }
    Ok(value)
}
