//! `tail --save`: saves attachments as files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Value;
use crate::cli::event_line::EventLine;
use crate::cli::exit::Failure;
use crate::cluster::{Content, Received};
use crate::protocol::Body;

/// Saves messages that came as attachments in a directory.
pub(super) struct Saver {
    directory: PathBuf,
}

impl Saver {
    /// Creates the directory if it does not exist.
    pub(super) fn new(directory: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(|e| Failure::file(directory, &e))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Writes `ID.json`, and the binary values in it as `ID.1.bin`, `ID.2.bin`, ... in their order in the message.
    pub(super) fn save(&self, received: &Received) -> Result<(), Failure> {
        let (Some(attached), Content::Message(message)) = (received.attachment, &received.content) else {
            return Ok(());
        };
        let line = serde_json::to_string(&EventLine(received)).map_err(|e| Failure::Other(e.to_string()))?;
        self.write(&format!("{}.json", attached.id), format!("{line}\n").as_bytes())?;
        let mut binaries = Vec::new();
        match &message.body {
            Body::Broadcast { event, .. } | Body::ServerSideEmit { event, .. } => {
                // An invalid event has no arguments. The line reports its error.
                if let Ok((_, args)) = event.clone().into_parts() {
                    args.iter().for_each(|arg| collect(arg, &mut binaries));
                }
            }
            Body::BroadcastAck { answer: Some(answer), .. } | Body::ServerSideEmitResponse { answer, .. } => {
                collect(answer, &mut binaries);
            }
            _ => {}
        }
        for (index, bytes) in binaries.iter().enumerate() {
            self.write(&format!("{}.{}.bin", attached.id, index + 1), bytes)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.directory.join(name);
        fs::write(&path, content).map_err(|e| Failure::file(&path, &e))
    }
}

/// Collects the binary values in a value, in order.
fn collect(value: &Value, into: &mut Vec<bytes::Bytes>) {
    match value {
        Value::Binary(bytes) => into.push(bytes.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(entries) => entries.values().for_each(|item| collect(item, into)),
        _ => {}
    }
}
