//! Creates the data directory of a server.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A data directory to copy, and the password of the role `pgio` in it.
#[derive(Clone)]
pub(super) struct Template {
    pub data: PathBuf,
    pub password: String,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("Template").field("data", &self.data).finish_non_exhaustive()
    }
}

/// The origin of a data directory.
pub(super) enum Origin {
    /// It exists from an earlier start, with this password.
    Existing { password: String },
    /// `initdb` creates it, with this password.
    Initdb { password: String },
    /// It is a copy of a template.
    Copy(Template),
}

impl Origin {
    /// The password of the role `pgio`.
    pub(super) fn password(&self) -> &str {
        match self {
            Self::Existing { password }
            | Self::Initdb { password }
            | Self::Copy(Template { password, .. }) => password,
        }
    }

    /// The order that makes the watchdog create the directory; none where it exists.
    pub(super) fn order(&self) -> Result<Option<String>> {
        match self {
            Self::Existing { .. } => Ok(None),
            Self::Initdb { password } => Ok(Some(format!("init {password}"))),
            Self::Copy(Template { data, .. }) => Ok(Some(format!("copy {}", one_line(data)?))),
        }
    }

    /// The action, for an error.
    pub(super) fn action(&self) -> String {
        match self {
            Self::Existing { .. } | Self::Initdb { .. } => "initdb".into(),
            Self::Copy(Template { data, .. }) => format!("copying {}", data.display()),
        }
    }
}

/// The absolute path as one line: the watchdog has another current directory, and an order is one line.
fn one_line(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path).map_err(|error| Error::file(path, &error))?;
    match absolute.to_str() {
        Some(text) if !text.contains('\n') => Ok(text.to_owned()),
        _ => Err(Error::file(path, &"the path is not UTF-8 or has a line break")),
    }
}
