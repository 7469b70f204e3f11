//! The namespaces that a command observes: by name, or by a glob over the found namespaces.

use std::time::Duration;

use clap::Args;
use globset::GlobMatcher;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::arguments::Global;
use super::exit::Failure;
use super::glob;
use crate::{Cluster, Namespace};
pub(super) use finder::Finder;
use finder::{Found, Source};

mod finder;

/// The interval between two searches for new namespaces.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The maximum number of names in a line.
const SHOWN: usize = 10;

/// Namespaces to observe.
#[derive(Args)]
pub(super) struct ObservedNamespaces {
    /// The namespace, or a glob over the namespaces that pgio finds: '*', '/org/*'. May be repeated [default: /; of pgio
    /// namespaces: '*']
    ///
    /// `admin` means `/admin`. pgio finds the namespaces of pgio nodes, the latest namespace of each Node server, /, and
    /// the namespaces of rows in the attachment table. It does not find the other namespaces of a Node server: name them.
    #[arg(short, long = "namespace", value_name = "NSP", value_parser = parse)]
    namespaces: Vec<Wanted>,
}

/// A namespace, or a glob.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Name(Namespace),
    Glob(String, GlobMatcher),
}

fn parse(text: &str) -> Result<Wanted, String> {
    let nsp = Namespace::new(text);
    match text.contains(['*', '?', '[', '{']) {
        true => Ok(Wanted::Glob(text.to_owned(), glob::parse(nsp.as_str())?)),
        false => Ok(Wanted::Name(nsp)),
    }
}

/// The observed namespaces, and the search for more.
pub(super) struct Observed {
    /// Sorted, without duplicates.
    pub(super) list: Vec<Namespace>,
    /// The namespaces that the user named.
    named: Vec<Namespace>,
    search: Option<Search>,
    /// The found namespaces, with their sources.
    found: Found,
}

/// Searches for namespaces that match the globs.
struct Search {
    globs: Vec<(String, GlobMatcher)>,
    named: Vec<Namespace>,
    finder: Finder,
}

impl ObservedNamespaces {
    /// Selects all found namespaces if the user gave none.
    pub(super) fn or_all(mut self) -> Self {
        if self.namespaces.is_empty() {
            self.namespaces.extend(parse("*"));
        }
        self
    }

    /// Whether there may be more than one namespace.
    pub(super) fn may_be_several(&self) -> bool {
        self.has_globs() || self.named().len() > 1
    }

    fn has_globs(&self) -> bool {
        self.namespaces.iter().any(|wanted| matches!(wanted, Wanted::Glob(..)))
    }

    /// The namespaces that the user named, or `/` if the user gave none.
    fn named(&self) -> Vec<Namespace> {
        let names = self.namespaces.iter().filter_map(|wanted| match wanted {
            Wanted::Name(nsp) => Some(nsp.clone()),
            Wanted::Glob(..) => None,
        });
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.dedup();
        if self.namespaces.is_empty() { vec![Namespace::default()] } else { names }
    }

    /// Finds the namespaces that match. Prints a note for each glob without a match.
    ///
    /// # Errors
    /// Returns an error if the connection fails.
    pub(super) async fn find(&self, global: &Global, cluster: &Cluster) -> Result<Observed, Failure> {
        let named = self.named();
        if !self.has_globs() {
            return Ok(Observed { list: named.clone(), named, search: None, found: Found::default() });
        }
        let globs = self.namespaces.iter().filter_map(|wanted| match wanted {
            Wanted::Glob(text, glob) => Some((text.clone(), glob.clone())),
            Wanted::Name(_) => None,
        });
        let finder = Finder::connect(global.settings()?, cluster).await?;
        let search = Search { globs: globs.collect(), named: named.clone(), finder };
        let found = search.finder.find().await?;
        search.tell(global, &found);
        Ok(Observed { list: search.matching(&found), named, search: Some(search), found })
    }
}

impl Observed {
    /// Whether the user named the namespace. The user then expects it to have a server.
    pub(super) fn is_named(&self, nsp: &Namespace) -> bool {
        self.named.contains(nsp)
    }

    /// The sources of a namespace. The list is empty if there was no search.
    pub(super) fn sources(&self, nsp: &Namespace) -> Vec<Source> {
        self.found.sources(nsp).collect()
    }

    /// Starts the periodic search for more namespaces.
    pub(super) fn watch(self) -> Newcomers {
        Newcomers(self.search.map(|search| {
            let (found, reader) = mpsc::channel(1);
            (reader, AbortOnDropHandle::new(tokio::spawn(search.run(found))))
        }))
    }
}

impl Search {
    /// The named namespaces, and the found namespaces that match a glob.
    fn matching(&self, found: &Found) -> Vec<Namespace> {
        let is_match = |nsp: &&Namespace| self.globs.iter().any(|(_, glob)| glob.is_match(nsp.as_str()));
        let mut list: Vec<_> = found.namespaces().filter(is_match).chain(&self.named).cloned().collect();
        list.sort();
        list.dedup();
        list
    }

    /// Prints a note for each glob without a match, and a warning if the answers are truncated.
    fn tell(&self, global: &Global, found: &Found) {
        let names: Vec<_> = found.namespaces().map(Namespace::as_str).collect();
        for (text, glob) in &self.globs {
            if !names.iter().any(|name| glob.is_match(name)) {
                global.note(&match names.len() {
                    0 => format!("no namespace matches {text}: none was found"),
                    1..=SHOWN => format!("no namespace matches {text}; found: {}", names.join(", ")),
                    count => {
                        let shown = names[..SHOWN].join(", ");
                        format!("no namespace matches {text}; found: {shown} and {} more", count - SHOWN)
                    }
                });
            }
        }
        if found.is_truncated() {
            global.warn("a pgio node has more namespaces than it tells; name those that are missing");
        }
    }

    /// Sends all matching namespaces periodically.
    async fn run(self, told: mpsc::Sender<Vec<Namespace>>) {
        loop {
            sleep(LOOK_EVERY).await;
            match self.finder.find().await {
                Ok(found) => {
                    if told.send(self.matching(&found)).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::debug!(%error, "cannot look for namespaces; retrying"),
            }
        }
    }
}

/// The namespaces that the periodic search finds.
pub(super) struct Newcomers(Option<(mpsc::Receiver<Vec<Namespace>>, AbortOnDropHandle<()>)>);

impl Newcomers {
    /// No search: there are only the known namespaces.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Waits for the next search. Returns all namespaces that match by now, including the known ones. Never returns
    /// without a search.
    pub(super) async fn next(&mut self) -> Vec<Namespace> {
        if let Some((reader, _)) = &mut self.0
            && let Some(found) = reader.recv().await
        {
            return found;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(texts: &[&str]) -> ObservedNamespaces {
        ObservedNamespaces { namespaces: texts.iter().map(|text| parse(text).unwrap()).collect() }
    }

    #[test]
    fn names_are_names_and_globs_are_globs() {
        assert_eq!(given(&[]).named(), [Namespace::default()]);
        assert_eq!(given(&["b", "/a", "/b"]).named(), ["/a", "/b"].map(Namespace::new));
        assert!(given(&["*"]).named().is_empty() && given(&["*"]).has_globs());
        assert!(!given(&["a", "/a"]).may_be_several() && given(&["a*"]).may_be_several());
        for (glob, matches, does_not) in
            [("*", &["/", "/a", "/a/b"][..], &[][..]), ("org/*", &["/org/1", "/org/1/x"], &["/", "/org"])]
        {
            let Wanted::Glob(_, glob) = parse(glob).unwrap() else { panic!("{glob}") };
            assert!(matches.iter().all(|name| glob.is_match(name)), "{glob:?}");
            assert!(!does_not.iter().any(|name| glob.is_match(name)), "{glob:?}");
        }
        assert!(parse("[a").is_err());
    }
}
