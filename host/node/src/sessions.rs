//! Numbers for sessions, which name a node's jobs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rwasm_runtime::write_private;
use rwasm_types::{Code, Error, Result, SessionId};

/// Numbers of sessions that are reserved on disk at once.
const SESSIONS_RESERVED: SessionId = 1024;
/// How far they go on after a restore.
const SESSIONS_RESTORED: SessionId = 1 << 20;

/// Numbers for sessions, never given twice by a node, whatever happens to it: blocks of them are reserved on disk before they are used.
pub(crate) struct Sessions {
    /// Without, numbers are given once by this process, and nobody remembers them.
    path: Option<PathBuf>,
    next: SessionId,
    reserved: SessionId,
}

impl Sessions {
    pub(crate) fn open(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("sessions");
        let damaged = || Error::new(Code::DAMAGED_STATE, format!("{} is damaged", path.display()));
        let reserved = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| damaged().hint("put it back from a backup"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Error::new(Code::IO, format!("cannot read {}: {error}", path.display()))),
        };
        Ok(Self { path: Some(path), next: reserved + 1, reserved })
    }

    /// The numbers of a node of which nothing is left when its process ends.
    pub(crate) fn passing() -> Self {
        Self { path: None, next: 1, reserved: 0 }
    }

    /// Leaves out the numbers that may have been given since a backup was made.
    pub(crate) fn renumber(state_dir: &Path) -> Result<()> {
        let mut sessions = Self::open(state_dir)?;
        if sessions.reserved > 0 {
            sessions.reserve(sessions.reserved.saturating_add(SESSIONS_RESTORED))?;
        }
        Ok(())
    }

    /// The next number.
    ///
    /// # Errors
    ///
    /// If its block cannot be reserved.
    pub(crate) fn next(&mut self) -> Result<SessionId> {
        if self.next > self.reserved {
            self.reserve(self.next.saturating_add(SESSIONS_RESERVED))?;
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn reserve(&mut self, reserved: SessionId) -> Result<()> {
        if let Some(path) = &self.path {
            let written = write_private(path, reserved.to_string().as_bytes());
            written.map_err(|error| Error::new(Code::IO, format!("cannot write {}: {error}", path.display())))?;
        }
        self.reserved = reserved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_numbers_are_never_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _life in 0..3 {
            let mut sessions = Sessions::open(dir.path()).unwrap();
            assert!((0..1500).all(|_| seen.insert(sessions.next().unwrap())));
        }
        let last = *seen.last().unwrap();
        Sessions::renumber(dir.path()).unwrap();
        assert!(Sessions::open(dir.path()).unwrap().next().unwrap() > last + SESSIONS_RESTORED);
        fs::write(dir.path().join("sessions"), "x").unwrap();
        assert!(Sessions::open(dir.path()).is_err());
    }
}
