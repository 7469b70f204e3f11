//! The msgpack of the PL/pgSQL functions, decoded by rmp-serde, and compared with the input documents.

use fastrand::Rng;
use pgio::Value;
use pgio::protocol::Message;

use super::install;
use crate::support::postgres::postgres;
use crate::support::sql::Session;

const DOCUMENTS: usize = 10_000;
const BATCH: usize = 1_000;

/// Whole numbers at which the encoding or the type changes, with their neighbours.
const BOUNDARIES: [i128; 18] = [
    0,
    -32,
    127,
    128,
    -128,
    255,
    256,
    32_767,
    -32_768,
    65_535,
    1 << 31,
    -(1 << 31),
    1 << 32,
    1 << 53,
    -(1 << 53),
    1 << 63,
    -(1 << 63),
    1 << 64,
];

/// Lengths at which the encoding changes.
const LENGTHS: [usize; 12] = [0, 1, 15, 16, 17, 31, 32, 33, 255, 256, 65_535, 65_536];

/// JSON text, and its value.
type Document = (String, Value);

/// The document of a number: whole if it has no fraction other than 0 and fits into an `i64`.
fn number(text: &str) -> Document {
    let float = Value::Float(text.parse().unwrap());
    let whole = whole(text).and_then(|whole| i64::try_from(whole).ok());
    (text.to_owned(), whole.map_or(float, Value::Int))
}

/// The exact value of a number without a fraction.
fn whole(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{before}{after}");
    let mut exponent = exponent.parse::<i32>().unwrap() - i32::try_from(after.len()).unwrap();
    while exponent < 0 && digits.ends_with('0') {
        digits.pop();
        exponent += 1;
    }
    let scale = 10_i128.checked_pow(u32::try_from(exponent).ok()?)?;
    digits.parse::<i128>().ok()?.checked_mul(scale)
}

fn random_number(rng: &mut Rng) -> Document {
    match rng.u8(0..10) {
        0..4 => number(&(BOUNDARIES[rng.usize(..BOUNDARIES.len())] + i128::from(rng.i8(-1..=1))).to_string()),
        4 => number(&rng.i64(..).to_string()),
        5 => number(&rng.i32(-1000..1000).to_string()),
        6 => number(&format!("{}.{:02}", rng.i32(-10_000..10_000), rng.u8(0..100))),
        // All digits of any double.
        7 => match f64::from_bits(rng.u64(..)) {
            float if float.is_finite() => number(&format!("{float:?}")),
            _ => number("0.1"),
        },
        8 => number(&rng.u64(..).to_string()),
        _ => {
            const ODD: [(&str, f64); 9] = [
                ("1e400", f64::INFINITY),
                ("-1e400", f64::NEG_INFINITY),
                ("1e-400", 0.0),
                ("1.7976931348623157e308", f64::MAX),
                ("1.7976931348623158e308", f64::MAX),
                ("1.797693134862316e308", f64::INFINITY),
                ("5e-324", 5e-324),
                ("2.4703282292062328e-324", 5e-324),
                ("2.4703282292062327e-324", 0.0),
            ];
            let (text, float) = ODD[rng.usize(..ODD.len())];
            (text.into(), Value::Float(float))
        }
    }
}

fn random_text(rng: &mut Rng) -> String {
    const CHARS: [char; 14] = [
        'a',
        'Z',
        ' ',
        '"',
        '\\',
        '\n',
        '\u{1}',
        '\u{7f}',
        'é',
        '\u{2028}',
        '漢',
        '\u{fffd}',
        '𝄞',
        '\u{10ffff}',
    ];
    let length = match rng.u8(0..20) {
        0 => LENGTHS[rng.usize(..10)],
        _ => rng.usize(0..12),
    };
    match rng.bool() {
        true => (0..length).map(|_| rng.alphanumeric()).collect(),
        false => (0..length).map(|_| CHARS[rng.usize(..CHARS.len())]).collect(),
    }
}

fn random_document(rng: &mut Rng, depth: usize) -> Document {
    match rng.u8(0..if depth == 0 { 8 } else { 12 }) {
        0 => ("null".into(), Value::Null),
        1 => ("true".into(), true.into()),
        2 => ("false".into(), false.into()),
        3..6 => random_number(rng),
        6..8 => text(&random_text(rng)),
        8 | 9 => {
            let items = (0..items(rng)).map(|_| random_document(rng, depth - 1)).collect();
            array(items)
        }
        _ => {
            let entries = (0..items(rng))
                .map(|n| (format!("{n}{}", random_text(rng)), random_document(rng, depth - 1)));
            object(entries.collect())
        }
    }
}

fn items(rng: &mut Rng) -> usize {
    if rng.u8(0..30) == 0 { 14 + rng.usize(0..4) } else { rng.usize(0..5) }
}

fn text(text: &str) -> Document {
    (serde_json::to_string(text).unwrap(), text.into())
}

fn array(items: Vec<Document>) -> Document {
    let (texts, values): (Vec<_>, Vec<_>) = items.into_iter().unzip();
    (format!("[{}]", texts.join(",")), Value::Array(values))
}

fn object(entries: Vec<(String, Document)>) -> Document {
    let texts: Vec<_> = entries.iter().map(|(key, (value, _))| format!("{}:{value}", text(key).0)).collect();
    let values = entries.into_iter().map(|(key, (_, value))| (key, value)).collect();
    (format!("{{{}}}", texts.join(",")), Value::Object(values))
}

/// Encodes the documents in the database, in one query.
async fn encode(session: &Session, documents: &[Document]) -> Vec<Vec<u8>> {
    let texts: Vec<_> = documents.iter().map(|(text, _)| text.as_str()).collect();
    let query = "SELECT socket_io.msgpack(document::jsonb) \
        FROM unnest($1::text[]) WITH ORDINALITY AS given (document, number) ORDER BY number";
    session.query(query, &[&texts]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[track_caller]
fn check((text, value): &Document, bytes: &[u8]) {
    let shown: String = text.chars().take(500).collect();
    let read: Value = rmp_serde::from_slice(bytes).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(read == *value, "{shown} is read as {:.500}", read.to_string());
}

#[tokio::test]
async fn ten_thousand_random_documents_are_decoded_correctly() {
    let postgres = postgres().await;
    install(postgres.url(), &[]).await;
    let session = Session::open(postgres.url()).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    for _ in 0..DOCUMENTS / BATCH {
        let documents: Vec<_> = (0..BATCH).map(|_| random_document(&mut rng, 5)).collect();
        let encoded = encode(&session, &documents).await;
        assert_eq!(encoded.len(), BATCH);
        for (document, bytes) in documents.iter().zip(&encoded) {
            check(document, bytes);
        }
    }
}

#[tokio::test]
async fn every_boundary_of_the_encoding() {
    let postgres = postgres().await;
    install(postgres.url(), &[]).await;
    let session = Session::open(postgres.url()).await;
    let numbers = BOUNDARIES.iter().flat_map(|n| [n - 1, *n, n + 1]).map(|n| number(&n.to_string()));
    let mut documents: Vec<_> = numbers.collect();
    for length in LENGTHS {
        documents.push(text(&"x".repeat(length)));
        documents.push(array(vec![number("7"); length]));
        let key = |n: usize| (format!("{n}"), number("8"));
        documents.push(object((0..length).map(key).collect()));
        documents.push(object(vec![("k".repeat(length), text("v"))]));
        // Fewer characters than bytes.
        documents.push(text(&"é".repeat(length)));
    }
    for (document, bytes) in documents.iter().zip(encode(&session, &documents).await) {
        check(document, &bytes);
    }
}

#[tokio::test]
async fn documents_as_deep_as_a_value_may_be() {
    let postgres = postgres().await;
    install(postgres.url(), &[]).await;
    let session = Session::open(postgres.url()).await;
    let mut arrays = number("1");
    let mut objects = number("2");
    for _ in 0..256 {
        arrays = array(vec![arrays]);
        objects = object(vec![("a".into(), objects)]);
    }
    let documents = [arrays, objects];
    for (document, bytes) in documents.iter().zip(encode(&session, &documents).await) {
        // The decoder's own recursion limit is lower than ours.
        let mut deserializer = rmp_serde::Deserializer::new(bytes.as_slice());
        deserializer.set_max_depth(1000);
        let read: Value = serde::Deserialize::deserialize(&mut deserializer).unwrap();
        assert!(read == document.1);
    }
}

/// The whole row, as servers decode it.
#[tokio::test]
async fn a_row_is_a_message() {
    let postgres = postgres().await;
    install(postgres.url(), &[]).await;
    let session = Session::open(postgres.url()).await;
    session.execute("SELECT socket_io.emit('big', jsonb_build_array(repeat('x', 9000), 1), '{r1,r2}', '{r3}', 'admin', true, false)").await;
    session.execute("SELECT socket_io.emit('bytes', bytea '\\xcafe', rooms => '{r1}')").await;
    session.execute("SELECT socket_io.server_side_emit('bytes', bytea '\\xcafe')").await;
    let rows = session.query("SELECT payload FROM socket_io_attachments ORDER BY id", &[]).await.unwrap();
    let rows: Vec<Message> = rows
        .iter()
        .map(|row| Message::decode_document(row.get(0), &pgio::Namespace::default()).unwrap())
        .collect();
    let shown: Vec<_> =
        rows.iter().map(|message| format!("{message:?}").replace(&"x".repeat(9000), "x9000")).collect();
    assert!(shown[0].contains("\"/admin\"") && shown[0].contains("volatile: Some(true)"), "{}", shown[0]);
    assert!(shown[0].contains("compress: Some(false)") && shown[0].contains("x9000"), "{}", shown[0]);
    assert!(shown[1].contains("Broadcast") && shown[2].contains("ServerSideEmit"), "{shown:?}");
    assert!(rows.iter().all(|message| message.uid.is_emitter()));
}
