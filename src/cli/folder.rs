//! What lies in a folder, for whoever reads what is below one.
//!
//! Must never: read a folder without a bound.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Most files and folders of one folder.
const MAX_ENTRIES: usize = 100_000;
/// Where git keeps its own.
pub(super) const GIT: &str = ".git";
/// The link by which a mounted ConfigMap or Secret changes all at once. No key of one begins so.
const MOUNTED: &str = "..data";

/// The files and folders in a folder that are not hidden, ordered by name. A mounted ConfigMap shows each file twice: by a link, and
/// below `..data`.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = everything(folder)?;
    found.retain(|path| !is_hidden(path));
    Ok(found)
}

/// What somebody may have put into a folder, hidden or not: git's own is left out, and what a mounted ConfigMap shows a second time.
pub(super) fn contents(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = everything(folder)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_mounted = found.iter().any(|path| name(path) == MOUNTED);
    found.retain(|path| name(path) != GIT && !(is_mounted && name(path).starts_with("..")));
    Ok(found)
}

/// The same with what is hidden, which comes last.
pub(super) fn everything(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        if found.len() >= MAX_ENTRIES {
            let message = format!("more than {MAX_ENTRIES} files and folders in it");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        found.push(entry?.path());
    }
    found.sort_by_cached_key(|path| (is_hidden(path), path.clone()));
    Ok(found)
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with('.')
}

/// Whether a file may hold objects, by the end of its name, as kubectl tells it: `.yaml` alone is one too.
pub(super) fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".yaml", ".yml", ".json"].iter().any(|known| name.ends_with(known))
}
