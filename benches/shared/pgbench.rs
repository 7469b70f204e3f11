//! Finds `pgbench`.

use std::path::PathBuf;

/// From the path, or where Debian puts it.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let of_debian = versions.map(|version| version.path().join("bin"));
    let mut folders = std::env::split_paths(&path).chain(of_debian);
    folders.find_map(|folder| Some(folder.join("pgbench")).filter(|file| file.is_file()))
}
