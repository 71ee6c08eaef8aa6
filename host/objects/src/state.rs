//! What a store knows, under its lock: which objects there are, where they are, who holds them, what they take.
//!
//! ```text
//!           seal           write, no reader           restore
//! Creating ──────▶ Memory ──────────────────▶ Disk ───────────▶ Memory, with its copy on disk
//!    │ dropped        │ deleted, and the last reader is gone
//!    ▼                ▼
//!  nothing is left
//! ```
//!
//! Nothing here waits, does IO or unmaps: what is to be done after the lock is let go of is put into [`After`]. Who waits for room is in
//! `queue`, what goes to disk and comes back in `spill`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    task::Waker,
};

use rwasm_types::{ObjectId, Result, Tenant, api::Tally};

use crate::{
    arena::{Arena, Room, Short},
    error::{self, Fill},
    pin::{Meta, Sealed},
    queue::Queue,
    raw::{Extent, PAGE},
    spill::{Disk, Part},
    view::{ObjectInfo, ObjectState, TenantUsage, Usage},
};

/// The most objects of a node, those on disk included: what bounds the memory for its books.
pub(crate) const OBJECTS_MAX: usize = 4_000_000;

/// What is done when the lock is let go of.
#[derive(Default)]
pub(crate) struct After {
    /// Memory to be unmapped.
    pub(crate) trash: Vec<Extent>,
    /// Who got what they waited for.
    pub(crate) wakes: Vec<Waker>,
    /// The same for those that wait as threads.
    pub(crate) settled: bool,
}

/// An object and where it is.
pub(crate) struct Record {
    pub(crate) id: ObjectId,
    pub(crate) tenant: Tenant,
    pub(crate) size: u64,
    pub(crate) place: Place,
    /// It has no name any more, and goes with its last reader.
    pub(crate) deleted: bool,
    /// Readers that hold it.
    pub(crate) pins: u64,
    /// Its bytes are being copied, to disk or to another place in memory.
    pub(crate) busy: bool,
    /// Somebody brings it back from disk.
    pub(crate) restoring: Option<Restoring>,
    /// Its place among those that may be moved away.
    age: Option<u64>,
}

pub(crate) enum Place {
    /// With its writer.
    Creating,
    Memory {
        sealed: Arc<Sealed>,
        copy: Option<Part>,
    },
    Disk {
        meta: Arc<Meta>,
        part: Part,
    },
}

/// Who brings an object back, and who waits for that.
#[derive(Default)]
pub(crate) struct Restoring {
    /// There is room for it, and somebody reads.
    pub(crate) reading: bool,
    /// Tickets of others that want the same object.
    pub(crate) watchers: Vec<u64>,
}

impl Record {
    fn new(id: ObjectId, tenant: Tenant, size: u64) -> Self {
        Self { id, tenant, size, place: Place::Creating, deleted: false, pins: 0, busy: false, restoring: None, age: None }
    }

    fn state(&self) -> ObjectState {
        match &self.place {
            Place::Creating => ObjectState::Creating,
            Place::Memory { .. } if self.pins > 0 => ObjectState::Pinned,
            Place::Memory { .. } => ObjectState::Sealed,
            Place::Disk { .. } => ObjectState::Spilled,
        }
    }

    /// What it takes where it is.
    fn bytes(&self) -> u64 {
        if matches!(self.place, Place::Disk { .. }) { self.size } else { pages(self.size) * PAGE as u64 }
    }

    /// Whether its bytes may be moved away: nobody reads them.
    pub(crate) fn movable(&self) -> bool {
        matches!(self.place, Place::Memory { .. }) && self.pins == 0 && !self.busy && !self.deleted
    }

    pub(crate) fn meta(&self) -> Option<&Arc<Meta>> {
        match &self.place {
            Place::Creating => None,
            Place::Memory { sealed, .. } => Some(&sealed.meta),
            Place::Disk { meta, .. } => Some(meta),
        }
    }

    pub(crate) fn sealed(&self) -> Option<&Arc<Sealed>> {
        if let Place::Memory { sealed, .. } = &self.place { Some(sealed) } else { None }
    }

    pub(crate) fn part(&self) -> Option<Part> {
        match &self.place {
            Place::Creating => None,
            Place::Memory { copy, .. } => *copy,
            Place::Disk { part, .. } => Some(*part),
        }
    }
}

/// The pages of an object; an empty one has one, so that it has a place, too.
pub(crate) fn pages(size: u64) -> u64 {
    size.div_ceil(PAGE as u64).max(1)
}

/// Objects of a tenant that may be moved away, by how long nobody has read them.
#[derive(Default)]
pub(crate) struct Unread {
    /// They are on disk, too: letting go of them costs nothing.
    pub(crate) copied: BTreeMap<u64, u64>,
    pub(crate) others: BTreeMap<u64, u64>,
}

/// In pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    pub(crate) capacity: u64,
    pub(crate) quota: u64,
}

pub(crate) struct State {
    pub(crate) arena: Arena,
    pub(crate) most: Most,
    pub(crate) records: HashMap<u64, Record>,
    /// Sealed objects that were not deleted.
    pub(crate) names: BTreeMap<ObjectId, u64>,
    pub(crate) unread: BTreeMap<Tenant, Unread>,
    /// The objects in each segment.
    pub(crate) segments: HashMap<u64, BTreeSet<u64>>,
    pub(crate) queue: Queue,
    pub(crate) disk: Option<Disk>,
    /// Memory came back, so somebody's turn may have come.
    pub(crate) freed: bool,
    next_key: u64,
    next_age: u64,
    books: BTreeMap<Tenant, TenantUsage>,
    totals: TenantUsage,
}

impl State {
    /// A store without objects.
    pub(crate) fn new(arena: Arena, most: Most, disk: Option<Disk>) -> Self {
        Self {
            arena,
            most,
            records: HashMap::new(),
            names: BTreeMap::new(),
            unread: BTreeMap::new(),
            segments: HashMap::new(),
            queue: Queue::default(),
            disk,
            freed: false,
            next_key: 0,
            next_age: 0,
            books: BTreeMap::new(),
            totals: TenantUsage::default(),
        }
    }

    /// Whether an object of that size can ever be here, and is not yet.
    pub(crate) fn admits(&self, id: ObjectId, size: u64) -> Result<()> {
        if self.names.contains_key(&id) {
            return Err(error::exists(id));
        }
        let most = self.most.capacity.min(self.most.quota);
        if pages(size) > most { Err(error::too_large(size, most * PAGE as u64)) } else { Ok(()) }
    }

    /// Room for an object, if there is some now.
    pub(crate) fn take(&mut self, tenant: &Tenant, size: u64, after: &mut After) -> Result<Room, Short> {
        self.arena.take(tenant, pages(size), self.most.quota, &mut after.trash)
    }

    pub(crate) fn give_back(&mut self, room: Room, after: &mut After) {
        self.arena.give_back(room, &mut after.trash);
        self.freed = true;
    }

    /// The error of a lack of room.
    pub(crate) fn lack(&self, tenant: &Tenant, size: u64, short: Short) -> rwasm_types::Error {
        match short {
            Short::Capacity => error::full(size, self.fill()),
            Short::Quota => error::quota(tenant, size, self.fill_of(tenant)),
            Short::Kernel(errno) => error::kernel(errno),
        }
    }

    /// The key of a new object that its writer has.
    pub(crate) fn begin(&mut self, tenant: &Tenant, id: ObjectId, size: u64) -> u64 {
        self.next_key += 1;
        self.put(self.next_key, Record::new(id, tenant.clone(), size));
        self.next_key
    }

    /// Makes a sealed object of what a writer wrote, pinned once. It comes back if another writer was first.
    pub(crate) fn seal(&mut self, key: u64, id: ObjectId, sealed: Sealed) -> Result<Arc<Sealed>, Sealed> {
        if self.names.contains_key(&id) {
            return Err(sealed);
        }
        let sealed = Arc::new(sealed);
        self.names.insert(id, key);
        self.change(key, |record| {
            record.place = Place::Memory { sealed: Arc::clone(&sealed), copy: None };
            record.pins = 1;
        });
        Ok(sealed)
    }

    /// Forgets an object that was not sealed.
    pub(crate) fn abandon(&mut self, key: u64, room: Room, after: &mut After) {
        self.remove(key);
        self.give_back(room, after);
    }

    /// The key and record of a tenant's object.
    pub(crate) fn find(&self, tenant: &Tenant, id: ObjectId) -> Result<(u64, &Record)> {
        let found = self.names.get(&id).and_then(|key| Some((*key, self.records.get(key)?)));
        found.filter(|(_, record)| record.tenant == *tenant).ok_or_else(|| error::absent(id))
    }

    /// One more reader of an object that is in memory.
    pub(crate) fn pin(&mut self, key: u64) -> Option<Arc<Sealed>> {
        let sealed = Arc::clone(self.records.get(&key)?.sealed()?);
        self.change(key, |record| record.pins += 1);
        Some(sealed)
    }

    /// One reader less.
    pub(crate) fn unpin(&mut self, key: u64, after: &mut After) {
        self.change(key, |record| record.pins = record.pins.saturating_sub(1));
        self.drop_if_unused(key, after);
    }

    /// Takes an object's name; the rest goes with its last reader.
    pub(crate) fn delete(&mut self, id: ObjectId, after: &mut After) -> bool {
        let Some(key) = self.names.remove(&id) else { return false };
        self.change(key, |record| record.deleted = true);
        self.drop_if_unused(key, after);
        true
    }

    /// Lets go of what a deleted object takes, if nobody reads or copies it.
    pub(crate) fn drop_if_unused(&mut self, key: u64, after: &mut After) {
        let unused = |record: &Record| record.deleted && record.pins == 0 && !record.busy && record.restoring.is_none();
        if !self.records.get(&key).is_some_and(unused) {
            return;
        }
        let Some(record) = self.remove(key) else { return };
        if let (Some(part), Some(disk)) = (record.part(), &mut self.disk) {
            disk.leave(part, key);
        }
        if let Place::Memory { sealed, .. } = record.place {
            self.unshare(sealed, after);
        }
    }

    /// Takes back the memory of an object that nobody reads. Pins let go of the object before they are counted out, so nobody else has it.
    pub(crate) fn unshare(&mut self, sealed: Arc<Sealed>, after: &mut After) {
        if let Some(sealed) = Arc::into_inner(sealed) {
            self.give_back(sealed.room, after);
        }
    }

    /// The objects after that id, in the order of their ids, of one tenant or of all; at most `max`.
    pub(crate) fn list(&self, tenant: Option<&Tenant>, after: Option<ObjectId>, max: usize) -> Vec<ObjectInfo> {
        use std::ops::Bound::{Excluded, Unbounded};
        let names = self.names.range((after.map_or(Unbounded, Excluded), Unbounded));
        let records = names.filter_map(|(_, key)| self.records.get(key));
        records.filter(|record| tenant.is_none_or(|tenant| record.tenant == *tenant)).filter_map(info).take(max).collect()
    }

    pub(crate) fn usage(&self) -> Usage {
        let mut tenants = self.books.clone();
        for (tenant, held) in self.arena.tenants() {
            tenants.entry(tenant.clone()).or_default().held_bytes = held.touched * PAGE as u64;
        }
        Usage {
            capacity_bytes: self.most.capacity * PAGE as u64,
            held_bytes: self.arena.total().touched * PAGE as u64,
            used_bytes: self.totals.memory_bytes(),
            pinned_bytes: self.totals.pinned.bytes,
            segments: self.arena.segments() as u64,
            disk_bytes: self.disk.as_ref().map_or(0, Disk::used_bytes),
            disk_most_bytes: self.disk.as_ref().map_or(0, Disk::most_bytes),
            waiting: self.queue.waiting() as u64,
            tenants,
        }
    }

    /// How many tenants have objects here.
    pub(crate) fn tenants(&self) -> usize {
        self.books.len()
    }

    fn fill(&self) -> Fill {
        let pinned_bytes = self.totals.pinned.bytes;
        Fill { capacity_bytes: self.most.capacity * PAGE as u64, used_bytes: self.totals.memory_bytes(), pinned_bytes }
    }

    fn fill_of(&self, tenant: &Tenant) -> Fill {
        let usage = self.books.get(tenant).copied().unwrap_or_default();
        Fill { capacity_bytes: self.most.quota * PAGE as u64, used_bytes: usage.memory_bytes(), pinned_bytes: usage.pinned.bytes }
    }

    /// Changes a record, and all books with it.
    pub(crate) fn change(&mut self, key: u64, change: impl FnOnce(&mut Record)) {
        if let Some(mut record) = self.remove(key) {
            change(&mut record);
            self.put(key, record);
        }
    }

    fn put(&mut self, key: u64, mut record: Record) {
        self.count(&record, true);
        if let Some(sealed) = record.sealed() {
            self.segments.entry(sealed.room.segment).or_default().insert(key);
        }
        if record.movable() {
            let age = record.age.unwrap_or_else(|| {
                self.next_age += 1;
                self.next_age
            });
            record.age = Some(age);
            let unread = self.unread.entry(record.tenant.clone()).or_default();
            if record.part().is_some() { &mut unread.copied } else { &mut unread.others }.insert(age, key);
        } else {
            record.age = None;
        }
        self.records.insert(key, record);
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<Record> {
        let record = self.records.remove(&key)?;
        self.count(&record, false);
        if let Some(segment) = record.sealed().map(|sealed| sealed.room.segment)
            && let Some(keys) = self.segments.get_mut(&segment)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.segments.remove(&segment);
            }
        }
        if let Some(age) = record.age
            && let Some(unread) = self.unread.get_mut(&record.tenant)
        {
            unread.copied.remove(&age);
            unread.others.remove(&age);
            if unread.copied.is_empty() && unread.others.is_empty() {
                self.unread.remove(&record.tenant);
            }
        }
        Some(record)
    }

    fn count(&mut self, record: &Record, there: bool) {
        let add = |tally: &mut Tally| {
            let (objects, bytes) = (1, record.bytes());
            *tally = if there {
                Tally { objects: tally.objects + objects, bytes: tally.bytes + bytes }
            } else {
                Tally { objects: tally.objects - objects, bytes: tally.bytes - bytes }
            };
        };
        add(self.totals.tally(record.state()));
        let usage = self.books.entry(record.tenant.clone()).or_default();
        add(usage.tally(record.state()));
        if *usage == TenantUsage::default() {
            self.books.remove(&record.tenant);
        }
    }
}

/// What is shown of a sealed object.
pub(crate) fn info(record: &Record) -> Option<ObjectInfo> {
    let meta = record.meta()?;
    Some(ObjectInfo {
        id: record.id,
        tenant: record.tenant.clone(),
        size: record.size,
        state: record.state(),
        type_hash: meta.type_hash,
        refs: meta.refs.clone(),
        checksum: meta.sums.known_whole(),
    })
}
