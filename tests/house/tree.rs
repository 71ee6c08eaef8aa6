//! The files of the repository, as people wrote them: no build output, nothing binary, no links.

use std::{fs, path::Path};

/// Directories that hold what tools made.
const SKIPPED: &[&str] = &[".git", "node_modules", "target"];

/// A text file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its path from the repository's root.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// Whether the file lies in one of these directories, or is one of these files.
    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| Path::new(&self.path).starts_with(place))
    }
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file, in the order of their paths.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "only {} files were found below {}", found.len(), root().display());
    found
}

/// Every Rust file, in the order of their paths.
pub(crate) fn rust() -> Vec<Source> {
    sources().into_iter().filter(|source| source.has_extension("rs")).collect()
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("a directory of the repository can be read") {
        let entry = entry.expect("a directory of the repository can be read");
        let (path, kind) = (entry.path(), entry.file_type().expect("a file has a type"));
        let name = entry.file_name();
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            collect(&path, found);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root()).expect("it was found below the root").to_str().expect("paths here are text");
            found.push(Source::new(path, &text));
        }
    }
}
