//! The data that the Admin UI of Node servers needs of a fetched socket.

use socketioxide::TransportType;

use super::Sid;
use crate::protocol::{Object, Value};

/// The length of a client id: the first characters of a session id, as in Node. The UI groups the sockets of a client by
/// it.
const CLIENT_ID: usize = 12;

/// The client id of a socket for the UI. All sockets of a connection have the same one.
pub(crate) fn client_id(sid: Sid) -> String {
    sid.as_str().chars().take(CLIENT_ID).collect()
}

/// The name of a transport in Node.
pub(crate) fn transport_name(transport: TransportType) -> &'static str {
    match transport {
        TransportType::Polling => "polling",
        TransportType::Websocket => "websocket",
    }
}

/// The data of a socket with `_admin`, which holds its client and transport for the UI. Data that is no object stays
/// unchanged, except `null`, which an instrumented server cannot read.
pub(super) fn with_admin(data: Value, sid: Sid, transport: TransportType) -> Value {
    let mut data = match data {
        Value::Null => Object::new(),
        Value::Object(data) => data,
        other => return other,
    };
    let admin = Object::from([
        ("clientId".to_owned(), client_id(sid).into()),
        ("transport".to_owned(), transport_name(transport).into()),
    ]);
    data.insert("_admin".into(), admin.into());
    Value::Object(data)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_data_of_a_fetched_socket_tells_its_client() {
        let sid = Sid::new();
        let admin = json!({"clientId": sid.as_str()[..12], "transport": "websocket"});
        let with = |data: serde_json::Value| {
            serde_json::to_value(with_admin(Value::from(data), sid, TransportType::Websocket)).unwrap()
        };
        assert_eq!(with(json!({"a": 1, "_admin": 7})), json!({"a": 1, "_admin": admin}));
        assert_eq!(with(json!(null)), json!({"_admin": admin}));
        assert_eq!(with(json!([1])), json!([1]));
        assert_eq!(with(json!("text")), json!("text"));
    }
}
