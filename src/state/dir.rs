//! A daemon's state directory: chosen, locked, and with what is made once in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use rwasm_journal::Journal;
use rwasm_runtime::{Dirs, NEW_PREFIX, create_private_dir, write_private};
use rwasm_types::{Code, Error, Result};

use super::{LOCK, format::Format};
use crate::args::StartArgs;

/// Nodes of one user on one machine that find a directory of their own by themselves.
const NODES_MAX: u32 = 64;

/// A locked state directory.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
    format: Format,
    /// Locked as long as it is open.
    _lock: fs::File,
}

impl State {
    /// Takes the directory that was named; else the head's, or the first node's that nobody uses.
    pub(crate) fn open(args: &StartArgs, dirs: &Dirs) -> Result<Self> {
        if let Some(dir) = &args.state_dir {
            return Self::lock(dir);
        }
        if args.head {
            return Self::lock(&dirs.state.join("head"));
        }
        for number in 1..=NODES_MAX {
            match Self::lock(&dirs.state.join(format!("node-{number}"))) {
                Err(error) if error.code() == Code::STATE_LOCKED => {}
                taken => return taken,
            }
        }
        Err(Error::new(Code::STATE_LOCKED, format!("{NODES_MAX} nodes run here already")).hint("name a directory with --state-dir"))
    }

    /// Takes a directory; makes it if there is none.
    ///
    /// # Errors
    ///
    /// [`Code::STATE_LOCKED`] if a daemon uses it, [`Code::NEWER_STATE`] and [`Code::DAMAGED_STATE`] for what is in it.
    pub(super) fn lock(dir: &Path) -> Result<Self> {
        create_private_dir(dir).map_err(|error| bad_dir(dir, &error))?;
        let lock = locked(dir)?;
        let format = Format::of(dir)?;
        // Nobody else writes here, so what is not whole will never be.
        rwasm_runtime::remove_all_leftovers(dir, |name| name.starts_with(NEW_PREFIX));
        Ok(Self { dir: dir.to_owned(), format, _lock: lock })
    }

    /// Takes a directory that was used before, as it is; `None` if a daemon uses it.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if it is no state directory, [`Code::NEWER_STATE`] and [`Code::DAMAGED_STATE`] for what is in it.
    pub(super) fn hold(dir: &Path) -> Result<Option<Self>> {
        let format = Format::read(dir)?.ok_or_else(|| {
            Error::new(Code::NOT_FOUND, format!("{} is not a state directory", dir.display()))
                .hint("name it with --state-dir; `rwasm start --json` says where it keeps its state")
        })?;
        match locked(dir) {
            Ok(lock) => Ok(Some(Self { dir: dir.to_owned(), format, _lock: lock })),
            Err(error) if error.code() == Code::STATE_LOCKED => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The head's journal, made at its first start.
    ///
    /// # Errors
    ///
    /// [`Code::DAMAGED_STATE`] if there was one and it is gone; what the journal says.
    pub(crate) fn journal(&self) -> Result<Journal> {
        if self.format.head && !self.dir.join(rwasm_journal::FILE).exists() {
            let message = format!("{} was a head's, and its {} is missing", self.dir.display(), rwasm_journal::FILE);
            return Err(Error::new(Code::DAMAGED_STATE, message)
                .hint("put it back from a backup, or name an empty directory to begin a new cluster"));
        }
        let journal = Journal::open(&self.dir)?;
        if !self.format.head {
            Format { head: true, ..self.format }.write(&self.dir)?;
        }
        Ok(journal)
    }

    /// A text that is made at the first start and kept.
    pub(crate) fn once(&self, name: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
        let path = self.dir.join(name);
        let bad = |error: io::Error| Error::new(Code::IO, format!("cannot use {}: {error}", path.display()));
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => {
                Err(Error::new(Code::IO, format!("{} is empty", path.display())).hint("restore it, or start with another --state-dir"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = make()?;
                write_private(&path, text.as_bytes()).map_err(bad)?;
                Ok(text)
            }
            Err(error) => Err(bad(error)),
        }
    }
}

fn locked(dir: &Path) -> Result<fs::File> {
    let bad = |error: io::Error| bad_dir(dir, &error);
    let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK)).map_err(bad)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(Code::STATE_LOCKED, format!("another daemon uses {}", dir.display()))
            .hint("stop it with `rwasm stop`, or name another directory with --state-dir")),
        Err(error) => Err(bad(error.into())),
    }
}

fn bad_dir(dir: &Path, error: &io::Error) -> Error {
    Error::new(Code::IO, format!("cannot use the state directory {}: {error}", dir.display()))
}
