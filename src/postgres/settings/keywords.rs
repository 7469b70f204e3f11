//! Connection strings of the form `host=... password='it\'s'`.

use std::iter::Peekable;
use std::str::Chars;

use super::raw::{RawSettings, unknown};
use crate::{Error, Result};

/// Parses it.
pub(super) fn parse(text: &str) -> Result<RawSettings> {
    let mut raw = RawSettings::default();
    let mut rest = text.chars().peekable();
    loop {
        skip_space(&mut rest);
        if rest.peek().is_none() {
            return Ok(raw);
        }
        let keyword = take_while(&mut rest, |c| c != '=' && !c.is_whitespace());
        skip_space(&mut rest);
        if rest.next_if_eq(&'=').is_none() {
            // The text may be part of a password, so it is not shown.
            return Err(malformed("it is neither a postgres:// URL nor keyword=value pairs"));
        }
        skip_space(&mut rest);
        let value = if rest.next_if_eq(&'\'').is_some() { quoted(&mut rest)? } else { bare(&mut rest) };
        raw.set(&keyword, value)?;
    }
}

fn quoted(rest: &mut Peekable<Chars>) -> Result<String> {
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('\'') => return Ok(value),
            Some('\\') => value.extend(rest.next()),
            Some(c) => value.push(c),
            None => return Err(malformed("a quote is not closed")),
        }
    }
}

fn bare(rest: &mut Peekable<Chars>) -> String {
    let mut value = String::new();
    while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
        match c {
            '\\' => value.extend(rest.next()),
            c => value.push(c),
        }
    }
    value
}

fn take_while(rest: &mut Peekable<Chars>, accept: impl Fn(char) -> bool) -> String {
    std::iter::from_fn(|| rest.next_if(|c| accept(*c))).collect()
}

fn skip_space(rest: &mut Peekable<Chars>) {
    take_while(rest, char::is_whitespace);
}

fn malformed(reason: &str) -> Error {
    unknown("the connection string", reason)
}
