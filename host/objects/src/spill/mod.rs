//! What goes to disk when memory runs short, and what is moved together so that whole segments become free.
//!
//! Objects that nobody reads go first to disk, those that were not read for longest first; small ones of a tenant share a file. An object
//! that came back keeps its place on disk while it is not needed there, so that letting go of it again costs nothing. A file goes when
//! nothing is left in it.
//!
//! Here is decided what is done; [`relieve`](crate::relieve) does it, without the lock, and tells what came of it. Nobody waits for anybody
//! meanwhile: whoever restores waits in the queue for room, holding none, and what is written holds what it had before.

pub(crate) mod directory;

use std::{
    collections::{BTreeSet, HashMap},
    fmt, io,
    sync::Arc,
};

use rwasm_types::{Error, ObjectId, Tenant};

use crate::{
    arena::Room,
    error,
    pin::{Meta, Sealed},
    queue::Outcome,
    state::{After, Place, State, pages},
    sum::Checksum,
};

/// Objects share a file until it has as many bytes; a larger one has its own.
pub(crate) const FILE_BYTES: u64 = 8 << 20;
/// The most objects of a file.
pub(crate) const FILE_OBJECTS_MAX: usize = 10_000;
/// How many objects are let go of, or looked at for one that fits, under one lock.
const SCAN_MAX: usize = 10_000;

/// Where objects go when memory runs short: files that are written once, read in ranges, and deleted. Names are numbers of this life.
pub trait SpillTarget: fmt::Debug + Send + Sync {
    /// Writes a file of these parts, one after the other.
    ///
    /// # Errors
    ///
    /// If it cannot be written; nothing of it may be left then.
    fn put(&self, file: u64, parts: &[&[u8]]) -> io::Result<()>;

    /// Reads as many bytes as there is place for.
    ///
    /// # Errors
    ///
    /// If the file is not there, is shorter, or cannot be read.
    fn get(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Deletes a file.
    ///
    /// # Errors
    ///
    /// If it cannot be deleted; it counts as there, then.
    fn delete(&self, file: u64) -> io::Result<()>;
}

/// When and where to a store spills.
#[derive(Clone, Debug)]
pub struct Spill {
    /// Where to.
    pub target: Arc<dyn SpillTarget>,
    /// Bytes that may be there.
    pub most_bytes: u64,
    /// How full memory may be before objects that nobody reads go, in percent. 0 to 100.
    pub threshold_percent: u8,
}

impl Spill {
    /// How full memory may be by default.
    pub const THRESHOLD_PERCENT: u8 = 80;
}

/// Where an object is on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) file: u64,
    pub(crate) offset: u64,
}

#[derive(Default)]
struct File {
    bytes: u64,
    /// The objects in it that were not deleted.
    keys: BTreeSet<u64>,
}

/// What is on disk.
pub(crate) struct Disk {
    spill: Spill,
    files: HashMap<u64, File>,
    garbage: Vec<u64>,
    used_bytes: u64,
    next_file: u64,
}

impl Disk {
    pub(crate) fn new(spill: Spill) -> Self {
        Self { spill, files: HashMap::new(), garbage: Vec::new(), used_bytes: 0, next_file: 0 }
    }

    pub(crate) fn target(&self) -> Arc<dyn SpillTarget> {
        Arc::clone(&self.spill.target)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub(crate) fn most_bytes(&self) -> u64 {
        self.spill.most_bytes
    }

    /// An object does not need its place any more.
    pub(crate) fn leave(&mut self, part: Part, key: u64) {
        if let Some(file) = self.files.get_mut(&part.file) {
            file.keys.remove(&key);
            if file.keys.is_empty() {
                self.garbage.push(part.file);
            }
        }
    }

    fn begin(&mut self, bytes: u64) -> u64 {
        self.next_file += 1;
        self.used_bytes += bytes;
        self.files.insert(self.next_file, File { bytes, keys: BTreeSet::new() });
        self.next_file
    }

    fn gone(&mut self, file: u64) {
        if let Some(file) = self.files.remove(&file) {
            self.used_bytes -= file.bytes;
        }
    }
}

/// What is needed to read an object from disk.
pub(crate) struct Stored {
    pub(crate) target: Arc<dyn SpillTarget>,
    pub(crate) part: Part,
    pub(crate) meta: Arc<Meta>,
    pub(crate) size: u64,
}

impl Stored {
    /// Reads the object into its room, and checks that it is as it was.
    pub(crate) fn read(self, mut room: Room, id: ObjectId) -> Result<Sealed, (Room, Error)> {
        let Ok(length) = usize::try_from(self.size) else { return Err((room, error::absent(id))) };
        let bytes = room.extent.bytes_mut();
        bytes.get_mut(length..).unwrap_or_default().fill(0);
        let place = bytes.get_mut(..length).unwrap_or_default();
        if let Err(error) = self.target.get(self.part.file, self.part.offset, place) {
            return Err((room, error::spill("read from", &error)));
        }
        let found = Checksum(*blake3::hash(place).as_bytes());
        if self.meta.sums.known_whole().is_some_and(|expected| expected != found) {
            return Err((room, error::damaged(id)));
        }
        Ok(Sealed { room, length, meta: self.meta })
    }
}

/// One thing to do without the lock.
pub(crate) enum Work {
    /// Nothing: much was let go of, and the lock is due to others before there is more.
    More,
    /// Delete a file.
    Delete { file: u64, target: Arc<dyn SpillTarget> },
    /// Write a file of these objects.
    Write { file: u64, parts: Vec<(u64, Arc<Sealed>)>, target: Arc<dyn SpillTarget> },
    /// Copy an object to another place in memory.
    Move { key: u64, from: Arc<Sealed>, to: Room },
}

impl State {
    /// Whether something should be moved away, and there may be something to move.
    pub(crate) fn wants_relief(&self) -> bool {
        let garbage = self.disk.as_ref().is_some_and(|disk| !disk.garbage.is_empty());
        garbage || !self.unread.is_empty() && (self.queue.is_short() || self.is_over_threshold())
    }

    fn is_over_threshold(&self) -> bool {
        let percent = self.disk.as_ref().map_or(100, |disk| disk.spill.threshold_percent.min(100));
        let used = u128::from(self.arena.total().live) * 100;
        used > u128::from(self.most.capacity) * u128::from(percent)
    }

    /// Lets go of what is on disk already, and says what to do next; `None` if there is nothing that helps.
    pub(crate) fn plan(&mut self, after: &mut After) -> Option<Work> {
        if let Some(disk) = &mut self.disk
            && let Some(file) = disk.garbage.pop()
        {
            return Some(Work::Delete { file, target: disk.target() });
        }
        for _ in 0..SCAN_MAX {
            if !self.wants_relief() {
                return None;
            }
            if let Some(work) = self.plan_move(after) {
                return Some(work);
            }
            if !self.let_go_of_copied(after) {
                return self.plan_write();
            }
            self.serve(after);
        }
        Some(Work::More)
    }

    /// The tenants whose objects are in somebody's way, those that were not read for longest first.
    fn crowded(&self, ages: impl Fn(&Tenant) -> Option<u64>) -> Option<Tenant> {
        let all = self.queue.capacity.is_some() || self.is_over_threshold();
        let tenants = self.unread.keys().filter(|tenant| all || self.queue.quotas.contains_key(*tenant));
        let oldest = tenants.filter_map(|tenant| Some((ages(tenant)?, tenant))).min();
        oldest.map(|(_, tenant)| tenant.clone())
    }

    /// Lets go of the memory of an object that is on disk, too.
    fn let_go_of_copied(&mut self, after: &mut After) -> bool {
        let oldest = |tenant: &Tenant| self.unread.get(tenant)?.copied.keys().next().copied();
        let Some(tenant) = self.crowded(oldest) else { return false };
        let Some(key) = self.unread.get(&tenant).and_then(|unread| unread.copied.values().next().copied()) else { return false };
        self.leave_memory(key, after);
        true
    }

    /// Makes an object with a copy on disk one that is there alone.
    fn leave_memory(&mut self, key: u64, after: &mut After) {
        let mut freed = None;
        self.change(key, |record| {
            let Place::Memory { sealed, copy: Some(part) } = &record.place else { return };
            let (sealed, part) = (Arc::clone(sealed), *part);
            record.place = Place::Disk { meta: Arc::clone(&sealed.meta), part };
            freed = Some(sealed);
        });
        if let Some(sealed) = freed {
            self.unshare(sealed, after);
        }
    }

    fn plan_write(&mut self) -> Option<Work> {
        let oldest = |tenant: &Tenant| self.unread.get(tenant)?.others.keys().next().copied();
        let tenant = self.crowded(oldest)?;
        let disk = self.disk.as_ref()?;
        let left = disk.spill.most_bytes.saturating_sub(disk.used_bytes);
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for key in self.unread.get(&tenant)?.others.values().take(SCAN_MAX) {
            let size = self.records.get(key).map_or(0, |record| record.size);
            let fits = bytes + size <= left && (keys.is_empty() || bytes + size <= FILE_BYTES);
            if fits {
                keys.push(*key);
                bytes += size;
            }
            if bytes >= FILE_BYTES || keys.len() >= FILE_OBJECTS_MAX {
                break;
            }
        }
        if keys.is_empty() {
            return self.drop_copies();
        }
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            self.change(key, |record| record.busy = true);
            parts.extend(self.records.get(&key).and_then(|record| Some((key, Arc::clone(record.sealed()?)))));
        }
        let disk = self.disk.as_mut()?;
        Some(Work::Write { file: disk.begin(bytes), parts, target: disk.target() })
    }

    /// Where the disk is full, a file whose objects are all in memory as well makes room on it.
    fn drop_copies(&mut self) -> Option<Work> {
        let in_memory = |key: &u64| self.records.get(key).is_some_and(|record| record.sealed().is_some() && !record.busy);
        let disk = self.disk.as_ref()?;
        let (file, _) = disk.files.iter().find(|(_, file)| !file.keys.is_empty() && file.keys.iter().all(in_memory))?;
        let file = *file;
        let keys: Vec<u64> = disk.files.get(&file)?.keys.iter().copied().collect();
        for key in keys {
            self.change(key, |record| {
                if let Place::Memory { copy, .. } = &mut record.place {
                    *copy = None;
                }
            });
        }
        let disk = self.disk.as_mut()?;
        disk.files.get_mut(&file)?.keys.clear();
        Some(Work::Delete { file, target: disk.target() })
    }

    /// Where what is used would leave room, but lies spread over segments: an object of the emptiest segment goes into a fuller one of its
    /// tenant. Each such step makes full ones fuller, so they come to an end, with segments that nothing uses.
    fn plan_move(&mut self, after: &mut After) -> Option<Work> {
        let total = self.arena.total();
        let spread = |tenant: &Tenant| {
            let all = self.queue.capacity.is_some_and(|pages| total.live + pages <= self.most.capacity);
            all || self.queue.quotas.get(tenant).is_some_and(|pages| self.arena.held(tenant).live + pages <= self.most.quota)
        };
        if !self.queue.is_short() {
            return None;
        }
        for (segment, live) in self.arena.sparse(spread) {
            let keys = self.segments.get(&segment).into_iter().flatten();
            let records = keys.filter_map(|key| Some((*key, self.records.get(key)?)));
            let sizes: Option<Vec<(u64, u64)>> =
                records.map(|(key, record)| record.movable().then_some((key, pages(record.size)))).collect();
            // All of it can go, or nothing is won.
            let Some(sizes) = sizes.filter(|sizes| sizes.iter().map(|(_, pages)| pages).sum::<u64>() == live) else { continue };
            for (key, pages) in sizes {
                if let Some(to) = self.arena.take_in_fuller(segment, pages, self.most.quota) {
                    self.change(key, |record| record.busy = true);
                    let Some(from) = self.records.get(&key).and_then(|record| record.sealed()).cloned() else {
                        self.give_back(to, after);
                        return None;
                    };
                    return Some(Work::Move { key, from, to });
                }
            }
        }
        None
    }

    /// The file is deleted.
    pub(crate) fn deleted(&mut self, file: u64) {
        if let Some(disk) = &mut self.disk {
            disk.gone(file);
        }
    }

    /// The file is written, or is not. What nobody reads is on disk alone then.
    pub(crate) fn written(&mut self, file: u64, parts: Vec<(u64, Arc<Sealed>)>, done: bool, after: &mut After) {
        let mut offset = 0;
        for (key, sealed) in parts {
            let part = Part { file, offset };
            offset += sealed.length as u64;
            drop(sealed);
            let Some(record) = self.records.get(&key) else { continue };
            let (kept, unread) = (done && !(record.deleted && record.pins == 0), record.pins == 0);
            if kept && let Some(file) = self.disk.as_mut().and_then(|disk| disk.files.get_mut(&file)) {
                file.keys.insert(key);
            }
            self.change(key, |record| {
                record.busy = false;
                if let Place::Memory { copy, .. } = &mut record.place
                    && kept
                {
                    *copy = Some(part);
                }
            });
            if kept && unread {
                self.leave_memory(key, after);
            }
            self.drop_if_unused(key, after);
        }
        let Some(disk) = &mut self.disk else { return };
        if !done {
            disk.gone(file);
        } else if disk.files.get(&file).is_some_and(|file| file.keys.is_empty()) && !disk.garbage.contains(&file) {
            disk.garbage.push(file);
        }
    }

    /// An object came back from disk, pinned once for whoever brought it and once for each who waited; or it did not.
    pub(crate) fn restored(&mut self, key: u64, restored: Result<Sealed, (Room, Error)>, after: &mut After) -> Result<Arc<Sealed>, Error> {
        match restored {
            Err((room, error)) => {
                self.give_back(room, after);
                self.end_restore(key, &Outcome::Failed(error.clone()), after);
                Err(error)
            }
            Ok(sealed) => {
                let sealed = Arc::new(sealed);
                self.change(key, |record| {
                    record.place = Place::Memory { sealed: Arc::clone(&sealed), copy: record.part() };
                    record.pins = 1;
                });
                self.end_restore(key, &Outcome::Pinned(key, Arc::clone(&sealed)), after);
                Ok(sealed)
            }
        }
    }

    /// The object is in both places; it stays in the new one unless somebody reads it in the old one.
    pub(crate) fn moved(&mut self, key: u64, from: Arc<Sealed>, to: Sealed, after: &mut After) {
        drop(from);
        let mut left = Some(to);
        let mut freed = None;
        self.change(key, |record| {
            record.busy = false;
            if record.pins == 0
                && !record.deleted
                && let Place::Memory { sealed, .. } = &mut record.place
                && let Some(to) = left.take()
            {
                freed = Some(std::mem::replace(sealed, Arc::new(to)));
            }
        });
        if let Some(sealed) = freed {
            self.unshare(sealed, after);
        }
        if let Some(to) = left {
            self.give_back(to.room, after);
        }
        self.drop_if_unused(key, after);
    }
}
