//! What a store knows, under its lock: which objects there are, who holds them, what they take.
//!
//! Nothing here waits, does IO or unmaps: what is to be done after the lock is let go of is put into [`After`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rwasm_types::{ObjectId, Result, Tenant};

use crate::{
    arena::{Arena, Room, Short},
    error::{self, Fill},
    pin::{Meta, Sealed},
    raw::{Extent, PAGE},
    view::{ObjectInfo, ObjectState, Tally, TenantUsage, Usage},
};

/// The most objects of a node, those on disk included: what bounds the memory for its books.
pub(crate) const OBJECTS_MAX: usize = 4_000_000;

/// What is done when the lock is let go of.
#[derive(Default)]
pub(crate) struct After {
    /// Memory to be unmapped.
    pub(crate) trash: Vec<Extent>,
}

/// An object and where it is.
pub(crate) struct Record {
    pub(crate) id: ObjectId,
    pub(crate) tenant: Tenant,
    pub(crate) size: u64,
    /// It has no name any more, and goes with its last reader.
    pub(crate) deleted: bool,
    /// Readers that hold it.
    pub(crate) pins: u64,
    pub(crate) place: Place,
}

pub(crate) enum Place {
    /// With its writer.
    Creating,
    Memory(Arc<Sealed>),
}

impl Record {
    fn state(&self) -> ObjectState {
        match &self.place {
            Place::Creating => ObjectState::Creating,
            Place::Memory(_) if self.pins > 0 => ObjectState::Pinned,
            Place::Memory(_) => ObjectState::Sealed,
        }
    }

    /// What it takes where it is.
    fn bytes(&self) -> u64 {
        pages(self.size) * PAGE as u64
    }

    pub(crate) fn meta(&self) -> Option<&Arc<Meta>> {
        match &self.place {
            Place::Creating => None,
            Place::Memory(sealed) => Some(&sealed.meta),
        }
    }
}

/// The pages of an object; an empty one has one, so that it has a place, too.
pub(crate) fn pages(size: u64) -> u64 {
    size.div_ceil(PAGE as u64).max(1)
}

pub(crate) struct State {
    pub(crate) arena: Arena,
    /// In pages.
    capacity: u64,
    quota: u64,
    records: HashMap<u64, Record>,
    /// Sealed objects that were not deleted.
    names: BTreeMap<ObjectId, u64>,
    next_key: u64,
    books: BTreeMap<Tenant, TenantUsage>,
    totals: TenantUsage,
}

impl State {
    /// A store without objects; `capacity` and `quota` are in pages.
    pub(crate) fn new(arena: Arena, capacity: u64, quota: u64) -> Self {
        Self {
            arena,
            capacity,
            quota,
            records: HashMap::new(),
            names: BTreeMap::new(),
            next_key: 0,
            books: BTreeMap::new(),
            totals: TenantUsage::default(),
        }
    }

    /// Whether an object of that size can ever be here, and is not yet.
    pub(crate) fn admits(&self, id: ObjectId, size: u64) -> Result<()> {
        if self.names.contains_key(&id) {
            return Err(error::exists(id));
        }
        let most = self.capacity.min(self.quota);
        if pages(size) > most { Err(error::too_large(size, most * PAGE as u64)) } else { Ok(()) }
    }

    /// Room for an object, and the key of its record.
    pub(crate) fn create(&mut self, tenant: &Tenant, id: ObjectId, size: u64, after: &mut After) -> Result<(u64, Room)> {
        self.admits(id, size)?;
        if self.records.len() >= OBJECTS_MAX {
            return Err(error::full(size, self.fill()));
        }
        let room = self.arena.take(tenant, pages(size), self.quota, &mut after.trash).map_err(|short| match short {
            Short::Capacity => error::full(size, self.fill()),
            Short::Quota => error::quota(tenant, size, self.fill_of(tenant)),
            Short::Kernel(errno) => error::kernel(errno),
        })?;
        let record = Record { id, tenant: tenant.clone(), size, deleted: false, pins: 0, place: Place::Creating };
        Ok((self.insert(record), room))
    }

    /// Makes a sealed object of what a writer wrote, pinned once. It comes back if another writer was first.
    pub(crate) fn seal(&mut self, key: u64, id: ObjectId, sealed: Sealed) -> Result<Arc<Sealed>, Sealed> {
        if self.names.contains_key(&id) {
            return Err(sealed);
        }
        let sealed = Arc::new(sealed);
        self.names.insert(id, key);
        self.change(key, |record| {
            record.place = Place::Memory(Arc::clone(&sealed));
            record.pins = 1;
        });
        Ok(sealed)
    }

    /// Forgets an object that was not sealed.
    pub(crate) fn abandon(&mut self, key: u64, room: Room, after: &mut After) {
        self.remove(key);
        self.arena.give_back(room, &mut after.trash);
    }

    /// The key and record of a tenant's object.
    pub(crate) fn find(&self, tenant: &Tenant, id: ObjectId) -> Result<(u64, &Record)> {
        let found = self.names.get(&id).and_then(|key| Some((*key, self.records.get(key)?)));
        found.filter(|(_, record)| record.tenant == *tenant).ok_or_else(|| error::absent(id))
    }

    /// One more reader of an object that is in memory.
    pub(crate) fn pin(&mut self, key: u64) -> Option<Arc<Sealed>> {
        let Place::Memory(sealed) = &self.records.get(&key)?.place else { return None };
        let sealed = Arc::clone(sealed);
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

    fn drop_if_unused(&mut self, key: u64, after: &mut After) {
        if !self.records.get(&key).is_some_and(|record| record.deleted && record.pins == 0) {
            return;
        }
        let place = self.remove(key).map(|record| record.place);
        if let Some(Place::Memory(sealed)) = place
            // Nobody else has it: pins let go of the object before they are counted out.
            && let Some(sealed) = Arc::into_inner(sealed)
        {
            self.arena.give_back(sealed.room, &mut after.trash);
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
            capacity_bytes: self.capacity * PAGE as u64,
            held_bytes: self.arena.total().touched * PAGE as u64,
            used_bytes: self.totals.memory_bytes(),
            segments: self.arena.segments() as u64,
            tenants,
        }
    }

    fn fill(&self) -> Fill {
        let pinned_bytes = self.totals.pinned.bytes;
        Fill { capacity_bytes: self.capacity * PAGE as u64, used_bytes: self.totals.memory_bytes(), pinned_bytes }
    }

    fn fill_of(&self, tenant: &Tenant) -> Fill {
        let usage = self.books.get(tenant).copied().unwrap_or_default();
        Fill { capacity_bytes: self.quota * PAGE as u64, used_bytes: usage.memory_bytes(), pinned_bytes: usage.pinned.bytes }
    }

    fn insert(&mut self, record: Record) -> u64 {
        self.next_key += 1;
        self.count(&record, true);
        self.records.insert(self.next_key, record);
        self.next_key
    }

    fn remove(&mut self, key: u64) -> Option<Record> {
        let record = self.records.remove(&key)?;
        self.count(&record, false);
        Some(record)
    }

    /// Changes a record, and the books with it.
    fn change(&mut self, key: u64, change: impl FnOnce(&mut Record)) {
        if let Some(mut record) = self.remove(key) {
            change(&mut record);
            self.count(&record, true);
            self.records.insert(key, record);
        }
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
