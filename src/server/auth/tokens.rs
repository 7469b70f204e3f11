//! Authentication by a list of tokens.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};

use crate::{Error, Result};

/// The accepted tokens.
#[derive(Clone)]
pub struct Tokens(Arc<[String]>);

impl Tokens {
    /// Reads a file with one token per line. Surrounding spaces and empty lines are ignored.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or holds no token.
    pub fn read(path: &Path) -> Result<Self> {
        let text = super::read(path)?;
        let tokens = Self::from_lines(&text);
        if tokens.0.is_empty() {
            return Err(Error::File { path: path.into(), reason: "holds no token".into() });
        }
        Ok(tokens)
    }

    fn from_lines(text: &str) -> Self {
        Self(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Whether a token is in the list. The time that this takes reveals only the lengths of the tokens.
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
