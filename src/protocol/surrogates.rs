//! Lone surrogates in msgpack. A string of JavaScript may have them, and `@msgpack/msgpack` writes them into a short
//! string as three bytes that are not UTF-8.

use std::borrow::Cow;

/// The first byte of a surrogate.
const FIRST: u8 = 0xed;

/// U+FFFD in UTF-8. It has as many bytes as a surrogate.
const REPLACEMENT: [u8; 3] = [0xef, 0xbf, 0xbd];

/// Replaces the lone surrogates in the strings of a document by U+FFFD. Binary stays as it is. A document without any is
/// not copied.
///
/// Nesting does not matter: the items of a list follow its head like items of their own.
pub(super) fn replace_lone(document: &[u8]) -> Cow<'_, [u8]> {
    let mut replaced = Cow::Borrowed(document);
    if !may_have_surrogate(document) {
        return replaced;
    }
    let mut at = 0;
    while let Some(item) = document.get(at..).and_then(Item::of) {
        let text = document.get(at + item.head..at + item.head + item.body).filter(|_| item.is_text);
        let surrogates = text.into_iter().flat_map(|text| text.windows(3).enumerate());
        for (offset, _) in surrogates.filter(|(_, bytes)| is_surrogate(bytes)) {
            let start = at + item.head + offset;
            replaced.to_mut()[start..start + REPLACEMENT.len()].copy_from_slice(&REPLACEMENT);
        }
        at += item.head + item.body;
    }
    replaced
}

fn may_have_surrogate(bytes: &[u8]) -> bool {
    bytes.windows(3).any(is_surrogate)
}

/// Whether these are the bytes of a surrogate: U+D800 to U+DFFF, written as other characters are.
fn is_surrogate(bytes: &[u8]) -> bool {
    matches!(*bytes, [FIRST, 0xa0..=0xbf, 0x80..=0xbf])
}

/// An item of a document. The head of a list or a map is an item without a body.
struct Item {
    /// The size of its head, in bytes.
    head: usize,
    /// The size of its body, in bytes.
    body: usize,
    is_text: bool,
}

impl Item {
    /// The first item of these bytes. `None` if they end within its head.
    fn of(bytes: &[u8]) -> Option<Self> {
        /// The number after the first byte, of that many bytes.
        fn length<const N: usize>(bytes: &[u8]) -> Option<usize> {
            let bytes: [u8; N] = bytes.get(1..=N)?.try_into().ok()?;
            usize::try_from(bytes.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte))).ok()
        }
        let plain = |head, body| Self { head, body, is_text: false };
        let text = |head, body| Self { head, body, is_text: true };
        Some(match *bytes.first()? {
            head @ 0xa0..=0xbf => text(1, usize::from(head & 0x1f)),
            0xd9 => text(2, length::<1>(bytes)?),
            0xda => text(3, length::<2>(bytes)?),
            0xdb => text(5, length::<4>(bytes)?),
            // Binary.
            0xc4 => plain(2, length::<1>(bytes)?),
            0xc5 => plain(3, length::<2>(bytes)?),
            0xc6 => plain(5, length::<4>(bytes)?),
            // Extensions, whose type is one more byte.
            0xc7 => plain(3, length::<1>(bytes)?),
            0xc8 => plain(4, length::<2>(bytes)?),
            0xc9 => plain(6, length::<4>(bytes)?),
            head @ 0xd4..=0xd8 => plain(2, 1 << (head - 0xd4)),
            // Numbers.
            0xcc | 0xd0 => plain(1, 1),
            0xcd | 0xd1 => plain(1, 2),
            0xca | 0xce | 0xd2 => plain(1, 4),
            0xcb | 0xcf | 0xd3 => plain(1, 8),
            // Long lists and maps.
            0xdc | 0xde => plain(3, 0),
            0xdd | 0xdf => plain(5, 0),
            // Short ones, small numbers, and constants.
            _ => plain(1, 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use crate::protocol::msgpack;

    const LONE: &[u8] = b"\xed\xa0\x80";

    #[test]
    fn lone_surrogates_in_text_and_keys_become_the_replacement_character() {
        // {"k\ud800": ["a\udfffb", "한", <bytes>, "\ud800" × 80, 7]}
        let parts: [&[u8]; 10] = [
            b"\x81\xa4k",
            LONE,
            b"\x95\xa5a\xed\xbf\xbfb",
            b"\xa3\xed\x95\x9c",
            b"\xc4\x06",
            LONE,
            b"\xed\xbf\xbf",
            b"\xd9\xf0",
            &LONE.repeat(80),
            b"\x07",
        ];
        let value = msgpack::read(&parts.concat()).unwrap();
        let items = value.get("k\u{fffd}").and_then(Value::as_array).unwrap();
        assert_eq!(items[0].as_str(), Some("a\u{fffd}b"));
        assert_eq!(items[1].as_str(), Some("한"));
        assert_eq!(items[2].as_bytes(), Some(&b"\xed\xa0\x80\xed\xbf\xbf"[..]));
        assert_eq!(items[3].as_str(), Some(&*"\u{fffd}".repeat(80)));
        assert_eq!(items[4].as_i64(), Some(7));
    }

    #[test]
    fn items_of_each_type_are_passed_over() {
        let heads: [&[u8]; 24] = [
            b"\x7f",
            b"\xe0",
            b"\xc0",
            b"\xc3",
            b"\xca\xed\xa0\x80\0",
            b"\xcb\xed\xa0\x80\0\0\0\0\0",
            b"\xcc\xa3",
            b"\xcd\xed\xa0",
            b"\xce\xed\xa0\x80\0",
            b"\xcf\xed\xa0\x80\0\0\0\0\0",
            b"\xd0\xa3",
            b"\xd1\xed\xa0",
            b"\xd2\xed\xa0\x80\0",
            b"\xd3\xed\xa0\x80\0\0\0\0\0",
            b"\xd4\x05\xa3",
            b"\xd7\x05\xed\xa0\x80\0\0\0\0\0",
            b"\xc7\x03\x05\xed\xa0\x80",
            b"\xc8\0\x03\x05\xed\xa0\x80",
            b"\xc9\0\0\0\x03\x05\xed\xa0\x80",
            b"\xc5\0\x03\xed\xa0\x80",
            b"\xc6\0\0\0\x03\xed\xa0\x80",
            b"\xdc\0\0",
            b"\xdf\0\0\0\0",
            b"\x80",
        ];
        for before in heads {
            let document = |text: &[u8]| [b"\x92", before, b"\xda\0\x03", text].concat();
            let replaced = replace_lone(&document(LONE)).into_owned();
            assert_eq!(replaced, document(&REPLACEMENT), "{before:x?}");
            assert!(rmp_serde::from_slice::<serde::de::IgnoredAny>(&replaced).is_ok(), "{before:x?}");
        }
    }

    #[test]
    fn a_document_without_lone_surrogates_is_not_copied() {
        for document in [
            &b"\xa6\xed\x95\x9c\xed\x9f\xbf"[..],
            b"\xc4\x03\xed\xa0\x80",
            b"",
            b"\xdb\xff\xff\xff\xff\xed\xa0\x80",
        ] {
            assert!(matches!(replace_lone(document), Cow::Borrowed(_)), "{document:x?}");
        }
    }
}
