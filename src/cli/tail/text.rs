//! Formats a message as one line of text.

use std::time::SystemTime;

use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthChar;

use crate::cli::binary_json::BinaryJson;
use crate::cli::output::{number, safe};
use crate::cli::timestamp;
use crate::cluster::{Attached, Content, Received};
use crate::protocol::{Body, BroadcastOptions, EventArgs, Flags, RequestId};
use crate::{Namespace, Value};

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// The number of shown bytes of a binary value.
const BINARY_SHOWN: usize = 8;

/// Formats one line, at most `width` columns wide. The order is: time, namespace, message, recipients, sender.
pub(in crate::cli) fn line(received: &Received, width: Option<usize>) -> String {
    let mut line = Line { text: String::new(), left: width.unwrap_or(usize::MAX) };
    line.add(DIM, &clock(received.time));
    let header = received.content.header();
    match &header {
        Some(header) => line.add("", &format!(" {} ", header.nsp)),
        None => line.add("", &format!(" {} ", received.channel)),
    }
    match &received.content {
        Content::Message(message) => body(&mut line, &message.body),
        Content::Missing(header) => {
            line.add(BOLD, header.kind.name());
            line.add(RED, " its attachment is missing: a server deleted the row first");
        }
        Content::Unreadable(header, error) => {
            line.add(BOLD, header.as_ref().map_or("malformed", |header| header.kind.name()));
            line.add(RED, &format!(" {error}"));
        }
    }
    if let Some(header) = &header {
        line.add(DIM, &format!("  from {}", header.uid));
    }
    match received.attachment {
        Some(Attached { id, bytes: Some(bytes), .. }) => {
            line.add(DIM, &format!("  attachment {id}, {}", number::size(bytes as u64)));
        }
        Some(Attached { id, bytes: None, .. }) => line.add(DIM, &format!("  attachment {id}")),
        None => {}
    }
    line.text
}

/// Formats an event that a client received, or the acknowledgement of its own event.
pub(in crate::cli) fn client_line(
    time: SystemTime,
    nsp: &Namespace,
    event: &str,
    args: &[Value],
    remark: &str,
    width: Option<usize>,
) -> String {
    let mut line = Line { text: String::new(), left: width.unwrap_or(usize::MAX) };
    line.add(DIM, &clock(time));
    line.add("", &format!(" {nsp} "));
    line.add(BOLD, event);
    for arg in args {
        line.add("", &format!(" {}", short(arg)));
    }
    line.add(DIM, remark);
    line.text
}

fn clock(time: SystemTime) -> String {
    timestamp::of(time).to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string()
}

fn body(line: &mut Line, body: &Body) {
    match body {
        Body::Broadcast { opts, event, request_id } => {
            event_args(line, event);
            target(line, opts);
            request(line, request_id.as_ref());
        }
        Body::ServerSideEmit { event, request_id } => {
            line.add("", "server-side ");
            event_args(line, event);
            request(line, request_id.as_ref());
        }
        Body::SocketsJoin { opts, rooms } => {
            line.add(BOLD, &format!("join {}", rooms.join(", ")));
            target(line, opts);
        }
        Body::SocketsLeave { opts, rooms } => {
            line.add(BOLD, &format!("leave {}", rooms.join(", ")));
            target(line, opts);
        }
        Body::DisconnectSockets { opts, close } => {
            line.add(BOLD, if *close { "disconnect and close" } else { "disconnect" });
            target(line, opts);
        }
        Body::FetchSockets { opts, request_id } => {
            line.add(BOLD, "fetch sockets");
            target(line, opts);
            request(line, Some(request_id));
        }
        Body::FetchSocketsResponse { request_id, sockets } => {
            let sockets = sockets.len() as u64;
            line.add(BOLD, &number::counted(sockets, "socket"));
            request(line, Some(request_id));
        }
        Body::BroadcastClientCount { request_id, client_count } => {
            line.add(BOLD, &format!("{} will acknowledge", number::counted(*client_count, "client")));
            request(line, Some(request_id));
        }
        Body::BroadcastAck { request_id, answer } => {
            line.add(BOLD, "acknowledged");
            if let Some(answer) = answer {
                line.add("", &format!(" {}", short(answer)));
            }
            request(line, Some(request_id));
        }
        Body::ServerSideEmitResponse { request_id, answer } => {
            line.add(BOLD, "answered");
            line.add("", &format!(" {}", short(answer)));
            request(line, Some(request_id));
        }
        Body::InitialHeartbeat | Body::Heartbeat | Body::AdapterClose => line.add(BOLD, body.kind().name()),
    }
}

fn event_args(line: &mut Line, event: &EventArgs) {
    match event.clone().into_parts() {
        Ok((name, args)) => {
            line.add(BOLD, &name);
            for arg in &args {
                line.add("", &format!(" {}", short(arg)));
            }
        }
        Err(error) => line.add(RED, &error.to_string()),
    }
}

fn target(line: &mut Line, opts: &BroadcastOptions) {
    if !opts.rooms.is_empty() {
        line.add("", &format!("  to {}", opts.rooms.join(", ")));
    }
    if !opts.except.is_empty() {
        line.add("", &format!("  except {}", opts.except.join(", ")));
    }
    let Flags { volatile, compress, .. } = opts.flags;
    if volatile == Some(true) {
        line.add(DIM, "  volatile");
    }
    if let Some(compress) = compress {
        line.add(DIM, if compress { "  compress" } else { "  not compressed" });
    }
}

fn request(line: &mut Line, id: Option<&RequestId>) {
    if let Some(id) = id {
        line.add(DIM, &format!("  request {id}"));
    }
}

/// Formats a value as JSON, with binary as its size and first bytes.
fn short(value: &Value) -> String {
    match value {
        Value::Binary(bytes) => {
            let hex: String = bytes.iter().take(BINARY_SHOWN).map(|byte| format!("{byte:02x}")).collect();
            let more = if bytes.len() > BINARY_SHOWN { "…" } else { "" };
            format!("<{} {hex}{more}>", number::counted(bytes.len() as u64, "byte"))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(short).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, item)| format!("{}:{}", Value::from(key.as_str()), short(item)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        plain => serde_json::to_string(&BinaryJson(plain)).unwrap_or_default(),
    }
}

/// A line under construction. If it would be too wide, it ends with `…`.
struct Line {
    text: String,
    left: usize,
}

impl Line {
    fn add(&mut self, style: &str, text: &str) {
        if self.left == 0 {
            return;
        }
        let text = safe::line(text);
        self.text.push_str(style);
        for c in text.chars() {
            let width = c.width().unwrap_or(0);
            if width >= self.left && self.left != usize::MAX {
                self.text.push('…');
                self.left = 0;
                break;
            }
            if self.left != usize::MAX {
                self.left -= width;
            }
            self.text.push(c);
        }
        if !style.is_empty() {
            self.text.push_str(PLAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Channel, Message, Uid};
    use crate::{Namespace, RemoteSocket};

    fn received(event: EventArgs, rooms: &[&str]) -> Received {
        let rooms = rooms.iter().map(|room| (*room).to_owned()).collect();
        let opts = BroadcastOptions { rooms, ..BroadcastOptions::default() };
        received_body(Body::Broadcast { opts, event, request_id: None })
    }

    fn received_body(body: Body) -> Received {
        let nsp = Namespace::default();
        let channel: Channel = nsp.channel("socket.io").unwrap();
        let content = Content::Message(Message { uid: Uid::emitter(), nsp, body });
        Received {
            time: std::time::SystemTime::UNIX_EPOCH,
            backend: None,
            channel,
            text: String::new(),
            attachment: None,
            content,
            is_replayed: false,
        }
    }

    fn plain(received: &Received, width: Option<usize>) -> String {
        anstream::adapter::strip_str(&line(received, width)).to_string()
    }

    #[test]
    fn a_line_names_the_event_and_its_rooms() {
        let event = EventArgs::new("ping", ["<>".into(), Value::Binary(vec![1, 2, 255].into())]);
        let text = plain(&received(event, &["r1", "r2"]), None);
        assert!(text.ends_with(" / ping \"<>\" <3 bytes 0102ff>  to r1, r2  from emitter"), "{text}");
    }

    #[test]
    fn one_is_one_and_none_and_two_are_several() {
        let socket =
            RemoteSocket { id: "s".into(), handshake: Value::Null, rooms: Vec::new(), data: Value::Null };
        let texts = |count: u64| {
            let request_id = RequestId::from("r");
            let sockets = (0..count).map(|_| socket.clone()).collect();
            [
                Body::BroadcastClientCount { request_id: request_id.clone(), client_count: count },
                Body::FetchSocketsResponse { request_id, sockets },
            ]
            .map(|body| plain(&received_body(body), None))
        };
        for (count, clients, sockets) in [
            (0, " 0 clients will acknowledge  ", " 0 sockets  "),
            (1, " 1 client will acknowledge  ", " 1 socket  "),
            (2, " 2 clients will acknowledge  ", " 2 sockets  "),
        ] {
            let [said, had] = texts(count);
            assert!(said.contains(clients) && had.contains(sockets), "{said}; {had}");
        }
        let one_byte = EventArgs::new("e", [Value::Binary(vec![7].into())]);
        assert!(plain(&received(one_byte, &[]), None).contains(" <1 byte 07> "));
    }

    #[test]
    fn hostile_names_stay_on_their_line_and_wide_ones_fit() {
        let text =
            line(&received(EventArgs::new("a\x1b[2J\nb", []), &["漢字".repeat(50).as_str()]), Some(40));
        assert!(!anstream::adapter::strip_str(&text).to_string().contains(['\x1b', '\n']), "{text:?}");
        let width: usize =
            anstream::adapter::strip_str(&text).to_string().chars().filter_map(|c| c.width()).sum();
        assert!(width <= 40, "{width}");
        assert!(text.contains('…'));
    }
}
