//! Formats numbers for people.

/// Formats a number with separators: `1,234,567`.
pub(in crate::cli) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Formats a number with its verb: `1 is`, `1,234 are`.
pub(in crate::cli) fn count_is(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "is" } else { "are" })
}

/// Formats a number with a noun: `1 row`, `1,234 rows`.
pub(in crate::cli) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Formats a size: `8.8 KiB`.
pub(in crate::cli) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
