//! What is to be read: files, folders, and pipes, which are read once and held as far as they are taken.
//!
//! Must never: hold a whole file, or take a folder's other files for manifests.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, IsTerminal as _, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::cli::{
    documents::{Documents, Problem},
    folder::{GIT, everything, is_manifest},
};

/// Most bytes that are read of one file.
const MAX_FILE: u64 = 256 << 20;
/// Most bytes that are held of a pipe: it cannot be read twice, and facts come from all of it.
const MAX_PIPE: u64 = 64 << 20;
/// Most files of one command.
const MAX_FILES: usize = 100_000;
/// Deepest folder.
const MAX_DEPTH: usize = 64;

/// A file or a pipe.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// As it is named.
    pub(super) name: Arc<str>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    File,
    /// All of it, and one byte more where there was more.
    Held(Arc<[u8]>),
}

/// The documents of an input.
pub(super) type Reading<'a> = Documents<Box<dyn io::BufRead + Send + 'a>>;

/// A file that cannot be read.
pub(super) struct Unread {
    pub(super) name: String,
    pub(super) why: String,
}

/// What a path names, in order.
pub(super) fn inputs(path: &Path, found: &mut Vec<Input>) -> Result<(), Unread> {
    let name = path.display().to_string();
    let unread = |error: io::Error| Unread {
        name: name.clone(),
        why: format!("cannot be read: {}", error.kind()),
    };
    if name == "-" {
        if io::stdin().is_terminal() {
            eprintln!("ringfence: reading manifests from the terminal; end with Ctrl-D");
        }
        let held = held(io::stdin().lock()).map_err(unread)?;
        found.push(Input {
            name: "stdin".into(),
            source: Source::Held(held),
        });
        return Ok(());
    }
    let kind = fs::metadata(path).map_err(unread)?;
    if kind.is_dir() {
        return folder(path, 0, found, &mut BTreeSet::new());
    }
    let source = if kind.is_file() {
        Source::File
    } else {
        Source::Held(held(File::open(path).map_err(unread)?).map_err(unread)?)
    };
    let name = name.into();
    found.push(Input { name, source });
    Ok(())
}

fn held(source: impl Read) -> io::Result<Arc<[u8]>> {
    let mut bytes = Vec::new();
    source.take(MAX_PIPE.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// What is below a folder, hidden or not, as `kubectl apply --recursive` takes it. `seen` are the files that were found already: a mounted
/// ConfigMap shows each twice.
fn folder(path: &Path, depth: usize, found: &mut Vec<Input>, seen: &mut BTreeSet<PathBuf>) -> Result<(), Unread> {
    let unread = |why: String| Unread {
        name: path.display().to_string(),
        why,
    };
    let cannot = |error: io::Error| unread(format!("cannot be read: {}", error.kind()));
    if depth > MAX_DEPTH {
        return Err(unread(format!("more than {MAX_DEPTH} folders in each other")));
    }
    for path in everything(path).map_err(cannot)? {
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != GIT) {
                folder(&path, depth.saturating_add(1), found, seen)?;
            }
        } else if is_manifest(&path) {
            if found.len() >= MAX_FILES {
                return Err(unread(format!("more than {MAX_FILES} files")));
            }
            // What leads nowhere is told by whoever reads it.
            if seen.insert(fs::canonicalize(&path).unwrap_or_else(|_| path.clone())) {
                inputs(&path, found)?;
            }
        }
    }
    Ok(())
}

impl Input {
    /// Its documents, from the first.
    pub(super) fn read(&self) -> Result<Reading<'_>, Problem> {
        let cannot = |error: io::Error| Problem::at(1, format!("cannot be read: {}", error.kind()));
        Ok(match &self.source {
            Source::File => {
                let file = File::open(&*self.name).map_err(cannot)?;
                Documents::new(Box::new(BufReader::new(file)), MAX_FILE)
            }
            Source::Held(bytes) => Documents::new(Box::new(&bytes[..]), MAX_PIPE),
        })
    }
}
