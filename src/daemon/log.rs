//! A daemon's log in the background: files that are replaced when they are full, so that a daemon that runs for years fills no disk.
//!
//! ```text
//! head.log      what is written now
//! head.log.1    what was written before, and so on up to --log-files; none that is older than --log-age
//! ```
//!
//! Standard error is the file, so what the runtime itself says of a panic is in it too. Several daemons may write to one file (nodes of one
//! user do), so whoever finds it full renames it under a lock, and whoever finds it renamed goes on in the new one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rwasm_runtime::parent;
use rwasm_types::{Code, Error, Result};

/// Bytes of a file, and files, unless told otherwise.
const SIZE_DEFAULT: u64 = 16 << 20;
const FILES_DEFAULT: u32 = 4;
/// How long a full file is kept, unless told otherwise.
const AGE_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
/// The fewest bytes of a file: fewer would be all renaming.
const SIZE_MIN: u64 = 64 << 10;
/// The most files: each is renamed whenever one is full.
const FILES_MAX: u32 = 100;
/// After how many bytes of its own a daemon looks at the file, which others may have filled or renamed.
const LOOK_EVERY: u64 = 16 << 10;

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLimits {
    size: u64,
    files: u32,
    age: Duration,
}

impl LogLimits {
    /// What was asked for, within what makes sense.
    pub(crate) fn new(size: Option<u64>, files: Option<u32>, age: Option<Duration>) -> Self {
        Self {
            size: size.unwrap_or(SIZE_DEFAULT).max(SIZE_MIN),
            files: files.unwrap_or(FILES_DEFAULT).clamp(1, FILES_MAX),
            age: age.unwrap_or(AGE_DEFAULT),
        }
    }
}

/// Opens a log to add to it; whoever else is on the machine does not read it.
pub(crate) fn open(path: &Path) -> Result<File> {
    append(path).map_err(|error| Error::new(Code::IO, format!("cannot write {}: {error}", path.display())))
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// A log that is being written. Clones write to the same.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    since_look: u64,
    /// Has standard error follow to a new file.
    follow: fn(&File) -> io::Result<()>,
}

impl Log {
    /// A log whose file standard error is, too.
    pub(crate) fn of_stderr(path: PathBuf, limits: LogLimits) -> Result<Self> {
        Self::new(path, limits, |file| Ok(rustix::stdio::dup2_stderr(file)?))
    }

    fn new(path: PathBuf, limits: LogLimits, follow: fn(&File) -> io::Result<()>) -> Result<Self> {
        let file = open(&path)?;
        follow(&file).map_err(|error| Error::internal(format!("standard error cannot be the log: {error}")))?;
        // Looked at with the first line: it may be full from an earlier life.
        Ok(Self(Arc::new(Mutex::new(State { path, limits, file, since_look: LOOK_EVERY, follow }))))
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.since_look >= LOOK_EVERY {
            state.since_look = 0;
            // A log that cannot be renamed goes on in its file: too long is better than nothing.
            let _ = state.look();
        }
        let written = state.file.write(bytes)?;
        state.since_look += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    /// Goes on in the file of the name, and has a new one made if that is full.
    fn look(&mut self) -> io::Result<()> {
        self.remove_old();
        let there = fs::metadata(&self.path).ok();
        let ours = self.file.metadata()?;
        let is_ours = there.as_ref().is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        if is_ours && ours.len() < self.limits.size {
            return Ok(());
        }
        if there.is_some_and(|there| there.len() >= self.limits.size) {
            self.rename()?;
        }
        self.file = append(&self.path)?;
        (self.follow)(&self.file)
    }

    /// Names are changed and files removed by one daemon at a time, as long as this is held.
    fn lock(&self) -> io::Result<File> {
        let lock = File::open(parent(&self.path))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    /// Removes full files to which nothing was added for too long. Nobody writes to them, so it does not matter which daemon does.
    fn remove_old(&self) {
        // Without the lock, one that has just got the name of an old one could go.
        let Ok(_lock) = self.lock() else { return };
        for number in 1..self.limits.files {
            let path = numbered(&self.path, number);
            let modified = fs::metadata(&path).and_then(|file| file.modified());
            if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > self.limits.age)) {
                // Another daemon may have been quicker.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Gives each file the name of the next older one; the oldest goes. Another daemon may have done so in between.
    fn rename(&self) -> io::Result<()> {
        let _lock = self.lock()?;
        if fs::metadata(&self.path).map_or(0, |there| there.len()) < self.limits.size {
            return Ok(());
        }
        for number in (0..self.limits.files).rev() {
            let from = numbered(&self.path, number);
            let moved =
                if number + 1 == self.limits.files { fs::remove_file(&from) } else { fs::rename(&from, numbered(&self.path, number + 1)) };
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The name of a file that is so many files old.
fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes so many lines of 1 KiB, numbered on from `first`.
    fn fill(log: &mut Log, first: usize, lines: usize) {
        for number in first..first + lines {
            log.write_all(format!("{number:>1023}\n").as_bytes()).unwrap();
        }
    }

    /// All lines that are kept, from the oldest on, and in how many files.
    fn kept(path: &Path) -> (Vec<usize>, usize) {
        let texts: Vec<String> = (0..=FILES_MAX).rev().filter_map(|number| fs::read_to_string(numbered(path, number)).ok()).collect();
        (texts.iter().flat_map(|text| text.lines().map(|line| line.trim().parse().unwrap())).collect(), texts.len())
    }

    fn log(path: &Path, files: u32) -> Log {
        Log::new(path.to_owned(), LogLimits::new(Some(0), Some(files), None), |_| Ok(())).unwrap()
    }

    #[test]
    fn old_lines_go_and_new_ones_are_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head.log");
        let mut log = log(&path, 3);
        fill(&mut log, 0, 1_000);
        let (lines, files) = kept(&path);
        assert_eq!(files, 3);
        assert_eq!(lines, (1_000 - lines.len()..1_000).collect::<Vec<_>>(), "the newest, without a gap");
        let size_max = SIZE_MIN + LOOK_EVERY + 1_024;
        assert!((128..=3 * size_max as usize / 1_024).contains(&lines.len()), "{}", lines.len());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn daemons_that_share_a_log_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let (mut one, mut other) = (log(&path, 100), log(&path, 100));
        for round in 0..50 {
            fill(&mut one, round * 20, 10);
            fill(&mut other, round * 20 + 10, 10);
        }
        let (mut lines, files) = kept(&path);
        lines.sort_unstable();
        assert_eq!(lines, (0..1_000).collect::<Vec<_>>());
        assert!(files > 5, "{files}");
    }

    #[test]
    fn files_that_are_too_old_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head.log");
        let mut log = log(&path, 4);
        fill(&mut log, 0, 300);
        assert_eq!(kept(&path).1, 4);
        let long_ago = std::time::SystemTime::now() - AGE_DEFAULT - Duration::from_secs(60);
        for number in [0, 3] {
            File::options().append(true).open(numbered(&path, number)).unwrap().set_modified(long_ago).unwrap();
        }
        fill(&mut log, 300, 17);
        let (lines, files) = kept(&path);
        assert_eq!((files, lines.last()), (3, Some(&316)), "what is written now stays");
    }

    #[test]
    fn one_file_is_emptied_when_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head.log");
        fill(&mut log(&path, 1), 0, 500);
        let (lines, files) = kept(&path);
        assert_eq!((files, lines.last()), (1, Some(&499)));
    }
}
