//! A list of tokens that open the door.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};

use crate::{Error, Result};

/// Tokens that let a client in.
#[derive(Clone)]
pub struct Tokens(Arc<[String]>);

impl Tokens {
    /// Reads a file with one token a line; spaces around them and empty lines do not count.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be read or holds no token.
    pub fn read(path: &Path) -> Result<Self> {
        let text = super::read(path)?;
        let tokens = Self::from_lines(&text);
        if tokens.0.is_empty() {
            return Err(Error::File { path: path.into(), reason: "there is no token in it".into() });
        }
        Ok(tokens)
    }

    fn from_lines(text: &str) -> Self {
        Self(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Whether this is one of them. How long it takes tells no more than the length of the tokens.
    pub(super) fn contain(&self, shown: &str) -> bool {
        let equal = |token: &String| token.as_bytes().ct_eq(shown.as_bytes());
        self.0.iter().map(equal).fold(Choice::from(0), |known, equal| known | equal).into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_a_line() {
        let tokens = Tokens::from_lines("first\n\n  second  \r\n");
        for (shown, known) in
            [("first", true), ("second", true), ("third", false), ("firs", false), ("", false)]
        {
            assert_eq!(tokens.contain(shown), known, "{shown}");
        }
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }
}
