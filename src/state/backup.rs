//! Making a backup. It needs nothing of the daemon and may be made while it runs: the journal is read at one moment, what else there is, is
//! written whole or only grows.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rwasm_journal::Snapshot;
use rwasm_runtime::now_ms;
use rwasm_types::{Code, Error, Result};
use serde::Serialize;

use super::{
    LOCK, LOG,
    archive::{About, Packer},
    dir::State,
    format, io_error,
};

/// A backup that was made.
#[derive(Debug, Serialize)]
pub(crate) struct Backup {
    pub(crate) file: PathBuf,
    /// The cluster whose state it is, if a head's.
    pub(crate) cluster: Option<String>,
    pub(crate) files: u64,
    /// Bytes of the files.
    pub(crate) bytes: u64,
    /// Whether a daemon used the directory meanwhile.
    pub(crate) running: bool,
}

/// Backs a state directory up, into a file or into a new file in a directory.
///
/// # Errors
///
/// [`Code::NOT_FOUND`] if there is no such state directory, [`Code::INVALID_ARGUMENT`] if the file is there or would lie in the state
/// directory, [`Code::DISK_FULL`], and what the journal says.
pub(crate) fn back_up(dir: &Path, to: &Path) -> Result<Backup> {
    let held = State::hold(dir)?;
    let copy = tempfile::tempdir().map_err(|error| io_error(Path::new("a temporary directory"), &error))?;
    let cluster = copy_journal(dir, copy.path())?;
    let made_ms = now_ms();
    let file = place(to, cluster.as_deref(), made_ms);
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let canonical = |path: &Path| fs::canonicalize(path).map_err(|error| io_error(path, &error));
    if canonical(&parent)?.starts_with(canonical(dir)?) {
        return Err(Error::new(Code::INVALID_ARGUMENT, "a backup does not go into the state directory itself").hint("name another place"));
    }
    let out = tempfile::Builder::new().prefix(".rwasm-backup-").tempfile_in(&parent).map_err(|error| io_error(&parent, &error))?;
    let bad = |error: io::Error| io_error(&file, &error);
    let mut packer = Packer::new(io::BufWriter::new(out), &About::new(cluster.clone(), made_ms)).map_err(bad)?;
    add(&mut packer, dir, Path::new(""))?;
    let journal = copy.path().join(rwasm_journal::FILE);
    if journal.exists() {
        let name = Path::new(rwasm_journal::FILE);
        fs::File::open(&journal).and_then(|journal| packer.file(name, journal)).map_err(|error| io_error(&journal, &error))?;
    }
    let (sum, out) = packer.end().map_err(bad)?;
    let out = out.into_inner().map_err(|error| bad(error.into_error()))?;
    out.as_file().sync_all().map_err(bad)?;
    out.persist_noclobber(&file).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::new(Code::INVALID_ARGUMENT, format!("{} is there already", file.display())).hint("name another file, or remove it")
        }
        _ => bad(error.error),
    })?;
    fs::File::open(&parent).and_then(|dir| dir.sync_all()).map_err(|error| io_error(&parent, &error))?;
    Ok(Backup { file, cluster, files: sum.files, bytes: sum.bytes, running: held.is_none() })
}

/// Copies the journal as it is at one moment, if there is one; says whose it is.
fn copy_journal(dir: &Path, into: &Path) -> Result<Option<String>> {
    match Snapshot::read(dir) {
        Ok(snapshot) => {
            snapshot.write(into)?;
            rwasm_head::cluster_of(&snapshot)
        }
        Err(error) if error.code() == Code::NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file that is made.
fn place(to: &Path, cluster: Option<&str>, made_ms: u64) -> PathBuf {
    if !to.is_dir() {
        return to.to_owned();
    }
    let time = crate::ui::time(made_ms).replace(['-', ':'], "");
    to.join(format!("rwasm-{}-{time}.tar", cluster.unwrap_or("node")))
}

/// Adds what is in a directory, in the order of names.
fn add<W: io::Write>(packer: &mut Packer<W>, root: &Path, below: &Path) -> Result<()> {
    let dir = root.join(below);
    let bad = |error: io::Error| io_error(&dir, &error);
    let mut entries = fs::read_dir(&dir).and_then(|entries| entries.collect::<io::Result<Vec<_>>>()).map_err(bad)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = below.join(entry.file_name());
        let kind = entry.file_type().map_err(bad)?;
        if left_out(&name) {
            continue;
        }
        if kind.is_dir() {
            packer.dir(&name).map_err(bad)?;
            add(packer, root, &name)?;
        } else if kind.is_file() {
            match fs::File::open(entry.path()) {
                Ok(file) => packer.file(&name, file).map_err(|error| io_error(&entry.path(), &error))?,
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error(&entry.path(), &error)),
            }
        }
    }
    Ok(())
}

/// What is no state: locks, logs, what is not finished; the journal is copied by itself, and indexes, which are written while they are read, are
/// made anew from what they are of.
fn left_out(name: &Path) -> bool {
    let unfinished = name.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let logs = name.to_str().is_some_and(|name| name.starts_with(LOG));
    let index = name.file_name().is_some_and(|name| name == "index.redb");
    unfinished || logs || index || [LOCK, rwasm_journal::FILE, format::FILE].iter().any(|known| name == Path::new(known))
}
