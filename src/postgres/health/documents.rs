//! The namespaces of the latest documents in the attachment table.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::Examiner;
use crate::Result;
use crate::postgres::failure;

/// The maximum number of rows, the youngest first.
const ROWS: u32 = 1000;

/// The bytes that are read at the start and at the end of a document: pgio writes the namespace at the start, and Node's
/// adapters from
/// 0.4 on at the end.
const BYTES: usize = 160;

/// The timeout of the query.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The key of the namespace in msgpack: that of the message, or that of the packet in it, which is the same.
const NSP: &[u8] = b"\xa3nsp";

/// The sender of emitters in msgpack.
const EMITTER: &[u8] = b"\xa3uid\xa7emitter";

/// The result of reading the latest documents.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// Their namespaces. A document has no channel prefix, so it may belong to another cluster with the same table.
    pub(crate) namespaces: BTreeSet<String>,
    /// The number of documents of emitters without a namespace, which servers with adapter 0.4 and later drop.
    pub(crate) of_old_emitters: usize,
}

impl Examiner {
    /// Reads the start and the end of the latest documents in the attachment table.
    pub(crate) async fn documents(&self) -> Result<Documents> {
        let (table, timeout_ms) = (self.table.as_sql(), STATEMENT_TIMEOUT.as_millis());
        // Statements of a simple query share a transaction, and the setting ends with it.
        let sql = format!(
            "SELECT pg_catalog.set_config('statement_timeout', '{timeout_ms}', true); \
             SELECT encode(substring(payload FROM 1 FOR {BYTES}), 'hex'), \
             encode(substring(payload FROM greatest(1, length(payload) - {BYTES})), 'hex') \
             FROM {table} ORDER BY id DESC LIMIT {ROWS}"
        );
        let answers = self.session.client().await?.simple_query(&sql).await;
        let answers = answers.map_err(|error| failure(&error))?;
        let mut documents = Documents::default();
        for answer in &answers {
            let SimpleQueryMessage::Row(row) = answer else { continue };
            // The first statement has one column.
            if row.len() == 2 {
                let part = |column| row.try_get(column).ok().flatten().and_then(from_hex).unwrap_or_default();
                documents.take(&part(0), &part(1));
            }
        }
        Ok(documents)
    }
}

impl Documents {
    fn take(&mut self, head: &[u8], tail: &[u8]) {
        // Documents of adapters continue with the namespace after the sender, and those of pgio begin with the sender.
        self.of_old_emitters += usize::from(tail.ends_with(EMITTER));
        self.namespaces.extend([head, tail].into_iter().filter_map(namespace_of));
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// The value of the last key `nsp` in a part of a document, if it is the name of a namespace.
fn namespace_of(part: &[u8]) -> Option<String> {
    let at = part.windows(NSP.len()).rposition(|window| window == NSP)?;
    let (head, rest) = part.get(at + NSP.len()..)?.split_first()?;
    let (length, text) = match head {
        0xa0..=0xbf => (usize::from(head & 0x1f), rest),
        0xd9 => rest.split_first().map(|(length, text)| (usize::from(*length), text))?,
        _ => return None,
    };
    let name = std::str::from_utf8(text.get(..length)?).ok()?;
    name.starts_with('/').then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With captured documents of Node servers and of pgio.
    #[test]
    fn documents_of_every_version_name_their_namespace() {
        let captures: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../tests/fixtures/adapter-wire.json")).unwrap();
        let mut seen = 0;
        for capture in captures {
            let Some(hex) = capture["attachment_hex"].as_str() else { continue };
            let document = from_hex(hex).unwrap();
            let tail = &document[document.len().saturating_sub(BYTES)..];
            let expected = (capture["adapter"] != "0.3.1").then(|| "/".to_owned());
            assert_eq!(namespace_of(tail), expected, "{capture}");
            seen += 1;
        }
        assert!(seen >= 12, "{seen}");
        let captures: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../tests/fixtures/emitter-wire.json")).unwrap();
        let rows = captures.iter().filter_map(|capture| from_hex(capture["attachment_hex"].as_str()?));
        let mut documents = Documents::default();
        rows.for_each(|row| {
            documents.take(&row[..row.len().min(BYTES)], &row[row.len().saturating_sub(BYTES)..])
        });
        assert_eq!(documents.of_old_emitters, 2);
        for (part, expected) in [
            (&b"\xa3nsp\xa6/admin\xa4type"[..], Some("/admin")),
            (b"\xa3nsp\xd9\x06/admin", Some("/admin")),
            (b"\xa3nsp\xa6/adm", None),
            (b"\xa3nsp\xa5admin", None),
            (b"\xa3nsp\x01", None),
            (b"\xa3nsp", None),
            (b"", None),
        ] {
            assert_eq!(namespace_of(part).as_deref(), expected, "{part:?}");
        }
    }
}
