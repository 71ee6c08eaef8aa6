//! What a backup is: a tar file with a description first, then files, then a summary that tells a whole archive from one that was cut.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

use rwasm_runtime::create_private_dir;
use rwasm_types::{Code, Error, Result, api::UnixMs};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tar::EntryType;

use super::{format::FORMAT, io_error};

/// The version of archives that this one writes, and the newest that it reads.
const VERSION: u32 = 1;
const FIRST: &str = "rwasm-backup.json";
const LAST: &str = "rwasm-backup-end.json";
/// Bytes of either.
const JSON_BYTES_MAX: u64 = 64 << 10;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 256 << 10;

/// The description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    backup: u32,
    format: u32,
    /// The version of rwasm that made it, for people.
    version: String,
    /// The cluster whose state it is, where that is known.
    #[serde(default)]
    pub(super) cluster: Option<String>,
    pub(super) made_ms: UnixMs,
}

impl About {
    pub(super) fn new(cluster: Option<String>, made_ms: UnixMs) -> Self {
        Self { backup: VERSION, format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), cluster, made_ms }
    }
}

/// The summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// BLAKE3 of names, lengths and contents.
    hash: String,
}

/// Sums up what passes.
#[derive(Default)]
struct Summing {
    hasher: blake3::Hasher,
    files: u64,
    bytes: u64,
}

impl Summing {
    fn file(&mut self, name: &Path, length: u64) {
        use std::os::unix::ffi::OsStrExt;

        let name = name.as_os_str().as_bytes();
        self.hasher.update(&(name.len() as u64).to_le_bytes()).update(name).update(&length.to_le_bytes());
        self.files += 1;
        self.bytes += length;
    }

    fn sum(&self) -> Sum {
        Sum { files: self.files, bytes: self.bytes, hash: self.hasher.finalize().to_hex().to_string() }
    }
}

/// Writes an archive.
pub(super) struct Packer<W: Write> {
    tar: tar::Builder<W>,
    summing: Summing,
    made_ms: UnixMs,
}

impl<W: Write> Packer<W> {
    pub(super) fn new(out: W, about: &About) -> io::Result<Self> {
        let mut packer = Self { tar: tar::Builder::new(out), summing: Summing::default(), made_ms: about.made_ms };
        packer.json(FIRST, about)?;
        Ok(packer)
    }

    fn header(&self, kind: EntryType, length: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o700 } else { 0o600 });
        header.set_mtime(self.made_ms / 1000);
        header.set_size(length);
        header
    }

    fn json<T: Serialize>(&mut self, name: &str, value: &T) -> io::Result<()> {
        let json = serde_json::to_vec(value)?;
        let mut header = self.header(EntryType::Regular, json.len() as u64);
        self.tar.append_data(&mut header, name, json.as_slice())
    }

    /// Adds a directory.
    pub(super) fn dir(&mut self, name: &Path) -> io::Result<()> {
        let mut header = self.header(EntryType::Directory, 0);
        self.tar.append_data(&mut header, name, io::empty())
    }

    /// Adds a file as long as it is now; what is added to it meanwhile is left out.
    pub(super) fn file(&mut self, name: &Path, file: fs::File) -> io::Result<()> {
        let length = file.metadata()?.len();
        self.summing.file(name, length);
        let mut header = self.header(EntryType::Regular, length);
        let mut seen = Seen { inner: file.take(length), hasher: &mut self.summing.hasher, left: length };
        self.tar.append_data(&mut header, name, &mut seen)?;
        if seen.left > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut while it was read"));
        }
        Ok(())
    }

    /// Adds the summary; gives it, and what was written to.
    pub(super) fn end(mut self) -> io::Result<(Sum, W)> {
        let sum = self.summing.sum();
        self.json(LAST, &sum)?;
        Ok((sum, self.tar.into_inner()?))
    }
}

/// Passes bytes on and sums them up.
struct Seen<'a, R> {
    inner: R,
    hasher: &'a mut blake3::Hasher,
    left: u64,
}

impl<R: Read> Read for Seen<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

/// Unpacks an archive into an empty directory, and makes sure that it is whole.
///
/// # Errors
///
/// [`Code::FOREIGN_BACKUP`] if it is none, [`Code::NEWER_STATE`] for a later version, [`Code::DAMAGED_BACKUP`] if it is not whole or holds
/// what no backup holds.
pub(super) fn unpack(archive: &Path, input: impl Read, into: &Path) -> Result<(About, Sum)> {
    let name = archive.display();
    let foreign =
        || Error::new(Code::FOREIGN_BACKUP, format!("{name} is not a backup of rwasm")).hint("name a file that `rwasm state backup` made");
    let damaged = |cause: &dyn std::fmt::Display| {
        Error::new(Code::DAMAGED_BACKUP, format!("{name} is truncated or damaged: {cause}"))
            .hint("use another backup; nothing was put back")
    };
    let mut tar = tar::Archive::new(input);
    let mut entries = tar.entries().map_err(|_| foreign())?;
    let about: About = match entries.next() {
        Some(Ok(mut entry)) if entry.path().is_ok_and(|path| path == Path::new(FIRST)) => {
            json(&mut entry).map_err(|error| damaged(&error))?
        }
        _ => return Err(foreign()),
    };
    if about.backup > VERSION || about.format > FORMAT {
        let message = format!("{name} was made by version {} and has a later format than this version reads", about.version);
        return Err(Error::new(Code::NEWER_STATE, message).hint("restore it with that version, or a later one"));
    }
    let mut summing = Summing::default();
    let mut sum = None;
    for entry in entries {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let path = entry.path().map_err(|error| damaged(&error))?.into_owned();
        if sum.is_some() {
            return Err(damaged(&"something follows its end"));
        }
        if path == Path::new(LAST) {
            sum = Some(json::<Sum>(&mut entry).map_err(|error| damaged(&error))?);
            continue;
        }
        let place = inside(&path, into).ok_or_else(|| damaged(&format_args!("{} leads out of the directory", path.display())))?;
        match entry.header().entry_type() {
            EntryType::Directory => create_private_dir(&place).map_err(|error| io_error(&place, &error))?,
            EntryType::Regular => {
                let length = entry.size();
                summing.file(&path, length);
                unpack_file(&mut entry, &place, &mut summing.hasher, length, &damaged)?;
            }
            _ => return Err(damaged(&format_args!("{} is neither a file nor a directory", path.display()))),
        }
    }
    let sum = sum.ok_or_else(|| damaged(&"it has no end"))?;
    if sum != summing.sum() {
        return Err(damaged(&"its contents are not those that were written"));
    }
    Ok((about, sum))
}

fn unpack_file(
    entry: &mut impl Read,
    place: &Path,
    hasher: &mut blake3::Hasher,
    length: u64,
    damaged: &dyn Fn(&dyn std::fmt::Display) -> Error,
) -> Result<()> {
    let open = || {
        place.parent().map_or(Ok(()), create_private_dir)?;
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)
    };
    let mut file = open().map_err(|error| io_error(place, &error))?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut left = length;
    loop {
        let read = entry.read(&mut buffer).map_err(|error| damaged(&error))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        left = left.saturating_sub(read as u64);
        file.write_all(&buffer[..read]).map_err(|error| io_error(place, &error))?;
    }
    if left > 0 {
        return Err(damaged(&"it ends too early"));
    }
    file.sync_all().map_err(|error| io_error(place, &error))
}

fn json<T: DeserializeOwned>(entry: &mut impl Read) -> io::Result<T> {
    let mut text = Vec::new();
    entry.take(JSON_BYTES_MAX).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Where an entry goes; `None` if that would be elsewhere.
fn inside(path: &Path, dir: &Path) -> Option<PathBuf> {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (plain && path.components().next().is_some()).then(|| dir.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![7; 3000]).unwrap();
        let mut packer = Packer::new(Vec::new(), &About::new(Some("c1".to_owned()), 1000)).unwrap();
        packer.dir(Path::new("d")).unwrap();
        let long = format!("d/{}", "n".repeat(150));
        for name in ["a", long.as_str()] {
            packer.file(Path::new(name), fs::File::open(dir.path().join("a")).unwrap()).unwrap();
        }
        packer.end().unwrap().1
    }

    fn unpacked(bytes: &[u8]) -> (tempfile::TempDir, Result<(About, Sum)>) {
        let dir = tempfile::tempdir().unwrap();
        let outcome = unpack(Path::new("b.tar"), bytes, dir.path());
        (dir, outcome)
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let (dir, outcome) = unpacked(&packed());
        let (about, sum) = outcome.unwrap();
        assert_eq!((about.cluster.as_deref(), sum.files, sum.bytes), (Some("c1"), 2, 6000));
        assert_eq!(fs::read(dir.path().join(format!("d/{}", "n".repeat(150)))).unwrap(), vec![7; 3000]);
    }

    #[test]
    fn an_archive_that_was_cut_or_changed_anywhere_is_refused() {
        let whole = packed();
        // Two blocks of zeros end a tar file; what is before them is needed.
        let needed = whole.len() - whole.iter().rev().take_while(|byte| **byte == 0).count();
        for length in (0..needed).step_by(97) {
            let code = unpacked(&whole[..length]).1.unwrap_err().code();
            assert!([Code::FOREIGN_BACKUP, Code::DAMAGED_BACKUP].contains(&code), "{length} bytes: {code}");
        }
        for at in (0..needed).step_by(89) {
            let mut changed = whole.clone();
            changed[at] ^= 0x11;
            if let Ok((about, _)) = unpacked(&changed).1 {
                // Its description is not summed up; nothing depends on it.
                assert_eq!(about.made_ms, 1000, "byte {at}");
            }
        }
        assert_eq!(unpacked(b"PK\x03\x04 a zip file").1.unwrap_err().code(), Code::FOREIGN_BACKUP);
        assert_eq!(unpacked(&[0; 4096]).1.unwrap_err().code(), Code::FOREIGN_BACKUP);
    }

    #[test]
    fn nothing_leads_out_of_the_directory() {
        let out = |name: &str, kind: EntryType| {
            let mut packer = Packer::new(Vec::new(), &About::new(None, 0)).unwrap();
            let mut header = packer.header(kind, 0);
            let bytes = name.as_bytes();
            header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
            if kind == EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            packer.tar.append(&header, io::empty()).unwrap();
            unpacked(&packer.end().unwrap().1).1.unwrap_err().code()
        };
        for name in ["../a", "/a", "d/../../a"] {
            assert_eq!(out(name, EntryType::Regular), Code::DAMAGED_BACKUP, "{name}");
        }
        assert_eq!(out("a", EntryType::Symlink), Code::DAMAGED_BACKUP);
    }
}
