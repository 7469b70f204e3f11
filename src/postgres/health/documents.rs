//! The namespaces that documents in the attachment table name.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::Examiner;
use crate::Result;
use crate::postgres::failure;

/// How many rows are looked at, the youngest ones.
const ROWS: u32 = 1000;

/// How many bytes are read at the begin and at the end of a document: pgio begins with the namespace, and Node's adapters
/// from 0.4 on end with it.
const BYTES: usize = 160;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The key of the namespace in msgpack.
const NSP: &[u8] = b"\xa3nsp";

impl Examiner {
    /// The namespaces of the latest rows in the attachment table. A document tells no channel prefix, so these may be those of
    /// another cluster with the same table.
    pub(crate) async fn namespaces_in_table(&self) -> Result<BTreeSet<String>> {
        let (table, patience) = (self.table.as_sql(), PATIENCE.as_millis());
        // Simple statements share a transaction, and the setting ends with it.
        let sql = format!(
            "SELECT pg_catalog.set_config('statement_timeout', '{patience}', true); \
             SELECT encode(substring(payload FROM 1 FOR {BYTES}), 'hex'), \
             encode(substring(payload FROM greatest(1, length(payload) - {BYTES})), 'hex') \
             FROM {table} ORDER BY id DESC LIMIT {ROWS}"
        );
        let answers = self.session.client().await?.simple_query(&sql).await;
        let answers = answers.map_err(|error| failure(&error))?;
        let mut namespaces = BTreeSet::new();
        for answer in &answers {
            let SimpleQueryMessage::Row(row) = answer else { continue };
            let part = |column| row.try_get(column).ok().flatten().and_then(from_hex);
            namespaces.extend(part(0).and_then(|head| namespace_of(&head)));
            if row.len() > 1 {
                namespaces.extend(part(1).and_then(|tail| namespace_of(&tail)));
            }
        }
        Ok(namespaces)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// The value of the last key `nsp` in a part of a document, where it is the name of a namespace.
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

    /// What servers of Node and pgio wrote.
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
