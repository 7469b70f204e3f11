//! Patterns of names: `*`, `?`, `[a-z]`, `{a,b}`.

use globset::{Glob, GlobMatcher};

/// Parses a pattern for names of events or rooms.
pub(super) fn parse(pattern: &str) -> Result<GlobMatcher, String> {
    Glob::new(pattern).map(|glob| glob.compile_matcher()).map_err(|e| e.kind().to_string())
}
