//! What a killed process leaves on disk: found by whoever comes next, by locks that the kernel lets go with their process.
//!
//! A process number would not do: numbers come again, and processes of other containers look as if they were gone.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};

/// Whoever made a file or directory has locked it by then.
const FRESH: Duration = Duration::from_secs(1);

/// Says that a file or directory is in use for as long as the value lives, at most as long as this process.
///
/// # Errors
///
/// If it cannot be opened or locked.
pub fn in_use(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    flock(&file, FlockOperation::LockShared)?;
    Ok(file)
}

/// Removes files and directories directly in `dir` that are ours by their names and that nobody uses: their process was killed. Gives how
/// many there were; what cannot be removed stays.
pub fn remove_leftovers(dir: &Path, is_ours: impl Fn(&str) -> bool) -> usize {
    remove_older(dir, is_ours, FRESH)
}

/// The same of a directory that this process alone uses, by a lock of its own: whatever is there was left.
pub fn remove_all_leftovers(dir: &Path, is_ours: impl Fn(&str) -> bool) -> usize {
    remove_older(dir, is_ours, Duration::ZERO)
}

fn remove_older(dir: &Path, is_ours: impl Fn(&str) -> bool, age: Duration) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(&is_ours));
    ours.filter(|entry| is_left(entry, age).unwrap_or(false) && remove(entry).is_ok()).count()
}

fn is_left(entry: &fs::DirEntry, age: Duration) -> io::Result<bool> {
    let metadata = entry.metadata()?;
    // A link of that name is not ours, and opening what is no file may wait for somebody.
    if !metadata.is_file() && !metadata.is_dir() || SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default() < age {
        return Ok(false);
    }
    match flock(File::open(entry.path())?, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn remove(entry: &fs::DirEntry) -> io::Result<()> {
    if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x-dir-used", "x-dir-left"] {
            fs::create_dir_all(dir.path().join(name).join("inner")).unwrap();
        }
        for name in ["x-file-used", "x-file-left", "other"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("x-link")).unwrap();
        let held = ["x-dir-used", "x-file-used"].map(|name| in_use(&dir.path().join(name)).unwrap());
        let ours = |name: &str| name.starts_with("x-");
        assert_eq!(remove_older(dir.path(), ours, Duration::from_secs(3_600)), 0, "they were just made");
        assert_eq!(remove_older(dir.path(), ours, Duration::ZERO), 2);
        let left = |name: &str| dir.path().join(name).symlink_metadata().is_ok();
        assert!(left("x-dir-used") && left("x-file-used") && left("other") && left("x-link"));
        drop(held);
        assert_eq!(remove_older(dir.path(), ours, Duration::ZERO), 2);
        assert_eq!(remove_leftovers(&dir.path().join("nowhere"), ours), 0);
    }
}
