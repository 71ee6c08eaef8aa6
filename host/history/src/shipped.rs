//! The past of other owners, at the head: their segments as they have them, indexed, and what is known to be missing.
//!
//! ```text
//! accept: check every byte ─▶ append to the owner's segment, on stable storage ─▶ index, and up to where it is there ─▶ the owner is told
//! ```
//!
//! A batch is appended at its own place, so nothing is there twice, whoever dies when. What was appended and not indexed when the head died
//! is indexed when it is opened.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::{Mutex, RwLock};
use rwasm_runtime::{create_private_dir, fault};
use rwasm_types::{Code, Error, NodeId, Result, api::UnixMs};
use serde::{Deserialize, Serialize};

use crate::{
    index::{Change, Index},
    segment::{self, LogKind, Origin, Position, Segment, disk},
    ship::{BATCH_BYTES_MAX, PastBatch, Place, place, refused},
    store::{self, Retention},
    view::View,
};

mod ask;
mod retain;

pub use self::ask::Absent;

/// The longest segment that is taken: an owner's own, and the largest batch on top of it.
const SEGMENT_BYTES_MAX: u64 = 2 * BATCH_BYTES_MAX as u64;
/// What a segment counts for at least, so that many small ones are not for nothing.
const SEGMENT_WEIGHT_MIN: u64 = 64 << 10;
/// Gaps that are told apart for one owner; of more, the last ones are told as one.
const GAPS_MAX: usize = 64;
/// How many batches may be indexed between two times that the index waits for the disk.
const DURABLE_EVERY: u32 = 64;

/// The past of other owners.
#[derive(Debug)]
pub struct Shipped {
    dir: PathBuf,
    cluster: String,
    index: Index,
    retention: Retention,
    owners: RwLock<BTreeMap<NodeId, Owner>>,
    /// What all segments weigh.
    weight: AtomicU64,
    /// Held while something is written; batches since the index was last durable.
    writing: Mutex<u32>,
}

/// An owner, as it is known here.
#[derive(Clone, Debug, Default)]
struct Owner {
    note: Note,
    /// Its segments that are here, with their bytes.
    segments: BTreeMap<u64, u64>,
}

/// What is noted of an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// What stands before this is here, as far as it ever will be.
    had: Position,
    /// When something of it came last; 0 for never.
    heard_ms: UnixMs,
    /// Set when it was lost, and until it is back.
    #[serde(default)]
    lost: Option<Lost>,
    #[serde(default)]
    gaps: Vec<PastGap>,
}

/// An owner that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lost {
    at_ms: UnixMs,
    /// Up to where it had written, as it last said.
    written: Position,
}

/// A part of an owner's past that is not here and will not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastGap {
    /// Where it begins.
    pub at: Position,
    /// About when the first of it was written.
    pub from_ms: UnixMs,
    /// About when the last of it was written.
    pub to_ms: UnixMs,
    /// Whether it is there and cannot be read; else it was removed before it was sent.
    pub unreadable: bool,
}

fn weight(bytes: u64) -> u64 {
    bytes.max(SEGMENT_WEIGHT_MIN)
}

impl Note {
    fn change(&self, owner: NodeId) -> Result<Change> {
        Ok(Change::Owner { owner, note: Some(crate::coding::to_json(self)?) })
    }

    /// Notes what a batch brings, and what it says is missing.
    fn take(&mut self, batch: &PastBatch, place: Place, begun_ms: Option<UnixMs>, now_ms: UnixMs) {
        if place == Place::AfterGap {
            self.miss(PastGap { at: self.had, from_ms: self.heard_ms, to_ms: begun_ms.unwrap_or(now_ms), unreadable: false });
        }
        if batch.unreadable > 0 {
            let at = Position { offset: batch.at.offset + batch.records.len() as u64, ..batch.at };
            self.miss(PastGap { at, from_ms: self.heard_ms, to_ms: now_ms, unreadable: true });
        }
        self.had = batch.end();
        self.heard_ms = now_ms;
    }

    fn miss(&mut self, gap: PastGap) {
        let many = self.gaps.len() >= GAPS_MAX;
        match self.gaps.last_mut().filter(|_| many) {
            Some(last) => last.to_ms = gap.to_ms,
            None => self.gaps.push(gap),
        }
    }
}

impl Shipped {
    /// Opens what was shipped to a head; makes it if there is nothing. Reads no more than what was not indexed.
    ///
    /// # Errors
    ///
    /// If the directory or the index cannot be used.
    pub fn open(dir: &Path, cluster: &str, retention: Retention) -> Result<Self> {
        create_private_dir(dir).map_err(|error| disk(&error, dir))?;
        let index = Index::open(&dir.join("index.redb"))?;
        let store = Self {
            dir: dir.to_owned(),
            cluster: cluster.to_owned(),
            index,
            retention,
            owners: RwLock::default(),
            weight: AtomicU64::new(0),
            writing: Mutex::new(0),
        };
        let mut owners: BTreeMap<NodeId, Owner> = BTreeMap::new();
        for (owner, json) in store.index.owners()? {
            // What a later version notes may be nothing to this one; it is found out anew then.
            let note = serde_json::from_slice(&json).unwrap_or_default();
            owners.insert(owner, Owner { note, segments: BTreeMap::new() });
        }
        for entry in fs::read_dir(dir).map_err(|error| disk(&error, dir))?.flatten() {
            if let Some(owner) = entry.file_name().to_str().and_then(|name| name.parse::<NodeId>().ok()) {
                store.catch_up(owner, owners.entry(owner).or_default())?;
            }
        }
        let weighs = owners.values().flat_map(|owner| owner.segments.values()).map(|bytes| weight(*bytes)).sum();
        store.weight.store(weighs, Relaxed);
        *store.owners.write() = owners;
        Ok(store)
    }

    fn origin(&self, owner: NodeId) -> Origin {
        Origin { kind: LogKind::Past, cluster: self.cluster.clone(), owner }
    }

    fn dir_of(&self, owner: NodeId) -> PathBuf {
        self.dir.join(owner.to_string())
    }

    /// What is answered of an owner's past, as far as it is here.
    pub fn view(&self, owner: NodeId) -> View<'_> {
        View { index: &self.index, dir: Cow::Owned(self.dir_of(owner)), origin: Cow::Owned(self.origin(owner)) }
    }

    /// Indexes what was appended and not indexed, and takes back what was appended by half.
    fn catch_up(&self, owner: NodeId, known: &mut Owner) -> Result<()> {
        let (dir, origin) = (self.dir_of(owner), self.origin(owner));
        let numbers = segment::list(&dir)?;
        let before = known.note.clone();
        let mut changes = Vec::new();
        for number in &numbers {
            let (number, last) = (*number, numbers.last() == Some(number));
            let path = segment::path(&dir, number);
            let segment = match Segment::open(&dir, number, &origin) {
                Ok(Some(segment)) => segment,
                Ok(None) => {
                    fs::remove_file(&path).map_err(|error| disk(&error, &path))?;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "a segment of a node's history cannot be used");
                    known.segments.insert(number, fs::metadata(&path).map_or(0, |metadata| metadata.len()));
                    continue;
                }
            };
            let mut length = segment.length();
            let had = known.note.had;
            if number > had.segment || number == had.segment && length != had.offset {
                // A file that is shorter than it was lost something: what is left is read again.
                let from = if number == had.segment && length > had.offset { had.offset } else { 0 };
                let mut records = segment.records(from);
                changes.extend(records.by_ref().filter_map(|record| store::change(&crate::past::Past::read(&record).ok()?, record.at)));
                let heard_ms = known.note.heard_ms;
                let to_ms = |unreadable| if unreadable { heard_ms } else { segment.created_ms() };
                let gap = |at, unreadable| PastGap { at, from_ms: heard_ms, to_ms: to_ms(unreadable), unreadable };
                if had.segment > 0 && number > had.segment + 1 {
                    known.note.miss(gap(had, false));
                }
                let end = records.end();
                match records.gap() {
                    Some(_) if last => {
                        length = end.offset;
                        let file = OpenOptions::new().write(true).open(&path);
                        file.and_then(|file| file.set_len(length)).map_err(|error| disk(&error, &path))?;
                    }
                    Some(_) => known.note.miss(gap(end, true)),
                    None => {}
                }
                known.note.had = end;
                known.note.heard_ms = known.note.heard_ms.max(segment.created_ms());
            }
            known.segments.insert(number, length);
        }
        if known.note.had.offset > 0 && !known.segments.contains_key(&known.note.had.segment) {
            known.note.had.offset = 0;
        }
        if known.note != before {
            changes.push(known.note.change(owner)?);
            self.index.apply(&changes, true)?;
        }
        Ok(())
    }

    /// Everything of an owner that stands before this is here, as far as it ever will be: what it is to send begins there.
    pub fn had(&self, owner: NodeId) -> Position {
        self.owners.read().get(&owner).map(|owner| owner.note.had).unwrap_or_default()
    }

    /// Takes a batch of an owner in; gives where the next begins. What was taken is on stable storage. One that is here is taken once.
    ///
    /// # Errors
    ///
    /// [`Code::HISTORY_REFUSED`] if it is damaged or does not follow what is here, [`Code::HISTORY_CROWDED`] if there is no room for it
    /// even without all that may be removed, [`Code::DISK_FULL`], or what the disk says. Nothing of it is here then.
    pub fn accept(&self, owner: NodeId, batch: &PastBatch, live: &dyn Fn(NodeId) -> bool, now_ms: UnixMs) -> Result<Position> {
        let mut since_durable = self.writing.lock();
        let mut note = self.owners.read().get(&owner).map(|owner| owner.note.clone()).unwrap_or_default();
        let place = place(note.had, batch.at)?;
        if place == Place::Known {
            return Ok(note.had);
        }
        let origin = self.origin(owner);
        let found = batch.read(&origin)?;
        let length = batch.at.offset + batch.records.len() as u64;
        if length > SEGMENT_BYTES_MAX {
            return Err(refused(format!("its segment would have {length} bytes")));
        }
        let begins = batch.at.offset == 0 && !batch.records.is_empty();
        let added = match (batch.records.is_empty(), begins) {
            (true, _) => 0,
            (false, true) => weight(length),
            (false, false) => weight(length) - weight(batch.at.offset),
        };
        if added > 0 {
            self.make_room(added, &|node| node == owner || live(node))?;
        }
        fault::point("before-shipped");
        if !batch.records.is_empty() {
            self.append(owner, batch)?;
        }
        fault::point("after-shipped");
        let gaps = note.gaps.len();
        let begun_ms = batch.records.first_chunk().filter(|_| begins).map(segment::created_ms);
        note.take(batch, place, begun_ms, now_ms);
        let mut changes: Vec<Change> = found.iter().filter_map(|(at, past)| store::change(past, *at)).collect();
        changes.push(note.change(owner)?);
        *since_durable += 1;
        let durable = begins || note.gaps.len() > gaps || *since_durable >= DURABLE_EVERY;
        self.index.apply(&changes, durable)?;
        if durable {
            *since_durable = 0;
        }
        let had = note.had;
        let mut owners = self.owners.write();
        let known = owners.entry(owner).or_default();
        known.note = note;
        if !batch.records.is_empty() {
            known.segments.insert(batch.at.segment, length);
        }
        self.weight.fetch_add(added, Relaxed);
        drop(owners);
        fault::point("after-indexed");
        Ok(had)
    }

    /// Appends a batch at its place.
    fn append(&self, owner: NodeId, batch: &PastBatch) -> Result<()> {
        let (dir, Position { segment, offset }) = (self.dir_of(owner), batch.at);
        let path = segment::path(&dir, segment);
        let bad = |error: std::io::Error| disk(&error, &path);
        let new = offset == 0;
        if new {
            create_private_dir(&dir).map_err(bad)?;
        }
        let file = OpenOptions::new().write(true).create(new).truncate(new).mode(0o600).open(&path).map_err(bad)?;
        let length = file.metadata().map_err(bad)?.len();
        if length < offset {
            return Err(Error::new(Code::HISTORY_DAMAGED, format!("{} has lost its last {} bytes", path.display(), offset - length)));
        }
        let written = file.write_all_at(&batch.records, offset).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What is left of it is written over when it comes again, or taken back when this is opened.
            let _ = if new { fs::remove_file(&path) } else { file.set_len(offset) };
            return Err(bad(error));
        }
        if new {
            // So that the file is not lost with the power, and neither is its directory.
            for dir in [&dir, &self.dir] {
                File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| disk(&error, dir))?;
            }
        }
        Ok(())
    }

    /// An owner was lost. `written` is up to where it had written, as it last said.
    ///
    /// # Errors
    ///
    /// If it cannot be noted.
    pub fn lost(&self, owner: NodeId, written: Position, at_ms: UnixMs) -> Result<()> {
        let nothing = Position { segment: 1, offset: 0 };
        if written <= nothing && !self.owners.read().contains_key(&owner) {
            return Ok(());
        }
        self.note(owner, |note| note.lost = Some(Lost { at_ms, written }))
    }

    /// An owner is back.
    ///
    /// # Errors
    ///
    /// If it cannot be noted.
    pub fn back(&self, owner: NodeId) -> Result<()> {
        if self.owners.read().get(&owner).is_some_and(|owner| owner.note.lost.is_some()) {
            return self.note(owner, |note| note.lost = None);
        }
        Ok(())
    }

    fn note(&self, owner: NodeId, change: impl FnOnce(&mut Note)) -> Result<()> {
        let _writing = self.writing.lock();
        let mut note = self.owners.read().get(&owner).map(|owner| owner.note.clone()).unwrap_or_default();
        change(&mut note);
        self.index.apply(&[note.change(owner)?], true)?;
        self.owners.write().entry(owner).or_default().note = note;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
