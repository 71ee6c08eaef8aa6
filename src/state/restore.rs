//! Putting a backup back, into a directory that is empty. All of it is unpacked and checked beside its place before any of it is moved
//! there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rwasm_journal::Journal;
use rwasm_runtime::create_private_dir;
use rwasm_types::{Code, Error, Result, api::UnixMs};
use serde::Serialize;

use super::{
    LOCK, LOG, archive,
    dir::State,
    format::{self, Format},
    io_error,
};

/// Where a backup is unpacked.
const SCRATCH: &str = ".new-restore";

/// A backup that was put back.
#[derive(Debug, Serialize)]
pub(crate) struct Restored {
    pub(crate) dir: PathBuf,
    /// The cluster whose state it is, if a head's.
    pub(crate) cluster: Option<String>,
    /// When the backup was made.
    pub(crate) made_ms: UnixMs,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Puts a backup back.
///
/// # Errors
///
/// [`Code::STATE_LOCKED`] if a daemon uses the directory, [`Code::NOT_EMPTY`] if there is something in it, [`Code::FOREIGN_BACKUP`],
/// [`Code::DAMAGED_BACKUP`] and [`Code::NEWER_STATE`] for what the file is, [`Code::DISK_FULL`].
pub(crate) async fn restore(file: &Path, dir: &Path) -> Result<Restored> {
    let input = fs::File::open(file).map_err(|error| io_error(file, &error))?;
    let held = State::lock(dir)?;
    must_be_empty(dir)?;
    let scratch = dir.join(SCRATCH);
    // Of a restore that was interrupted.
    let _ = fs::remove_dir_all(&scratch);
    create_private_dir(&scratch).map_err(|error| io_error(&scratch, &error))?;
    let outcome = prepare(file, io::BufReader::new(input), &scratch).await;
    let (about, sum, head) = outcome.inspect_err(|_| {
        // What cannot be removed is found by `state check`.
        let _ = fs::remove_dir_all(&scratch);
    })?;
    Format { head, restoring: true, ..Format::NEW }.write(dir)?;
    let bad = |error: io::Error| io_error(dir, &error);
    for entry in fs::read_dir(&scratch).map_err(bad)? {
        let entry = entry.map_err(bad)?;
        fs::rename(entry.path(), dir.join(entry.file_name())).map_err(bad)?;
    }
    fs::remove_dir(&scratch).map_err(bad)?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(bad)?;
    Format { head, ..Format::NEW }.write(dir)?;
    drop(held);
    Ok(Restored { dir: dir.to_owned(), cluster: about.cluster, made_ms: about.made_ms, files: sum.files, bytes: sum.bytes })
}

/// Unpacks, checks, and lets all numbers go on beyond those that were given since. Says whether it is a head's state.
async fn prepare(file: &Path, input: impl io::Read, scratch: &Path) -> Result<(archive::About, archive::Sum, bool)> {
    let (about, sum) = archive::unpack(file, input, scratch)?;
    let head = scratch.join(rwasm_journal::FILE).exists();
    if head {
        rwasm_head::renumber(&Journal::open(scratch)?).await?;
    }
    rwasm_node::renumber(scratch)?;
    Ok((about, sum, head))
}

/// A daemon that tried to start may have left its lock and log.
fn must_be_empty(dir: &Path) -> Result<()> {
    let bad = |error: io::Error| io_error(dir, &error);
    for entry in fs::read_dir(dir).map_err(bad)? {
        let name = entry.map_err(bad)?.file_name();
        let known = [LOCK, SCRATCH, format::FILE, "lost+found"];
        if !known.iter().any(|known| name == *known) && !name.as_encoded_bytes().starts_with(LOG.as_bytes()) {
            let message = format!("{} is not empty: there is {}", dir.display(), name.display());
            return Err(
                Error::new(Code::NOT_EMPTY, message).hint("move what is there away first, or name another directory with --state-dir")
            );
        }
    }
    Ok(())
}
