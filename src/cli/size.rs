//! Parses sizes.

/// Parses `1000000`, `500kB`, `1MB`, `16MiB`: a number of bytes, more than zero.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || "not a size: write 500kB, 1MB, 16MiB or a number of bytes".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000 * 1000,
        "g" | "gb" => 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|size| *size > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("7", 7), ("500kB", 500_000), ("1MB", 1_000_000), ("1m", 1_000_000), ("16 MiB", 16 << 20)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MB", "1.5MB", "-1", "0", "1 parsec", "99999999999GB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
