//! A daemon's state directory: chosen, locked, and with what is made once in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use rwasm_runtime::{Dirs, NEW_PREFIX, create_private_dir, write_private};
use rwasm_types::{Code, Error, Result};

use crate::args::StartArgs;

/// Nodes of one user on one machine that find a directory of their own by themselves.
const NODES_MAX: u32 = 64;

/// A locked state directory.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
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

    fn lock(dir: &Path) -> Result<Self> {
        let bad = |error: io::Error| Error::new(Code::IO, format!("cannot use the state directory {}: {error}", dir.display()));
        create_private_dir(dir).map_err(bad)?;
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock")).map_err(bad)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // Nobody else writes here, so what is not whole will never be.
                rwasm_runtime::remove_all_leftovers(dir, |name| name.starts_with(NEW_PREFIX));
                Ok(Self { dir: dir.to_owned(), _lock: lock })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(Code::STATE_LOCKED, format!("another daemon uses {}", dir.display()))
                .hint("stop it with `rwasm stop`, or name another directory with --state-dir")),
            Err(error) => Err(bad(error.into())),
        }
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
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
