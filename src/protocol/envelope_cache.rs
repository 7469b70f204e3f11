//! The envelope of the last broadcast of a channel. In a flood, one notification often differs from the one before only in
//! its event, and then only the event is read.

use serde_json::value::RawValue;

use super::data::BroadcastData;
use super::envelope_text::DataText;
use super::{BroadcastOptions, Header, Notification};

/// The longest text around an event that is cached, in bytes. Each channel has a cache.
const MAX_CACHED: usize = 1024;

/// The text around the event of the last broadcast, and its decoded envelope.
///
/// The notifications of one channel share a cache, since the namespace of a message may be that of its channel.
#[derive(Debug, Default)]
pub(crate) struct EnvelopeCache {
    before_event: String,
    after_event: String,
    /// Present once two broadcasts in a row had this text around their events. If envelopes
    /// alternate, their rooms are not copied.
    decoded: Option<Decoded>,
}

#[derive(Debug)]
struct Decoded {
    header: Header,
    has_nsp: bool,
    opts: BroadcastOptions,
}

impl EnvelopeCache {
    /// The notification with this text, if it has the cached envelope.
    ///
    /// The result is that of [`Notification::parse`]: the cached text ends where a JSON value begins, and goes on where one
    /// ends. So if a complete JSON value is between the two parts, the rest of the text has the same meaning as before.
    pub(super) fn get<'a>(&self, text: &'a str) -> Option<Notification<'a>> {
        let Decoded { header, has_nsp, opts } = self.decoded.as_ref()?;
        let event = serde_json::from_str::<&RawValue>(self.event_of(text)?).ok()?;
        let data = Some(DataText::Broadcast(BroadcastData::new(opts.clone(), event)));
        Some(Notification { header: header.clone(), attachment: None, has_nsp: *has_nsp, data })
    }

    /// Records the envelope of a notification that was not in the cache.
    pub(super) fn record(&mut self, text: &str, notification: &Notification<'_>) {
        let Notification { header, attachment: None, has_nsp, data: Some(DataText::Broadcast(data)) } =
            notification
        else {
            return;
        };
        let Some(range) = data.event_without_request().and_then(|event| range_in(text, event.get())) else {
            return;
        };
        if range.start == self.before_event.len()
            && self.event_of(text).is_some_and(|event| event.len() == range.len())
        {
            let (header, opts) = (header.clone(), data.opts().clone());
            self.decoded = Some(Decoded { header, has_nsp: *has_nsp, opts });
            return;
        }
        self.decoded = None;
        if text.len() - range.len() > MAX_CACHED {
            return;
        }
        self.before_event.clear();
        self.before_event.push_str(&text[..range.start]);
        self.after_event.clear();
        self.after_event.push_str(&text[range.end..]);
    }

    /// The text between the two cached parts, if the text has both.
    fn event_of<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.strip_prefix(&*self.before_event)?.strip_suffix(&*self.after_event)
    }
}

/// Where a part of a text is in that text.
fn range_in(text: &str, part: &str) -> Option<std::ops::Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let range = start..start + part.len();
    // A text that was copied is somewhere else.
    (text.get(range.clone())? == part).then_some(range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Namespace;

    /// The text of a broadcast with this event in an envelope of Node's emitter, and in one with an additional room.
    fn texts(event: &str) -> [String; 2] {
        ["", "\"r1\""].map(|room| {
            format!(
                r#"{{"uid":"emitter","nsp":"/","type":3,"data":{{"opts":{{"rooms":[{room}],"except":[],"flags":{{}}}},"packet":{{"type":2,"data":{event},"nsp":"/"}}}}}}"#
            )
        })
    }

    fn parsed(text: &str, cache: &mut EnvelopeCache) -> String {
        let notification = Notification::parse_cached(text, &Namespace::default(), cache);
        let has_nsp = notification.as_ref().ok().map(|notification| notification.has_nsp);
        format!("{has_nsp:?} {:?}", notification.and_then(Notification::into_message))
    }

    #[test]
    fn a_cached_envelope_changes_no_result() {
        let envelope = |uid: &str, rest: &str| format!(r#"{{"uid":"{uid}","type":3,"data":{rest}}}"#);
        let mut all: Vec<String> = [
            r#"["e",1]"#,
            r#"["e",2]"#,
            r#" ["e", 3] "#,
            "[]",
            "17",
            "null",
            "",
            "[",
            r#"["e"],"x":[1]"#,
            r#"["e"]},"packet":{"data":["f"]"#,
            r#""\ud800""#,
            r#"["]"]"#,
            r#"["é\u0000"]"#,
            "1 2",
            r#"["e",1]x"#,
        ]
        .iter()
        .flat_map(|event| texts(event))
        .collect();
        all.push(envelope("0123456789abcdef", r#"{"packet":{"data":["e"]},"requestId":"r1"}"#));
        all.push(envelope("0123456789abcdef", r#"{"packet":{"data":["e"]}}"#));
        all.push(envelope("emitter", r#"{"packet":{"data":["e"]}}"#));
        all.push(r#"{"uid":"emitter","type":3,"attachmentId":"1","data":{"packet":{"data":["e"]}}}"#.into());
        all.push(
            r#"{"uid":"emitter","type":3,"data":{"packet":{"data":["e"]}},"data":{"packet":{"data":["e"]}}}"#
                .into(),
        );
        for first in &all {
            for second in &all {
                let mut cache = EnvelopeCache::default();
                for text in [first, first, first, second, first, second, second, second] {
                    assert_eq!(
                        parsed(text, &mut cache),
                        parsed(text, &mut EnvelopeCache::default()),
                        "{first} {second}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_in_place_of_an_event_is_read_as_without_a_cache(event in r#"[\[\]{}",:\\ e1\n.-]{0,10}"#, at: bool) {
            let text = &texts(&event)[usize::from(at)];
            let mut cache = EnvelopeCache::default();
            for before in &texts(r#"["e",1]"#) {
                for text in [before, before, text, text] {
                    prop_assert_eq!(parsed(text, &mut cache), parsed(text, &mut EnvelopeCache::default()));
                }
            }
        }
    }

    #[test]
    fn the_second_equal_envelope_is_cached() {
        let ([first, other], [second, _]) = (texts(r#"["e",1]"#), texts(r#"["e",2]"#));
        let mut cache = EnvelopeCache::default();
        for (text, is_cached) in
            [(&first, false), (&second, false), (&first, true), (&other, false), (&first, false)]
        {
            assert_eq!(cache.get(text).is_some(), is_cached, "{text}");
            parsed(text, &mut cache);
        }
    }
}
