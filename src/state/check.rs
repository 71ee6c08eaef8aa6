//! Checking a state directory: whatever a daemon would trip over, and what nobody needs. Changes nothing.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rwasm_journal::{Snapshot, Table};
use rwasm_types::{Code, Error, Result};
use serde::Serialize;

use super::{dir::State, format::Format, io_error};

/// The most findings that are told; further ones are counted.
const FINDINGS_MAX: usize = 1_000;

/// What is wrong with one file.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// Whether a daemon would trip over it; else it only takes room.
    pub(crate) problem: bool,
    pub(crate) path: PathBuf,
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

/// What is in a directory.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) dir: PathBuf,
    /// Whether a daemon uses it now.
    pub(crate) running: bool,
    /// The cluster, if it is a head's.
    pub(crate) cluster: Option<String>,
    /// Records of the journal by table.
    pub(crate) records: BTreeMap<&'static str, usize>,
    pub(crate) artifacts: u64,
    pub(crate) artifact_bytes: u64,
    pub(crate) findings: Vec<Finding>,
    /// How many findings were left out.
    pub(crate) more: usize,
}

impl Report {
    /// Problems, without what only takes room.
    pub(crate) fn problems(&self) -> usize {
        self.findings.iter().filter(|finding| finding.problem).count()
    }

    fn found(&mut self, problem: bool, path: &Path, message: impl Into<String>, remedy: &str) {
        if self.findings.len() == FINDINGS_MAX {
            self.more += 1;
            return;
        }
        self.findings.push(Finding { problem, path: path.to_owned(), message: message.into(), remedy: remedy.to_owned() });
    }
}

/// Checks a directory, also while a daemon uses it.
///
/// # Errors
///
/// [`Code::NOT_FOUND`] if it is no state directory, [`Code::NEWER_STATE`] if it is one of a later version.
pub(crate) fn check(dir: &Path) -> Result<Report> {
    let held = State::hold(dir)?;
    let mut report = Report {
        dir: dir.to_owned(),
        running: held.is_none(),
        cluster: None,
        records: BTreeMap::new(),
        artifacts: 0,
        artifact_bytes: 0,
        findings: Vec::new(),
        more: 0,
    };
    check_rights(dir, &mut report)?;
    check_journal(dir, &mut report);
    check_node(dir, &mut report);
    walk(dir, Path::new(""), &mut report)?;
    Ok(report)
}

fn check_rights(dir: &Path, report: &mut Report) -> Result<()> {
    let mode = fs::metadata(dir).map_err(|error| io_error(dir, &error))?.mode();
    if mode & 0o077 != 0 {
        report.found(true, dir, "others may read it, and it holds tokens", "chmod 700");
    }
    Ok(())
}

fn check_journal(dir: &Path, report: &mut Report) {
    let path = dir.join(rwasm_journal::FILE);
    match Snapshot::read(dir) {
        Ok(snapshot) => {
            report.records = Table::ALL.iter().map(|table| (table.name(), snapshot.records(*table))).collect();
            match rwasm_head::cluster_of(&snapshot) {
                Ok(cluster) => report.cluster = cluster,
                Err(error) => report.found(true, &path, error.message(), error.next_step().unwrap_or("restore a backup")),
            }
        }
        Err(error) if error.code() == Code::NOT_FOUND => {
            if Format::read(dir).is_ok_and(|format| format.is_some_and(|format| format.head)) {
                report.found(
                    true,
                    &path,
                    "it was a head's directory, and the journal is missing",
                    "put a backup back with `rwasm state restore`",
                );
            }
        }
        Err(error) => report.found(true, &path, error.message(), error.next_step().unwrap_or("restore a backup")),
    }
}

fn check_node(dir: &Path, report: &mut Report) {
    if let Err(error) = rwasm_node::check(dir) {
        report.found(true, dir, error.message(), error.next_step().unwrap_or("restore a backup"));
    }
}

/// Looks at every file: artifacts must be what their names say, and what begins with a dot was left behind.
fn walk(root: &Path, below: &Path, report: &mut Report) -> Result<()> {
    let dir = root.join(below);
    let bad = |error: io::Error| io_error(&dir, &error);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        // Removed since its parent was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(bad(error)),
    };
    let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(bad)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (name, path) = (below.join(entry.file_name()), entry.path());
        let kind = entry.file_type().map_err(bad)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            // A daemon that runs may be at work on it.
            if !report.running {
                report.found(false, &path, "it was left behind by a process that was killed", "remove it");
            }
        } else if kind.is_dir() {
            walk(root, &name, report)?;
        } else if !kind.is_file() {
            report.found(true, &path, "it is neither a file nor a directory", "remove it");
        } else if name.starts_with("artifacts") && path.extension().is_some_and(|extension| extension == "wasm") {
            check_artifact(&path, report);
        }
    }
    Ok(())
}

fn check_artifact(path: &Path, report: &mut Report) {
    let digest = || -> io::Result<(blake3::Hash, u64)> {
        let mut hasher = blake3::Hasher::new();
        let bytes = io::copy(&mut fs::File::open(path)?, &mut hasher)?;
        Ok((hasher.finalize(), bytes))
    };
    match digest() {
        Ok((digest, bytes)) => {
            report.artifacts += 1;
            report.artifact_bytes += bytes;
            let name = path.file_stem().unwrap_or_default();
            if name != digest.to_hex().as_str() {
                report.found(true, path, "the artifact is not what its name says", "remove it; whoever submits it again stores it again");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => report.found(true, path, format!("it cannot be read: {error}"), "look at the disk"),
    }
}

/// What a check comes to.
pub(crate) fn verdict(report: &Report) -> Result<()> {
    match report.problems() {
        0 => Ok(()),
        problems => Err(Error::new(Code::DAMAGED_STATE, format!("{problems} things are wrong with {}", report.dir.display()))
            .hint("each line above says what to do")),
    }
}
