//! What has to hold for whatever bytes come: the fuzz targets, and the test that runs their corpus.

use std::io::Write;
use std::sync::LazyLock;

use pgio::postgres::TableName;
use pgio::protocol::{Body, Encoded, Message, Namespace, Notification};
use pgio::server::{Authentication, Jwt, JwtKey, Tokens, fuzzing};

/// A target's name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 7] = [
    ("notification", notification),
    ("attachment", attachment),
    ("settings", settings),
    ("client", client),
    ("token", token),
    ("identifier", identifier),
    ("request", request),
];

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

/// An event of a client: in text, then its attachments after a line break each; or in msgpack.
pub fn client(bytes: &[u8]) {
    let (text, attachments) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            (&bytes[..end], bytes[end + 1..].split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect())
        }
        None => (bytes, Vec::new()),
    };
    for args in [
        std::str::from_utf8(text).ok().and_then(|text| fuzzing::args_of_client(Some(text), attachments, &[])),
        fuzzing::args_of_client(None, Vec::new(), bytes),
    ] {
        let Some(args) = args else { continue };
        let mut event = vec![pgio::Value::from("e")];
        event.extend(args);
        // An event that a client has sent can be relayed to other servers.
        assert!(serde_json::to_string(&pgio::Value::Array(event)).is_ok());
    }
}

/// Checks the `auth` of a client against authentications whose tokens nobody can guess.
pub fn token(bytes: &[u8]) {
    static AUTHENTICATIONS: LazyLock<[Authentication; 3]> = LazyLock::new(|| {
        let secret = "a secret that nobody guesses, of more than 32 bytes";
        let public = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\nq9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n-----END PUBLIC KEY-----\n";
        let directory = std::env::temp_dir();
        let path = directory.join(format!("pgio-fuzz-{}-{:x}", std::process::id(), fastrand::u64(..)));
        let file = |text: &str| {
            std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
            path.as_path()
        };
        let authentications = [
            Authentication::Tokens(Tokens::read(file(secret)).unwrap()),
            Authentication::Jwt(Jwt::new(JwtKey::read(file(secret)).unwrap())),
            Authentication::Jwt(Jwt::new(JwtKey::read(file(public)).unwrap())),
        ];
        std::fs::remove_file(&path).unwrap();
        authentications
    });
    for authentication in AUTHENTICATIONS.iter() {
        assert!(!fuzzing::admits(authentication, bytes), "{authentication:?} admits the client");
    }
}

/// Quotes the name of a table and of a channel. The result is one identifier, or one for each part.
pub fn identifier(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let quoted = fuzzing::quoted(text);
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("it is quoted");
    assert_eq!(inner.replace("\"\"", "").matches('"').count(), 0, "{quoted}");
    assert_eq!(inner.replace("\"\"", "\""), text);
    let Ok(table) = text.parse::<TableName>() else { return };
    // Outside of quotation marks nothing is left that could be another word or another statement.
    let mut is_quoted = false;
    for c in table.as_sql().chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\0' => panic!("{text:?}"),
            c => assert!(is_quoted || c.is_alphanumeric() || ['_', '$', '.'].contains(&c), "{text:?}"),
        }
    }
    assert!(!is_quoted, "{text:?}");
}

/// A request line's target, then a header on each line.
pub fn request(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let headers: Vec<_> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
        .collect();
    if let Some(handshake) = fuzzing::handshake(target, &headers) {
        let text = serde_json::to_string(&handshake).expect("it can be told to other servers");
        assert!(
            !text.contains("\"cookie\":") && !text.contains("\"authorization\":")
                || text.contains("\"query\":{\"")
        );
    }
    if let Ok(path) = std::str::from_utf8(target)
        && fuzzing::is_path(path)
    {
        assert!(path.starts_with('/') && !path.contains(['?', '#', ' ', '\n']), "{path:?}");
    }
}

/// A seed with a few bytes changed, removed or doubled, or with the end of another one.
pub fn mutant(seed: &[u8], seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=bytes.len());
        match random.u8(..5) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => {
                let from = random.usize(..=at);
                let piece = bytes[from..at].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = random.choice(seeds).map_or(&[][..], Vec::as_slice);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
    bytes
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
