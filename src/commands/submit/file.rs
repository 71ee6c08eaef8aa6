//! The file of `--output`: it has its name once it is whole, and what had the name before is there until then.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use rwasm_runtime::parent;
use rwasm_types::{Code, Error, Result};
use tempfile::NamedTempFile;

/// What a file is called while it is written.
const PART_PREFIX: &str = ".rwasm-";
const PART_SUFFIX: &str = ".part";

/// A file that results are written to.
pub(crate) struct ResultFile {
    path: PathBuf,
    to: BufWriter<To>,
    written: u64,
}

enum To {
    /// A file beside it, renamed at the end.
    Beside(NamedTempFile),
    /// The file itself: a device or a pipe, or one in a directory that takes no further file.
    Itself(File),
}

impl Write for To {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Beside(file) => file.write(bytes),
            Self::Itself(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Beside(file) => file.flush(),
            Self::Itself(file) => file.flush(),
        }
    }
}

impl ResultFile {
    /// Makes sure that the file can be written, and changes nothing of it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let to = Self::to(path).map_err(|error| Error::new(Code::IO, format!("cannot write {}: {error}", path.display())))?;
        // A link stays a link: what it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, to: BufWriter::new(to), written: 0 })
    }

    fn to(path: &Path) -> io::Result<To> {
        let dir = |path: &Path| parent(path).to_owned();
        let beside = |path: &Path, permissions| -> io::Result<To> {
            let dir = dir(path);
            // Of a command that was killed; one that runs holds its own.
            rwasm_runtime::remove_leftovers(&dir, |name| name.starts_with(PART_PREFIX) && name.ends_with(PART_SUFFIX));
            let file = tempfile::Builder::new().prefix(PART_PREFIX).suffix(PART_SUFFIX).permissions(permissions).tempfile_in(dir)?;
            // A file system without locks has no leftovers removed either.
            let _ = flock(file.as_file(), FlockOperation::NonBlockingLockShared);
            Ok(To::Beside(file))
        };
        match fs::metadata(path) {
            Ok(there) if there.is_file() => {
                // A file that may not be written is not replaced either.
                let itself = OpenOptions::new().write(true).open(path)?;
                beside(&fs::canonicalize(path)?, there.permissions()).or_else(|_| Self::emptied(itself))
            }
            Ok(_) => OpenOptions::new().write(true).open(path).map(To::Itself),
            // A link that leads nowhere yet.
            Err(_) if fs::symlink_metadata(path).is_ok() => File::create(path).map(To::Itself),
            // The process's mask applies, as to every file that is made.
            Err(_) => beside(path, Permissions::from_mode(0o666)),
        }
    }

    fn emptied(file: File) -> io::Result<To> {
        file.set_len(0)?;
        Ok(To::Itself(file))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes).map_err(|error| unwritable(&self.path, &error))
    }

    /// Whether anything was written.
    pub(crate) fn is_begun(&self) -> bool {
        self.written > 0
    }

    /// Gives the file its name.
    pub(crate) fn finish(self) -> Result<()> {
        let path = self.path.clone();
        self.persist(&path)
    }

    /// Keeps what was written under another name, which it gives; `None` if there is nothing, or it is in the file already.
    pub(crate) fn keep_part(self) -> Result<Option<PathBuf>> {
        if self.written == 0 || matches!(self.to.get_ref(), To::Itself(_)) {
            return Ok(None);
        }
        let mut name = self.path.clone().into_os_string();
        name.push(PART_SUFFIX);
        let part = PathBuf::from(name);
        self.persist(&part)?;
        Ok(Some(part))
    }

    fn persist(self, path: &Path) -> Result<()> {
        match self.to.into_inner().map_err(|error| unwritable(path, error.error()))? {
            To::Itself(_) => Ok(()),
            To::Beside(file) => file.persist(path).map(drop).map_err(|error| unwritable(path, &error.error)),
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Code::DISK_FULL, format!("no space is left for {}", path.display()))
        }
        _ => Error::new(Code::IO, format!("cannot write {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_name_is_given_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let write = |text: &str| {
            let mut file = ResultFile::open(&path).unwrap();
            file.write(text.as_bytes()).unwrap();
            file
        };
        let first = write("one");
        assert!(!path.exists());
        first.finish().unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        drop(write("dropped"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write("two").finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(write("a part").keep_part().unwrap(), Some(dir.path().join("out.part")));
        assert_eq!(fs::read_to_string(dir.path().join("out.part")).unwrap(), "a part");
        assert_eq!(ResultFile::open(&path).unwrap().keep_part().unwrap(), None);
        assert_eq!(names(dir.path()), ["out", "out.part"]);
    }

    #[test]
    fn links_and_devices_stay_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("out"), dir.path().join("link"));
        std::os::unix::fs::symlink("out", &link).unwrap();
        for text in ["through a link to nowhere", "through a link"] {
            let mut file = ResultFile::open(&link).unwrap();
            file.write(text.as_bytes()).unwrap();
            file.finish().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        let mut null = ResultFile::open(Path::new("/dev/null")).unwrap();
        null.write(b"gone").unwrap();
        null.finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(ResultFile::open(dir.path()).is_err() && ResultFile::open(&dir.path().join("no/such/dir")).is_err());
    }
}
