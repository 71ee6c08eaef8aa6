//! A directory to spill to. Each life has its own directory in it, locked; those that nobody has locked were left by lives that are gone,
//! and are removed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::spill::SpillTarget;

/// What the directories of lives are called, before their numbers.
const LIFE: &str = "spill-";

/// A directory of this life's own. It is removed when the value is dropped, or by a later life.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Locked for as long as this life is.
    _lock: File,
}

impl Directory {
    /// Makes a directory of this life's own in `parent`, which is made if it is not there; removes those of lives that are gone.
    ///
    /// # Errors
    ///
    /// If it cannot be made or locked.
    pub fn open(parent: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        // Held while lives are looked for and made: so whoever is not locked by then is gone, and not just about to lock.
        let door = File::open(parent)?;
        flock(&door, FlockOperation::LockExclusive)?;
        let mut next = 0;
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_prefix(LIFE)?.parse::<u64>().ok()) else { continue };
            next = next.max(number.saturating_add(1));
            // What cannot be removed is in nobody's way.
            let _ = remove_left(&entry);
        }
        let path = parent.join(format!("{LIFE}{next}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::open(&path)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self { path, _lock: lock })
    }

    /// This life's own directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(number.to_string())
    }
}

/// Removes the directory of a life, if that is gone.
fn remove_left(entry: &fs::DirEntry) -> io::Result<()> {
    if entry.file_type()?.is_dir() {
        flock(File::open(entry.path())?, FlockOperation::NonBlockingLockExclusive)?;
        fs::remove_dir_all(entry.path())?;
    }
    Ok(())
}

impl SpillTarget for Directory {
    fn put(&self, file: u64, parts: &[&[u8]]) -> io::Result<()> {
        let path = self.file(file);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        parts.iter().try_for_each(|part| out.write_all(part)).inspect_err(|_| {
            // It is of no use, and takes what there is too little of.
            let _ = fs::remove_file(&path);
        })
    }

    fn get(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        File::open(self.file(file))?.read_exact_at(into, offset)
    }

    fn delete(&self, file: u64) -> io::Result<()> {
        fs::remove_file(self.file(file))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is removed by the next life.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_in_ranges_until_it_is_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let dir = Directory::open(&parent.path().join("a/b")).unwrap();
        dir.put(1, &[b"hello ", b"", b"world"]).unwrap();
        let mut bytes = [0; 5];
        dir.get(1, 6, &mut bytes).unwrap();
        assert_eq!(&bytes, b"world");
        assert!(dir.get(1, 7, &mut bytes).is_err(), "too short");
        assert!(dir.put(1, &[b"again"]).is_err(), "a file is written once");
        dir.delete(1).unwrap();
        assert!(dir.get(1, 0, &mut bytes).is_err() && dir.delete(1).is_err());
        let path = dir.path().to_owned();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_life_that_is_gone_left_is_removed_and_what_another_uses_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("spill-7");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("1"), "left").unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        let first = Directory::open(parent.path()).unwrap();
        assert!(!left.exists() && parent.path().join("other").exists());
        first.put(1, &[b"x"]).unwrap();
        let second = Directory::open(parent.path()).unwrap();
        assert_ne!(first.path(), second.path());
        first.get(1, 0, &mut [0]).unwrap();
    }
}
