//! Authentication by a list of tokens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use subtle::{Choice, ConstantTimeEq};

use crate::{Error, Result};

/// The accepted tokens, with the file that they come from. Clones share the tokens.
#[derive(Clone)]
pub struct Tokens(Arc<Source>);

struct Source {
    path: PathBuf,
    tokens: RwLock<Arc<[String]>>,
}

impl Tokens {
    /// Reads a file with one token per line. Surrounding spaces, empty lines, and lines that start with `#` are ignored.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or holds no token.
    pub fn read(path: &Path) -> Result<Self> {
        let tokens = RwLock::new(read_tokens(path)?);
        Ok(Self(Arc::new(Source { path: path.into(), tokens })))
    }

    /// Reads the file again. After an error the tokens stay as they are.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn reload(&self) -> Result<()> {
        let tokens = read_tokens(&self.0.path)?;
        *self.0.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    fn tokens(&self) -> Arc<[String]> {
        self.0.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a token is in the list. The time that this takes reveals only the lengths of the tokens.
    pub(super) fn contain(&self, shown: &str) -> bool {
        is_among(&self.tokens(), shown)
    }
}

fn is_among(tokens: &[String], shown: &str) -> bool {
    let equal = |token: &String| token.as_bytes().ct_eq(shown.as_bytes());
    tokens.iter().map(equal).fold(Choice::from(0), |known, equal| known | equal).into()
}

fn read_tokens(path: &Path) -> Result<Arc<[String]>> {
    let tokens = from_lines(&super::read(path)?);
    if tokens.is_empty() {
        return Err(Error::File { path: path.into(), reason: "holds no token".into() });
    }
    Ok(tokens)
}

fn from_lines(text: &str) -> Arc<[String]> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({}, {} tokens)", self.0.path.display(), self.tokens().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_a_line() {
        let tokens = from_lines("\u{feff}first\n\n# a comment\n  second  \r\n  #third\n");
        assert_eq!(tokens.len(), 2);
        for (shown, known) in [
            ("first", true),
            ("second", true),
            ("third", false),
            ("#third", false),
            ("# a comment", false),
            ("firs", false),
            ("", false),
        ] {
            assert_eq!(is_among(&tokens, shown), known, "{shown}");
        }
    }
}
