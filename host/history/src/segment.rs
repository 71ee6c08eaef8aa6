//! The format of a log's files, and reading them.
//!
//! ```text
//! header: "RWASMLOG" | u16 format | u8 kind of log | u8 0 | u32 owner | u64 number | u64 created_ms | u8 length, 43 bytes of cluster | u32 crc
//! record: u32 length of payload | u32 crc | u8 kind | payload                                                    (little-endian)
//! ```
//!
//! A checksum is CRC-32C: of a header over all bytes before it, of a record over its length, its kind and its payload. A reader gives the
//! records up to the first that is cut or damaged, and says what it could not read.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rwasm_types::{Code, Error, NodeId, Result, api::UnixMs};

use crate::crc;

/// The format of this version.
pub const FORMAT: u16 = 1;
/// Bytes of a header.
pub const HEADER_BYTES: u64 = 80;
/// Bytes of a record before its payload.
pub const FRAME_BYTES: u64 = 9;
/// The longest payload: a message from the wire fits.
pub const PAYLOAD_BYTES_MAX: usize = 192 << 20;

const MAGIC: &[u8; 8] = b"RWASMLOG";
const CLUSTER_BYTES_MAX: usize = 43;
/// Bytes that a scan reads at once.
const READ_BYTES: usize = 1 << 20;

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// Unfinished work.
    Work,
    /// What is left of jobs.
    Past,
}

impl LogKind {
    fn code(self) -> u8 {
        match self {
            Self::Work => 1,
            Self::Past => 2,
        }
    }
}

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What it holds.
    pub kind: LogKind,
    /// The cluster's id, up to 43 bytes.
    pub cluster: String,
    /// Whose jobs.
    pub owner: NodeId,
}

/// Where a record begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The segment's number, from 1.
    pub segment: u64,
    /// Bytes from the segment's begin.
    pub offset: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {} of segment {}", self.offset, self.segment)
    }
}

/// Records that could not be read: those from here to the segment's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub at: Position,
    /// Bytes to the end of the file.
    pub bytes: u64,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of segment {} from byte {}", self.bytes, self.at.segment, self.at.offset)
    }
}

/// A record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub at: Position,
    /// Which kind, as the log's records number them.
    pub kind: u8,
    /// What it says.
    pub payload: Bytes,
}

/// The name of a segment's file.
pub fn file_name(number: u64) -> String {
    format!("{number:010}.seg")
}

/// The numbers of the segments in a directory, in their order; none if it is not there.
///
/// # Errors
///
/// If it cannot be read.
pub fn list(dir: &Path) -> Result<Vec<u64>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk(&error, dir)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| disk(&error, dir))?.file_name();
        // Ten digits are the least, and more than that are needed by nobody.
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The error of a file that cannot be used.
pub(crate) fn disk(error: &io::Error, path: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Code::DISK_FULL, format!("no space is left for the history in {}", path.display())).hint("free some on the node")
        }
        _ => Error::new(Code::IO, format!("cannot use {}: {error}", path.display())),
    }
}

/// A segment's header.
pub(crate) fn header(origin: &Origin, number: u64, created_ms: UnixMs) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    header[10] = origin.kind.code();
    header[12..16].copy_from_slice(&origin.owner.get().to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..32].copy_from_slice(&created_ms.to_le_bytes());
    let cluster = &origin.cluster.as_bytes()[..origin.cluster.len().min(CLUSTER_BYTES_MAX)];
    header[32] = cluster.len() as u8;
    header[33..33 + cluster.len()].copy_from_slice(cluster);
    let crc = crc::crc32c(&header[..76]);
    header[76..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Adds a record to what will be written: room for its frame, the payload, and then the frame.
pub(crate) fn push(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let begin = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES as usize - 1]);
    out.push(kind);
    let filled = fill(out);
    let payload = out.len() - begin - FRAME_BYTES as usize;
    if let Err(error) = filled.and_then(|()| check_length(payload)) {
        out.truncate(begin);
        return Err(error);
    }
    let length = (payload as u32).to_le_bytes();
    let crc = crc::append(crc::crc32c(&length), &out[begin + 8..]);
    out[begin..begin + 4].copy_from_slice(&length);
    out[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn check_length(payload: usize) -> Result<()> {
    if payload <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(Code::LIMIT, format!("a record of {payload} bytes is too long for the history")))
}

/// A segment that can be read, at any place and from begin to end.
#[derive(Debug)]
pub struct Segment {
    file: File,
    number: u64,
    created_ms: UnixMs,
    length: u64,
}

impl Segment {
    /// Opens a segment of a log; `None` if its header was never written whole, so that it holds nothing.
    ///
    /// # Errors
    ///
    /// [`Code::HISTORY_FOREIGN`] for a file of another cluster, owner or kind, [`Code::HISTORY_NEWER`] for one of a newer version.
    pub fn open(dir: &Path, number: u64, origin: &Origin) -> Result<Option<Self>> {
        let path = dir.join(file_name(number));
        let bad = |error: io::Error| disk(&error, &path);
        let file = File::open(&path).map_err(bad)?;
        let length = file.metadata().map_err(bad)?.len();
        if length < HEADER_BYTES {
            return Ok(None);
        }
        let mut found = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut found, 0).map_err(bad)?;
        let created_ms = created_ms(&found);
        check_header(&path, &found, &header(origin, number, created_ms))?;
        Ok(Some(Self { file, number, created_ms, length }))
    }

    /// When it was begun.
    pub fn created_ms(&self) -> UnixMs {
        self.created_ms
    }

    /// Bytes of the file when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads no further than this: what comes behind is being written.
    pub(crate) fn until(&mut self, length: u64) {
        self.length = self.length.min(length);
    }

    /// One record.
    ///
    /// # Errors
    ///
    /// [`Code::HISTORY_DAMAGED`] if none begins there.
    pub fn record(&self, offset: u64) -> Result<Record> {
        let at = Position { segment: self.number, offset };
        let length = self.file.metadata().map(|metadata| metadata.len()).unwrap_or(self.length);
        let frame = self.read(offset, FRAME_BYTES).filter(|_| offset >= HEADER_BYTES);
        let payload = frame.as_deref().and_then(payload_length).filter(|payload| offset + FRAME_BYTES + payload <= length);
        let bytes = payload.and_then(|payload| self.read(offset, FRAME_BYTES + payload));
        let record = bytes.and_then(|bytes| record(at, &bytes));
        record.map(|(record, _)| record).ok_or_else(|| {
            Error::new(Code::HISTORY_DAMAGED, format!("the history has no whole record at byte {offset} of segment {}", self.number))
        })
    }

    fn read(&self, offset: u64, bytes: u64) -> Option<Bytes> {
        let mut read = vec![0; usize::try_from(bytes).ok()?];
        self.file.read_exact_at(&mut read, offset).ok()?;
        Some(read.into())
    }

    /// All records from an offset on.
    pub fn records(&self, from: u64) -> Records<'_> {
        Records { segment: self, offset: from.max(HEADER_BYTES), buffer: Bytes::new(), gap: None }
    }
}

/// When a segment says that it was begun.
pub(crate) fn created_ms(header: &[u8; HEADER_BYTES as usize]) -> UnixMs {
    u64::from_le_bytes(header[24..32].try_into().unwrap_or_default())
}

pub(crate) fn check_header(path: &Path, found: &[u8], expected: &[u8]) -> Result<()> {
    let refuse = |code, why: String| {
        let message = format!("{} {why}", path.display());
        Err(Error::new(code, message).hint("start with another --state-dir, or move the file away: what it holds is then lost"))
    };
    if found[..8] != MAGIC[..] {
        return refuse(Code::HISTORY_FOREIGN, "is no file of a history".to_owned());
    }
    let format = u16::from_le_bytes([found[8], found[9]]);
    if format > FORMAT {
        return refuse(Code::HISTORY_NEWER, format!("has format {format}, and this version knows {FORMAT}"));
    }
    if crc::crc32c(&found[..76]).to_le_bytes() != found[76..80] {
        return refuse(Code::HISTORY_FOREIGN, "has a damaged header".to_owned());
    }
    if found != expected {
        return refuse(Code::HISTORY_FOREIGN, "belongs to another cluster, node or place".to_owned());
    }
    Ok(())
}

fn payload_length(frame: &[u8]) -> Option<u64> {
    let length = u32::from_le_bytes(frame.get(..4)?.try_into().ok()?);
    (length as usize <= PAYLOAD_BYTES_MAX).then_some(length.into())
}

/// The record at the begin of some bytes, and how many bytes it has; `None` if it is cut or damaged.
pub(crate) fn record(at: Position, bytes: &Bytes) -> Option<(Record, u64)> {
    let payload = payload_length(bytes)?;
    let total = usize::try_from(FRAME_BYTES + payload).ok()?;
    let frame = bytes.get(..total)?;
    let crc = crc::append(crc::crc32c(&frame[..4]), &frame[8..]);
    if crc.to_le_bytes() != frame[4..8] {
        return None;
    }
    Some((Record { at, kind: frame[8], payload: bytes.slice(FRAME_BYTES as usize..total) }, total as u64))
}

/// The records of a segment, in order, up to its end or the first that is damaged.
#[derive(Debug)]
pub struct Records<'a> {
    segment: &'a Segment,
    offset: u64,
    /// What was read from `offset` on.
    buffer: Bytes,
    gap: Option<Gap>,
}

impl Records<'_> {
    /// What could not be read, once all that could was given.
    pub fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// Where the next record would begin.
    pub fn end(&self) -> Position {
        Position { segment: self.segment.number, offset: self.offset }
    }

    /// Has at least so many bytes in the buffer, if the file has.
    fn fill(&mut self, bytes: usize) {
        if self.buffer.len() >= bytes {
            return;
        }
        let left = usize::try_from(self.segment.length - self.offset).unwrap_or(usize::MAX);
        let wanted = bytes.max(READ_BYTES).min(left);
        if let Some(read) = self.segment.read(self.offset, wanted as u64) {
            self.buffer = read;
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.gap.is_some() || self.offset >= self.segment.length {
            return None;
        }
        self.fill(FRAME_BYTES as usize);
        if let Some(payload) = payload_length(&self.buffer).filter(|payload| self.offset + FRAME_BYTES + payload <= self.segment.length) {
            self.fill(usize::try_from(FRAME_BYTES + payload).unwrap_or(usize::MAX));
        }
        match record(self.end(), &self.buffer) {
            Some((record, total)) => {
                self.offset += total;
                self.buffer = self.buffer.split_off(total as usize);
                Some(record)
            }
            None => {
                self.gap = Some(Gap { at: self.end(), bytes: self.segment.length - self.offset });
                None
            }
        }
    }
}

/// The path of a segment, for messages.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(file_name(number))
}
