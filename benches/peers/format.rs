//! The notifications that carry the event `["tick",N]` to the servers of a cluster.

use std::io;

use super::programs::{Programs, successful};

/// The notification of an event: this text before its number, and this one after it.
pub struct Format {
    pub channel: String,
    before: String,
    after: String,
    digits: Digits,
}

/// How the number is written.
enum Digits {
    Plain,
    /// As the numbers of its bytes, with commas between them.
    Bytes,
}

impl Format {
    /// That of pgio. The Node packages write the same without the `source`.
    pub fn of_node() -> Self {
        let before = r#"{"uid":"emitter","nsp":"/","type":3,"source":"_sio_adapter","data":{"opts":{"rooms":[],"except":[],"flags":{}},"packet":{"type":2,"data":["tick","#;
        Self {
            channel: "socket.io#/".into(),
            before: before.into(),
            after: "]}}}".into(),
            digits: Digits::Plain,
        }
    }

    /// That of socketioxide-postgres, as its adapter prints it.
    pub fn of_socketioxide(programs: &Programs) -> io::Result<Self> {
        let mut command = programs.socketioxide();
        let output = command.arg("format").output()?;
        successful(&command, output.status)?;
        let printed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let text = |name: &str| {
            let text = printed[name].as_str().map(str::to_owned);
            text.ok_or_else(|| io::Error::other(format!("socketioxide-peer printed no {name}")))
        };
        Ok(Self {
            channel: text("channel")?,
            before: text("before")?,
            after: text("after")?,
            digits: Digits::Bytes,
        })
    }

    /// The notification of the event with this number.
    pub fn text(&self, number: u64) -> String {
        let (before, after) = (&self.before, &self.after);
        match self.digits {
            Digits::Plain => format!("{before}{number}{after}"),
            Digits::Bytes => {
                let bytes: Vec<_> = number.to_string().bytes().map(|byte| byte.to_string()).collect();
                format!("{before}{}{after}", bytes.join(","))
            }
        }
    }
}
