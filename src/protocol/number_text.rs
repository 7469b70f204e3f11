//! Numbers as text, as `String(number)` of JavaScript writes them.

use std::borrow::Cow;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// The bound of JavaScript's integers.
const MAX_SAFE_INTEGER: u64 = 1 << 53;

/// The text of a float.
pub(super) fn of_f64(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    if number.is_infinite() {
        return format!("{sign}Infinity");
    }
    // The shortest digits that identify the number, as in JavaScript: `d.ddde-7`.
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    match exponent {
        0..=20 => match usize::try_from(exponent + 1).ok().and_then(|whole| digits.split_at_checked(whole)) {
            Some((whole, "")) => format!("{sign}{whole}"),
            Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
            None => format!("{sign}{digits}{}", zeros(exponent + 1 - digits.len() as i32)),
        },
        -6..0 => format!("{sign}0.{}{digits}", zeros(-exponent - 1)),
        _ => format!("{sign}{mantissa}e{exponent:+}"),
    }
}

/// The text of an integer. JavaScript rounds a large one.
pub(super) fn of_i64(number: i64) -> String {
    if number.unsigned_abs() <= MAX_SAFE_INTEGER { number.to_string() } else { of_f64(number as f64) }
}

/// The same for an unsigned integer.
pub(super) fn of_u64(number: u64) -> String {
    if number <= MAX_SAFE_INTEGER { number.to_string() } else { of_f64(number as f64) }
}

/// A string, or a number as its text.
pub(super) struct TextOrNumber<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for TextOrNumber<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumberVisitor)
    }
}

struct TextOrNumberVisitor;

impl<'de> Visitor<'de> for TextOrNumberVisitor {
    type Value = TextOrNumber<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<TextOrNumber<'de>, E> {
        Ok(TextOrNumber(Cow::Borrowed(v)))
    }

    fn visit_str<E>(self, v: &str) -> Result<TextOrNumber<'de>, E> {
        Ok(TextOrNumber(Cow::Owned(v.to_owned())))
    }

    fn visit_i64<E>(self, v: i64) -> Result<TextOrNumber<'de>, E> {
        Ok(TextOrNumber(Cow::Owned(of_i64(v))))
    }

    fn visit_u64<E>(self, v: u64) -> Result<TextOrNumber<'de>, E> {
        Ok(TextOrNumber(Cow::Owned(of_u64(v))))
    }

    fn visit_f64<E>(self, v: f64) -> Result<TextOrNumber<'de>, E> {
        Ok(TextOrNumber(Cow::Owned(of_f64(v))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (42.0, "42"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (123_456.789, "123456.789"),
            (0.000_001, "0.000001"),
            (0.000_012_5, "0.0000125"),
            (1e-7, "1e-7"),
            (-1.25e-9, "-1.25e-9"),
            (1e20, "100000000000000000000"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(of_f64(number), text);
        }
        assert_eq!((of_i64(-42), of_u64(7)), ("-42".into(), "7".into()));
        assert_eq!(of_i64(i64::MIN), "-9223372036854776000");
        assert_eq!(of_u64(u64::MAX), "18446744073709552000");
    }
}
