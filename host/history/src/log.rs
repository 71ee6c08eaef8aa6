//! Writing a log: appended to before the effect, on stable storage soon after.
//!
//! Many threads append, and one of the log's own calls `fdatasync` for all of them. Files are never appended to by a second process: a log
//! that is opened again goes on in a new segment, so that what a killed process left is never written behind.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rwasm_runtime::{create_private_dir, fault};
use rwasm_types::{Code, Error, Result, api::UnixMs};

use crate::segment::{self, HEADER_BYTES, Origin, Position, Segment, disk};

/// How long what was appended may be in the kernel's memory only: a power cut loses as much.
pub const SYNC_WITHIN: Duration = Duration::from_millis(50);

/// How a log is set up.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Bytes after which the next segment is begun.
    pub segment_bytes: u64,
    /// Bytes of all segments together beyond which nothing is taken.
    pub bytes_max: u64,
}

/// A log that is written. Clones are the same.
#[derive(Clone, Debug)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    syncer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    origin: Origin,
    options: LogOptions,
    state: Mutex<State>,
    /// Told when there is something to sync, and when the log is closed.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    file: Arc<File>,
    number: u64,
    length: u64,
    /// The sealed segments: number and bytes, in their order.
    sealed: Vec<(u64, u64)>,
    /// What is to be synced, and all of it is in `file` or here.
    dirty: Vec<Arc<File>>,
    closing: bool,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The first byte.
    pub at: Position,
    /// Whether a new segment was begun for it.
    pub rolled: bool,
}

impl Log {
    /// Opens a log for writing; makes it if it is not there. Segments of an earlier life stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`], or if the directory cannot be used.
    pub fn open(dir: &Path, origin: Origin, options: LogOptions, now_ms: UnixMs) -> Result<Self> {
        create_private_dir(dir).map_err(|error| disk(&error, dir))?;
        let mut sealed = Vec::new();
        let mut number = 1;
        for found in segment::list(dir)? {
            match Segment::open(dir, found, &origin)? {
                Some(segment) if segment.length() > HEADER_BYTES => {
                    sealed.push((found, segment.length()));
                    number = found + 1;
                }
                // Nothing was ever written to it, so its number is free: a number that is missing is a segment that was removed.
                _ => {
                    let path = segment::path(dir, found);
                    fs::remove_file(&path).map_err(|error| disk(&error, &path))?;
                    number = number.max(found);
                }
            }
        }
        let file = create(dir, &origin, number, now_ms)?;
        let state = State { file: Arc::new(file), number, length: HEADER_BYTES, sealed, dirty: Vec::new(), closing: false };
        let shared = Arc::new(Shared { dir: dir.to_owned(), origin, options, state: Mutex::new(state), changed: Condvar::new() });
        let syncer = thread::Builder::new()
            .name("log-sync".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.sync_until_closed()
            })
            .map_err(|error| Error::new(Code::NO_CAPACITY, format!("a log's thread does not start: {error}")))?;
        Ok(Self(Arc::new(Inner { shared, syncer: Mutex::new(Some(syncer)) })))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.0.shared.dir
    }

    /// Whose it is.
    pub fn origin(&self) -> &Origin {
        &self.0.shared.origin
    }

    /// Appends whole records, made by one of this room's encoders, with one `write`. When this returns, a kill loses them no more.
    ///
    /// # Errors
    ///
    /// [`Code::DISK_FULL`], [`Code::HISTORY_FULL`] at the log's limit, or what the disk says. Nothing of them is in the log then.
    pub fn append(&self, records: &[u8], now_ms: UnixMs) -> Result<Appended> {
        fault::point("before-append");
        let appended = self.0.shared.append(records, now_ms)?;
        fault::point("after-append");
        Ok(appended)
    }

    /// The segment that is written now.
    pub fn current(&self) -> u64 {
        self.0.shared.state.lock().number
    }

    /// Where the next record will begin.
    pub fn end(&self) -> Position {
        let state = self.0.shared.state.lock();
        Position { segment: state.number, offset: state.length }
    }

    /// The sealed segments, with their bytes, in their order.
    pub fn sealed(&self) -> Vec<(u64, u64)> {
        self.0.shared.state.lock().sealed.clone()
    }

    /// What is there at one moment: the sealed segments, and where the next record will begin.
    pub(crate) fn extent(&self) -> (Vec<(u64, u64)>, Position) {
        let state = self.0.shared.state.lock();
        (state.sealed.clone(), Position { segment: state.number, offset: state.length })
    }

    /// Goes on in a segment of at least this number.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub(crate) fn advance(&self, number: u64, now_ms: UnixMs) -> Result<()> {
        let shared = &self.0.shared;
        let mut state = shared.state.lock();
        if state.number >= number {
            return Ok(());
        }
        let empty = (state.length <= HEADER_BYTES).then_some(state.number);
        shared.begin(&mut state, number, now_ms)?;
        if let Some(empty) = empty {
            state.sealed.retain(|(sealed, _)| *sealed != empty);
            let path = segment::path(&shared.dir, empty);
            fs::remove_file(&path).map_err(|error| disk(&error, &path))?;
        }
        Ok(())
    }

    /// Removes sealed segments up to a number.
    pub fn remove_through(&self, number: u64) {
        let gone: Vec<u64> = {
            let mut state = self.0.shared.state.lock();
            let count = state.sealed.partition_point(|(sealed, _)| *sealed <= number);
            state.sealed.drain(..count).map(|(number, _)| number).collect()
        };
        for number in gone {
            let path = segment::path(&self.0.shared.dir, number);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a segment cannot be removed");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(syncer) = self.syncer.lock().take() {
            let _ = syncer.join();
        }
    }
}

impl Shared {
    fn append(&self, records: &[u8], now_ms: UnixMs) -> Result<Appended> {
        let mut state = self.state.lock();
        let total: u64 = state.sealed.iter().map(|(_, bytes)| bytes).sum::<u64>() + state.length;
        if total.saturating_add(records.len() as u64) > self.options.bytes_max {
            let limit = rwasm_types::format_bytes(self.options.bytes_max);
            return Err(Error::new(Code::HISTORY_FULL, format!("unfinished work takes {limit} on disk, which is the limit"))
                .hint("wait until jobs have ended, or stop some"));
        }
        let rolled = state.length > HEADER_BYTES && state.length.saturating_add(records.len() as u64) > self.options.segment_bytes;
        if rolled {
            self.roll(&mut state, now_ms)?;
        }
        let at = Position { segment: state.number, offset: state.length };
        if let Err(error) = (&*state.file).write_all(records) {
            // A part of it may be there; nothing may stand behind it.
            if state.file.set_len(state.length).is_err() {
                self.roll(&mut state, now_ms)?;
            }
            return Err(disk(&error, &segment::path(&self.dir, at.segment)));
        }
        state.length += records.len() as u64;
        if state.dirty.last().is_none_or(|last| !Arc::ptr_eq(last, &state.file)) {
            let file = Arc::clone(&state.file);
            state.dirty.push(file);
            self.changed.notify_one();
        }
        Ok(Appended { at, rolled })
    }

    fn roll(&self, state: &mut State, now_ms: UnixMs) -> Result<()> {
        self.begin(state, state.number + 1, now_ms)
    }

    fn begin(&self, state: &mut State, number: u64, now_ms: UnixMs) -> Result<()> {
        let file = create(&self.dir, &self.origin, number, now_ms)?;
        state.sealed.push((state.number, state.length));
        state.file = Arc::new(file);
        state.number = number;
        state.length = HEADER_BYTES;
        Ok(())
    }

    /// Syncs what was appended, for all who appended since the last time.
    fn sync_until_closed(&self) {
        loop {
            let (dirty, closing) = {
                let mut state = self.state.lock();
                while state.dirty.is_empty() && !state.closing {
                    self.changed.wait(&mut state);
                }
                // A little later, so that many appends share it. Closing cuts it short.
                if !state.closing {
                    self.changed.wait_for(&mut state, SYNC_WITHIN / 2);
                }
                (std::mem::take(&mut state.dirty), state.closing)
            };
            for file in &dirty {
                fault::point("during-sync");
                if let Err(error) = file.sync_data() {
                    // Kills still lose nothing; what a power cut loses is more than promised, and there is nothing to be done about it.
                    tracing::error!(dir = %self.dir.display(), %error, "a log cannot be synced");
                }
            }
            if closing && dirty.is_empty() {
                return;
            }
        }
    }
}

fn create(dir: &Path, origin: &Origin, number: u64, now_ms: UnixMs) -> Result<File> {
    let path = segment::path(dir, number);
    let bad = |error: std::io::Error| disk(&error, &path);
    let mut file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path).map_err(bad)?;
    let written = file.write_all(&segment::header(origin, number, now_ms));
    written.inspect_err(|_| drop(fs::remove_file(&path))).map_err(bad)?;
    // So that the file itself is not lost with the power.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(bad)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rwasm_types::NodeId;

    use super::*;
    use crate::segment::{FORMAT, LogKind, Record};

    fn origin() -> Origin {
        Origin { kind: LogKind::Work, cluster: "c0123456789abcdef".into(), owner: NodeId::FIRST }
    }

    const OPTIONS: LogOptions = LogOptions { segment_bytes: 1 << 20, bytes_max: 1 << 30 };

    fn encoded(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for payload in payloads {
            segment::push(&mut out, 7, |out| {
                out.extend_from_slice(payload);
                Ok(())
            })
            .unwrap();
        }
        out
    }

    /// All payloads of a log, and how many gaps there are.
    fn read(dir: &Path) -> (Vec<Vec<u8>>, usize) {
        let (mut payloads, mut gaps) = (Vec::new(), 0);
        for number in segment::list(dir).unwrap() {
            let Some(segment) = Segment::open(dir, number, &origin()).unwrap() else { continue };
            let mut records = segment.records(0);
            for Record { at, kind, payload } in records.by_ref() {
                assert_eq!((kind, segment.record(at.offset).unwrap().payload), (7, payload.clone()));
                payloads.push(payload.to_vec());
            }
            gaps += usize::from(records.gap().is_some());
        }
        (payloads, gaps)
    }

    #[test]
    fn what_was_appended_is_read_also_after_several_lives_and_over_several_segments() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { segment_bytes: 400, ..OPTIONS };
        let mut all = Vec::new();
        for life in 0..3_u8 {
            let log = Log::open(dir.path(), origin(), options, 5).unwrap();
            for number in 0..20_u8 {
                let payload = vec![life, number, 0, 1, 2, 3];
                log.append(&encoded(&[payload.clone(), Vec::new()]), 6).unwrap();
                all.extend([payload, Vec::new()]);
            }
            assert!(!log.sealed().is_empty());
        }
        assert_eq!(read(dir.path()), (all, 0));
        let log = Log::open(dir.path(), origin(), options, 7).unwrap();
        log.remove_through(log.current());
        assert_eq!((read(dir.path()).0.len(), log.sealed().len()), (0, 0));
    }

    #[test]
    fn at_the_limit_nothing_is_taken_and_nothing_is_half_there() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), origin(), LogOptions { bytes_max: 200, ..OPTIONS }, 5).unwrap();
        log.append(&encoded(&[vec![1; 50]]), 6).unwrap();
        assert_eq!(log.append(&encoded(&[vec![1; 100]]), 6).unwrap_err().code(), Code::HISTORY_FULL);
        log.append(&encoded(&[vec![2; 50]]), 6).unwrap();
        assert_eq!(read(dir.path()), (vec![vec![1; 50], vec![2; 50]], 0));
    }

    #[test]
    fn foreign_and_newer_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = |origin: Origin| Log::open(dir.path(), origin, OPTIONS, 5).map(drop).map_err(|error| error.code());
        Log::open(dir.path(), origin(), OPTIONS, 5).unwrap().append(&encoded(&[vec![1]]), 6).unwrap();
        assert_eq!(open(origin()), Ok(()));
        assert_eq!(open(Origin { cluster: "other".into(), ..origin() }), Err(Code::HISTORY_FOREIGN));
        assert_eq!(open(Origin { owner: NodeId::new(2).unwrap(), ..origin() }), Err(Code::HISTORY_FOREIGN));
        assert_eq!(open(Origin { kind: LogKind::Past, ..origin() }), Err(Code::HISTORY_FOREIGN));
        let path = segment::path(dir.path(), 1);
        let good = fs::read(&path).unwrap();
        let mut newer = good.clone();
        newer[8..10].copy_from_slice(&(FORMAT + 1).to_le_bytes());
        for (bytes, code) in [(newer, Code::HISTORY_NEWER), (vec![b'x'; 100], Code::HISTORY_FOREIGN)] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(open(origin()), Err(code));
        }
        fs::write(&path, &good[..40]).unwrap();
        assert_eq!(open(origin()), Ok(()), "a header that was never written whole holds nothing");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_record_before_a_damage_is_read_and_nothing_wrong_after_it(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..40),
            place in any::<prop::sample::Index>(),
            damage in any::<u8>(),
            cut: bool,
        ) {
            let dir = tempfile::tempdir().unwrap();
            Log::open(dir.path(), origin(), OPTIONS, 5).unwrap().append(&encoded(&payloads), 6).unwrap();
            let path = segment::path(dir.path(), 1);
            let mut bytes = fs::read(&path).unwrap();
            let place = HEADER_BYTES as usize + place.index(bytes.len() - HEADER_BYTES as usize);
            if cut { bytes.truncate(place) } else { bytes[place] ^= damage.max(1) }
            fs::write(&path, &bytes).unwrap();
            let mut end = HEADER_BYTES as usize;
            let whole = payloads.iter().take_while(|payload| { end += 9 + payload.len(); end <= place }).count();
            let (read, gaps) = read(dir.path());
            prop_assert_eq!(&read[..], &payloads[..whole]);
            let at_a_seam = cut && place == HEADER_BYTES as usize + payloads[..whole].iter().map(|payload| 9 + payload.len()).sum::<usize>();
            prop_assert_eq!(gaps, usize::from(!at_a_seam));
        }

        #[test]
        fn garbage_is_a_gap_and_no_panic(garbage in proptest::collection::vec(any::<u8>(), 1..2_000)) {
            let dir = tempfile::tempdir().unwrap();
            let mut bytes = segment::header(&origin(), 1, 5).to_vec();
            bytes.extend_from_slice(&garbage);
            fs::write(segment::path(dir.path(), 1), &bytes).unwrap();
            prop_assert_eq!(read(dir.path()), (Vec::new(), 1));
        }
    }
}
