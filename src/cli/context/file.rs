//! Edits the configuration file, and preserves its other content and its comments.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use toml_edit::{DocumentMut, Item, Table, value};

use crate::cli::config::{self, CONTEXT, DEFAULT_CONTEXT, KEYS};
use crate::cli::exit::Failure;
use crate::postgres::Settings;

/// The key of the database URL.
pub(super) const DATABASE: &str = "database-url";

/// The configuration file, with changes that are not saved yet.
pub(super) struct ConfigFile {
    path: PathBuf,
    document: DocumentMut,
}

/// A context, without passwords.
pub(super) struct Context<'a> {
    pub(super) name: &'a str,
    pub(super) is_default: bool,
    /// `app at db.example.com:5432`
    pub(super) database: Option<String>,
    /// The other keys, with their values.
    pub(super) settings: Vec<(&'a str, String)>,
}

impl ConfigFile {
    /// Reads the file. A missing file counts as empty.
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::file(&path, &error)),
        };
        let document = text.parse().map_err(|error: toml_edit::TomlError| {
            Failure::Usage(format!("{}: {}", path.display(), error.message()))
        })?;
        Ok(Self { path, document })
    }

    /// The contexts, in the order of the file.
    pub(super) fn contexts(&self) -> Vec<Context<'_>> {
        let default = self.document.get(DEFAULT_CONTEXT).and_then(Item::as_str);
        let tables = self.document.get(CONTEXT).and_then(Item::as_table_like);
        let tables = tables.into_iter().flat_map(|tables| tables.iter());
        tables
            .filter_map(|(name, context)| {
                let context = context.as_table_like()?;
                let text = |item: &Item| match item.as_str() {
                    Some(text) => text.to_owned(),
                    None => item.to_string().trim().to_owned(),
                };
                let others = context.iter().filter(|(key, _)| *key != DATABASE);
                // A misspelt key may hold the URL with its password.
                let shown = |key: &str, item: &Item| match KEYS.contains(&key) {
                    true => text(item),
                    false => "(unknown key)".to_owned(),
                };
                Some(Context {
                    name,
                    is_default: default == Some(name),
                    database: context.get(DATABASE).and_then(Item::as_str).map(describe),
                    settings: others.map(|(key, item)| (key, shown(key, item))).collect(),
                })
            })
            .collect()
    }

    /// Finds a context by name, or the default context.
    pub(super) fn context(&self, name: Option<&str>) -> Result<Context<'_>, Failure> {
        let found = self.contexts().into_iter().find(|context| match name {
            Some(name) => context.name == name,
            None => context.is_default,
        });
        found.ok_or_else(|| match name {
            Some(name) => self.missing(name),
            None => Failure::Usage("no default context is set: name a context".into()),
        })
    }

    /// Sets keys of a context. Returns whether the context is new.
    pub(super) fn set(&mut self, name: &str, settings: &[(String, String)]) -> Result<bool, Failure> {
        let contexts = self.document.entry(CONTEXT).or_insert_with(|| {
            let mut contexts = Table::new();
            contexts.set_implicit(true);
            Item::Table(contexts)
        });
        let contexts = contexts.as_table_like_mut();
        let contexts = contexts
            .ok_or_else(|| Failure::Usage(format!("{CONTEXT} is not a table such as [context.prod]")))?;
        let is_new = !contexts.contains_key(name);
        let context = contexts.entry(name).or_insert_with(|| Item::Table(Table::new())).as_table_like_mut();
        let context = context.ok_or_else(|| Failure::Usage(format!("{CONTEXT}.{name} is not a table")))?;
        for (key, text) in settings {
            if key == DATABASE {
                Settings::parse(text)?;
            }
            match context.get_mut(key).and_then(Item::as_value_mut) {
                Some(old) => {
                    // The comment beside the value stays.
                    let decor = old.decor().clone();
                    *old = text.as_str().into();
                    *old.decor_mut() = decor;
                }
                None => {
                    context.insert(key, value(text));
                }
            }
        }
        Ok(is_new)
    }

    /// Makes a context the default, or removes the default.
    pub(super) fn choose(&mut self, name: Option<&str>) -> Result<(), Failure> {
        match name {
            Some(name) => {
                self.context(Some(name))?;
                self.document.insert(DEFAULT_CONTEXT, value(name));
            }
            None => {
                self.document.remove(DEFAULT_CONTEXT);
            }
        }
        Ok(())
    }

    /// Removes a context. If it was the default, there is no default afterwards.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), Failure> {
        let was_default = self.context(Some(name))?.is_default;
        if let Some(contexts) = self.document.get_mut(CONTEXT).and_then(Item::as_table_like_mut) {
            contexts.remove(name);
        }
        if was_default {
            self.document.remove(DEFAULT_CONTEXT);
        }
        Ok(())
    }

    /// Writes the file atomically: writes a temporary file beside it, then renames that one. A new file is readable
    /// only by its owner.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::file(&self.path, &error);
        // If the path is a symbolic link, this replaces the target of the link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(failed)?;
        let mut draft = NamedTempFile::new_in(directory).map_err(failed)?;
        draft.write_all(self.document.to_string().as_bytes()).map_err(failed)?;
        if let Ok(metadata) = fs::metadata(&path) {
            fs::set_permissions(draft.path(), metadata.permissions()).map_err(failed)?;
        }
        draft.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn missing(&self, name: &str) -> Failure {
        let names: Vec<_> = self.contexts().into_iter().map(|context| context.name).collect();
        Failure::Usage(match names.as_slice() {
            [] => format!("no context {name:?}; there are no contexts in {}", self.path.display()),
            names => format!("no context {name:?}; there are {}", names.join(", ")),
        })
    }
}

/// Describes the database of a URL, without the password.
fn describe(url: &str) -> String {
    match Settings::parse(url) {
        Ok(settings) => format!("{} at {}", settings.database(), settings.target()),
        Err(error) => error.to_string(),
    }
}

/// Parses the name of a context.
pub(super) fn parse_name(name: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_alphanumeric() || ['-', '_', '.'].contains(&c);
    match !name.is_empty() && name.chars().all(is_plain) {
        true => Ok(name.to_owned()),
        false => Err("a name has letters, digits, -, _ and .".into()),
    }
}

/// Parses `key=value`. The key must be one of the keys of the file, with a value that its flag accepts.
pub(super) fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    match KEYS.contains(&key) {
        true => config::check_value(key, value).map(|()| (key.to_owned(), value.to_owned())),
        false => Err(format!("unknown key {key}; the keys are {}", KEYS.join(", "))),
    }
}
