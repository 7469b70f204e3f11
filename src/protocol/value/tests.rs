//! Rust types to values and back, as JavaScript expects them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::Error;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Everything {
    text: String,
    number: u64,
    missing: Option<i8>,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    tuple: (i32, f32, char),
    map: BTreeMap<u16, Kind>,
    kinds: Vec<Kind>,
    when: Date,
    any: Value,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Kind {
    Plain,
    One(String),
    Two(i32, i32),
    Named { a: bool },
}

#[test]
fn rust_types_become_what_javascript_expects_and_come_back() {
    let when = Date::from_millis(1_700_000_000_123).unwrap();
    let everything = Everything {
        text: "h".into(),
        number: 7,
        missing: None,
        bytes: vec![1, 2],
        tuple: (1, 0.5, 'x'),
        map: BTreeMap::from([(5, Kind::Plain)]),
        kinds: vec![Kind::One("a".into()), Kind::Two(1, 2), Kind::Named { a: true }],
        when,
        any: Value::Array(vec![when.into(), Value::Binary(vec![9].into())]),
    };
    let value = Value::from_rust(&everything).unwrap();
    assert_eq!(value.get("bytes"), Some(&Value::Binary(vec![1, 2].into())));
    assert_eq!(value.get("when"), Some(&Value::Date(when)));
    assert_eq!(
        serde_json::to_value(&value).unwrap(),
        json!({
            "text": "h", "number": 7, "missing": null, "bytes": {"type": "Buffer", "data": [1, 2]},
            "tuple": [1, 0.5, "x"], "map": {"5": "Plain"},
            "kinds": [{"One": "a"}, {"Two": [1, 2]}, {"Named": {"a": true}}],
            "when": "2023-11-14T22:13:20.123Z",
            "any": ["2023-11-14T22:13:20.123Z", {"type": "Buffer", "data": [9]}],
        })
    );
    let keys: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["text", "number", "missing", "bytes", "tuple", "map", "kinds", "when", "any"]);
    // JavaScript has no maps with numbers as keys, so only the way back to Rust loses the keys' type.
    let mut value = value;
    if let Value::Object(entries) = &mut value {
        entries.insert("map".into(), Value::Object(Object::new()));
    }
    assert_eq!(value.into_rust::<Everything>().unwrap(), Everything { map: BTreeMap::new(), ..everything });
}

#[test]
fn what_cannot_be_a_key_is_refused() {
    let map = BTreeMap::from([(vec![1], 2)]);
    assert!(matches!(Value::from_rust(&map), Err(Error::Encode(_))));
    assert!(matches!(Value::from("x").into_rust::<i32>(), Err(Error::Decode(_))));
}

#[test]
fn numbers_are_those_of_javascript() {
    assert_eq!(Value::from(u64::MAX), Value::Float(u64::MAX as f64));
    assert_eq!(Value::Float(f64::NAN).to_string(), "null");
    assert_eq!(Value::from_json("18446744073709551615").unwrap(), Value::Float(u64::MAX as f64));
    assert_eq!(Value::from(json!({"a": [1, 2.5, null]})).to_string(), r#"{"a":[1,2.5,null]}"#);
}

#[test]
fn dates_before_1970_and_with_12_bytes_are_read() {
    for millis in [-1, -62_135_596_800_000, 0, 17_179_869_184_000, 253_402_207_200_000] {
        let date = Date::from_millis(millis).unwrap();
        assert_eq!(Date::from_extension(&date.to_extension()), Some(date));
    }
    assert_eq!(Date::from_extension(&[0, 0, 0, 1]), Date::from_millis(1000));
    assert_eq!(Date::from_extension(&[1]), None);
    assert_eq!(Date::from_millis(-1).unwrap().to_string(), "1969-12-31T23:59:59.999Z");
}

#[test]
fn dates_have_the_range_and_the_text_of_javascript() {
    const MAX: i64 = 8_640_000_000_000_000;
    // By Node: `new Date(millis).toISOString()`.
    for (millis, text) in [
        (MAX, "+275760-09-13T00:00:00.000Z"),
        (-MAX, "-271821-04-20T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
        (253_402_207_201_000, "9999-12-30T22:00:01.000Z"),
        (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
        (-62_167_219_200_001, "-000001-12-31T23:59:59.999Z"),
        (-62_162_121_600_000, "0000-02-29T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_800_000, "2000-03-01T00:00:00.000Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ] {
        let date = Date::from_millis(millis).unwrap();
        assert_eq!(date.to_string(), text);
        assert_eq!(text.parse::<Date>().unwrap(), date);
        assert_eq!(Date::from_extension(&date.to_extension()), Some(date), "{text}");
    }
    assert_eq!("2000-01-01T00:00:00+01:00".parse::<Date>().unwrap().as_millis(), 946_681_200_000);
    for bad in ["+275760-09-13T00:00:00.001Z", "+010000-13-01T00:00:00Z", "+01000-01-01T00:00:00Z", "+", "-é"]
    {
        assert!(bad.parse::<Date>().is_err(), "{bad}");
    }
    for millis in [MAX + 1, -MAX - 1, i64::MAX, i64::MIN] {
        assert_eq!(Date::from_millis(millis), None);
    }
    let far = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1 << 60);
    assert_eq!(Date::from(far).as_millis(), MAX);
}

#[test]
fn a_date_that_is_none_costs_no_document() {
    let late = [b"\xc7\x0c\xff\0\0\0\0".as_slice(), &(8_640_000_000_001_i64).to_be_bytes()].concat();
    let notepack = [b"\xd7\0".as_slice(), &i64::MAX.to_be_bytes()].concat();
    for timestamp in [late, notepack, b"\xd4\xff\0".to_vec()] {
        let document = [b"\x92".as_slice(), &timestamp, b"\x07"].concat();
        let value = crate::protocol::msgpack::read(&document).unwrap();
        assert_eq!(value, Value::Array(vec![Value::Null, Value::Int(7)]), "{document:x?}");
    }
}

#[test]
fn tuples_are_several_arguments() {
    let count = |args: Vec<Value>| args.len();
    assert_eq!(count(Value::args_from_rust(&()).unwrap()), 0);
    assert_eq!(count(Value::args_from_rust(&crate::Args::default()).unwrap()), 0);
    assert_eq!(Value::args_from_rust(&Value::Null).unwrap(), [Value::Null]);
    let several = crate::Args::from(vec![Value::Null, Value::Binary(vec![1].into())]);
    assert_eq!(Value::args_from_rust(&several).unwrap(), several.to_vec());
    assert_eq!(Value::from(several.to_vec()).into_rust::<crate::Args>().unwrap(), several);
    assert_eq!(count(Value::args_from_rust(&(1, "two", [3, 4])).unwrap()), 3);
    assert_eq!(count(Value::args_from_rust(&[1, 2]).unwrap()), 2);
    for one in [json!("x"), json!([1, 2]), json!({"a": [1]})] {
        assert_eq!(Value::args_from_rust(&one).unwrap(), [Value::from(one)]);
    }
    assert_eq!(count(Value::args_from_rust(&vec![(1, 2)]).unwrap()), 1);
    assert_eq!(count(Value::args_from_rust(&Kind::Two(1, 2)).unwrap()), 1);
}
