//! The sockets of a response, out of the values of a row.

use super::value::Object;
use super::{Body, RemoteSocket, Value, room_list};
use crate::{Error, Result};

/// Reads the `data` of a response with sockets. Serde would copy the handshakes and the data of the sockets, and a list can
/// have thousands; here they are moved.
///
/// Data and sockets must be objects, as all peers write them: serde also takes arrays of their fields.
pub(super) fn read(data: Value) -> Result<Body> {
    let mut data = Fields::of(data, "the data")?;
    let request_id = data.take("requestId")?.into_rust()?;
    let Value::Array(sockets) = data.take("sockets")? else {
        return Err(Error::Decode("`sockets` is not an array".into()));
    };
    let sockets = sockets.into_iter().map(socket).collect::<Result<_>>()?;
    Ok(Body::FetchSocketsResponse { request_id, sockets })
}

fn socket(socket: Value) -> Result<RemoteSocket> {
    let mut fields = Fields::of(socket, "a socket")?;
    Ok(RemoteSocket {
        id: fields.take("id")?.into_rust()?,
        handshake: fields.take_if_present("handshake").unwrap_or_default(),
        rooms: fields.take_if_present("rooms").map_or(Ok(Vec::new()), room_list::lenient)?,
        data: fields.take_if_present("data").unwrap_or_default(),
    })
}

/// The fields of an object.
struct Fields(Object);

impl Fields {
    /// The error does not show the value, which can be large or secret.
    fn of(value: Value, what: &str) -> Result<Self> {
        match value {
            Value::Object(entries) => Ok(Self(entries)),
            _ => Err(Error::Decode(format!("{what} is not an object"))),
        }
    }

    fn take(&mut self, name: &str) -> Result<Value> {
        self.take_if_present(name).ok_or_else(|| Error::Decode(format!("missing field `{name}`")))
    }

    fn take_if_present(&mut self, name: &str) -> Option<Value> {
        self.0.swap_remove(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{EventArgs, MessageKind, data};

    #[test]
    fn sockets_are_read_as_serde_reads_them() {
        let cases = [
            (r#"{"requestId":"r","sockets":[]}"#, Some(0)),
            (
                r#"{"sockets":[{"rooms":["a","b"],"data":{"x":[1]},"handshake":{"b":1,"a":2},"id":"a"}],"requestId":"r"}"#,
                Some(1),
            ),
            (r#"{"requestId":"r","sockets":[{"id":"a"},{"id":"b","handshake":null,"unknown":1}]}"#, Some(2)),
            (r#"{"requestId":"r","sockets":[{"id":1}]}"#, None),
            (r#"{"requestId":"r","sockets":[{"handshake":{}}]}"#, None),
            (r#"{"requestId":"r","sockets":[{"id":"a","rooms":null}]}"#, None),
            (r#"{"requestId":"r","sockets":[{"id":"a","rooms":["a",42,null,{}]}]}"#, Some(1)),
            (r#"{"requestId":"r","sockets":[{"id":"a","rooms":"a"}]}"#, None),
            (r#"{"requestId":"r","sockets":["a"]}"#, None),
            (r#"{"requestId":"r","sockets":null}"#, None),
            (r#"{"requestId":"r"}"#, None),
            (r#"{"requestId":1,"sockets":[]}"#, None),
            (r#"{"sockets":[]}"#, None),
            ("null", None),
        ];
        for (json, expected) in cases {
            let value = Value::from_json(json).unwrap();
            let by_serde =
                data::read(MessageKind::FetchSocketsResponse, value.clone(), EventArgs::from_values);
            let moved = read(value);
            let count = match &moved {
                Ok(Body::FetchSocketsResponse { sockets, .. }) => Some(sockets.len()),
                _ => None,
            };
            assert_eq!(count, expected, "{json}: {moved:?}");
            match by_serde {
                Ok(body) => assert_eq!(moved.unwrap(), body, "{json}"),
                Err(_) => assert!(moved.is_err(), "{json}"),
            }
        }
    }

    #[test]
    fn an_error_names_the_field() {
        let error = |json: &str| read(Value::from_json(json).unwrap()).unwrap_err().to_string();
        assert!(error(r#"{"requestId":"r","sockets":[{}]}"#).contains("missing field `id`"));
        assert!(error(r#"{"requestId":"r","sockets":[["secret"]]}"#).ends_with("a socket is not an object"));
        assert!(error(r#"["secret"]"#).ends_with("the data is not an object"));
        assert!(error(r#"{"requestId":"r","sockets":{}}"#).contains("`sockets` is not an array"));
    }
}
