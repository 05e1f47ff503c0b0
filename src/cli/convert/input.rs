//! Documents of files and folders, each with the line that it begins at.
//!
//! Must never: read without a bound, or follow a folder out of the one that was named.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use crate::cli::{
    documents::{self, Objects},
    folder::{contents, is_manifest},
    manifests,
};

/// Longest file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Most bytes, files and objects of all inputs together, and deepest folder.
const MAX_BYTES: usize = 64 << 20;
const MAX_FILES: usize = 4096;
const MAX_OBJECTS: usize = 20_000;
const MAX_DEPTH: usize = 16;

/// An object, and where it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) object: Value,
}

/// What was read, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) found: Vec<Found>,
    pub(super) unread: Vec<anyhow::Error>,
}

/// Reads files, folders, and standard input for `-`. One file that cannot be read keeps none of the others from it.
pub(super) fn read(paths: &[PathBuf]) -> Result<Input> {
    let mut files = Vec::new();
    for path in paths {
        if path != Path::new("-") && path.is_dir() {
            below(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    let mut input = Input::default();
    let mut bytes = 0;
    for file in files {
        let shown = if file == Path::new("-") {
            "standard input".to_owned()
        } else {
            file.display().to_string()
        };
        let read = manifests::read(&file, MAX_FILE).and_then(|text| Ok((text.len(), objects(&text)?)));
        let (length, objects) = match read.with_context(|| shown.clone()) {
            Ok(read) => read,
            Err(error) => {
                input.unread.push(error);
                continue;
            }
        };
        bytes += length;
        ensure!(
            bytes <= MAX_BYTES && input.found.len() + objects.len() <= MAX_OBJECTS,
            "more than {MAX_BYTES} bytes or {MAX_OBJECTS} objects in all: convert them in parts"
        );
        input.found.extend(objects.into_iter().map(|(line, object)| Found {
            file: shown.clone(),
            line,
            object,
        }));
    }
    Ok(input)
}

fn below(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let shown = || folder.display().to_string();
    ensure!(
        depth < MAX_DEPTH,
        "{}: folders are nested more than {MAX_DEPTH} deep",
        shown()
    );
    for path in contents(folder).with_context(|| format!("{}: cannot be read", shown()))? {
        if path.is_dir() && !path.is_symlink() {
            below(&path, depth + 1, files)?;
        } else if is_manifest(&path) {
            files.push(path);
        }
        ensure!(
            files.len() <= MAX_FILES,
            "more than {MAX_FILES} files: convert them in parts"
        );
    }
    Ok(())
}

/// The objects of a text, each with the line that its document begins at.
fn objects(text: &str) -> Result<Vec<(u32, Value)>> {
    let mut found = Vec::new();
    for read in documents::values(text, MAX_FILE) {
        let (line, value) = read?;
        let objects = Objects::of(value).map_err(|why| anyhow!("line {line}: {why}"))?;
        found.extend(objects.all().into_iter().map(|object| (line, object)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one("a: 1\n", &[1])]
    #[case::two("a: 1\n---\nb: 2\n", &[1, 3])]
    #[case::marked("---\na: 1\n---\n# c\n\nb: 2\n---\n", &[2, 6])]
    #[case::comments("# c\n---\n# d\na: 1\n", &[4])]
    #[case::windows("a: 1\r\n---\r\nb: 2\r\n", &[1, 3])]
    #[case::within("a: |\n  ---\n  b\n---\nc: 1", &[1, 5])]
    #[case::four_dashes("a: 1\nb: ----\n", &[1])]
    #[case::on_the_mark("--- {a: 1}\n--- {b: 1}\n", &[1, 2])]
    #[case::list("kind: List\nitems:\n- a: 1\n- b: 2\n", &[1, 1])]
    #[case::nothing("# c\n---\n...\n", &[])]
    #[case::json("{\"a\": 1}", &[1])]
    fn documents_begin_at_their_lines(#[case] text: &str, #[case] lines: &[u32]) {
        let found = objects(text).expect("YAML");
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn items_of_no_list_are_told_with_their_line() {
        let error = objects("a: 1\n---\nkind: K8sDeny\nitems: [{b: 1}]\n")
            .expect_err("no List")
            .to_string();
        assert!(error.starts_with("line 3: this has items at its top"), "{error}");
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let error = objects("a: 1\n---\nb: [\n").expect_err("no YAML").to_string();
        assert!(error.starts_with("line 3, column 4: this is no YAML"), "{error}");
    }
}
