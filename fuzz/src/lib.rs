//! What has to hold for whatever bytes come: the fuzz targets, and the test that runs their corpus.

use pgio::protocol::{Body, Encoded, Message, Namespace, Notification};

/// A target's name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 3] =
    [("notification", notification), ("attachment", attachment), ("settings", settings)];

/// The text of a notification: the envelope, then the message.
pub fn notification(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(notification) = Notification::parse(text, &Namespace::default()) else { return };
    if let Ok(message) = notification.into_message() {
        check(&message);
    }
}

/// The msgpack of a row of the attachment table.
pub fn attachment(bytes: &[u8]) {
    if let Ok(message) = Message::decode_document(bytes, &Namespace::default()) {
        check(&message);
    }
}

/// A connection URL, or libpq's `keyword=value` pairs.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = pgio::Settings::parse(text) {
        assert!(!error.to_string().contains('\n'), "an error is one line: {error}");
    }
}

fn check(message: &Message) {
    if let Body::Broadcast { event, .. } | Body::ServerSideEmit { event, .. } = &message.body {
        // An event is kept as it came until somebody looks; only then does it turn out not to be one.
        let Ok((name, _)) = event.clone().into_parts() else { return };
        assert_eq!(event.event().ok().as_deref(), Some(&*name), "both ways to the name agree");
    }
    encodings_are_stable(message);
}

/// What we send of a message that came is read back as what we would send again.
fn encodings_are_stable(message: &Message) {
    for threshold in [0, usize::MAX] {
        let Ok(first) = message.encode(threshold) else { continue };
        let again = match &first {
            Encoded::Inline(text) => {
                Notification::parse(text, &message.nsp).and_then(Notification::into_message)
            }
            Encoded::Attachment { document, .. } => Message::decode_document(document, &message.nsp),
        };
        let again = again.unwrap_or_else(|error| panic!("{first:?} cannot be read back: {error}"));
        assert_eq!(again.encode(threshold).ok().as_ref(), Some(&first));
    }
}
