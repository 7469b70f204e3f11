//! Authentication by a list of tokens.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use subtle::{Choice, ConstantTimeEq};

use super::Credential;
use super::fingerprint::Fingerprint;
use crate::{Error, Result};

/// The accepted tokens, with the file that they come from. Clones share the tokens.
#[derive(Clone)]
pub struct Tokens(Arc<Source>);

struct Source {
    path: PathBuf,
    list: RwLock<Arc<List>>,
}

struct List {
    tokens: Vec<String>,
    fingerprints: HashSet<Fingerprint>,
}

impl Tokens {
    /// Reads a file with one token per line. Surrounding spaces, empty lines, and lines that start with `#` are ignored.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or holds no token.
    pub fn read(path: &Path) -> Result<Self> {
        let list = RwLock::new(read_tokens(path)?);
        Ok(Self(Arc::new(Source { path: path.into(), list })))
    }

    /// Reads the file again. After an error the tokens stay as they are.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn reload(&self) -> Result<()> {
        let list = read_tokens(&self.0.path)?;
        *self.0.list.write().unwrap_or_else(PoisonError::into_inner) = list;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    fn list(&self) -> Arc<List> {
        self.0.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token, if it is in the list. The time that this takes reveals only the lengths of the tokens.
    pub(crate) fn find(&self, shown: &str) -> Option<Credential> {
        let is_listed = is_among(&self.list().tokens, shown);
        is_listed.then(|| Credential::Token(Fingerprint::of(shown.as_bytes())))
    }

    /// Whether the token that admitted a client is still listed.
    pub(crate) fn accepts(&self, credential: &Credential) -> bool {
        matches!(credential, Credential::Token(token) if self.list().fingerprints.contains(token))
    }
}

fn is_among(tokens: &[String], shown: &str) -> bool {
    let equal = |token: &String| token.as_bytes().ct_eq(shown.as_bytes());
    tokens.iter().map(equal).fold(Choice::from(0), |known, equal| known | equal).into()
}

fn read_tokens(path: &Path) -> Result<Arc<List>> {
    let tokens = from_lines(&super::read(path)?);
    if tokens.is_empty() {
        return Err(Error::File { path: path.into(), reason: "holds no token".into() });
    }
    let fingerprints = tokens.iter().map(|token| Fingerprint::of(token.as_bytes())).collect();
    Ok(Arc::new(List { tokens, fingerprints }))
}

fn from_lines(text: &str) -> Vec<String> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({}, {} tokens)", self.0.path.display(), self.list().tokens.len())
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
