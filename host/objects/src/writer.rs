//! An object before it is sealed: one producer writes it, and nobody else can see it.

use std::{fmt, sync::Arc};

use rwasm_types::{ObjectId, Result, Tenant};

use crate::{
    arena::Room,
    error,
    pin::{Meta, Pin, Sealed},
    store::Shared,
    sum::Sums,
};

/// An object that is being written. Dropped before it is sealed, it leaves nothing.
pub struct Writer {
    shared: Arc<Shared>,
    key: u64,
    id: ObjectId,
    tenant: Tenant,
    size: usize,
    /// All before this is what the producer wrote, or zero where it asked for the bytes.
    written: usize,
    /// Here until the object is sealed.
    room: Option<Room>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, key: u64, id: ObjectId, tenant: Tenant, size: usize, room: Room) -> Self {
        Self { shared, key, id, tenant, size, written: 0, room: Some(room) }
    }

    /// The id that it will have.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Whose it is.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// How many bytes it will have.
    pub fn size(&self) -> u64 {
        self.size as u64
    }

    /// How many of them were written.
    pub fn written(&self) -> u64 {
        self.written as u64
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    ///
    /// [`Code::OBJECT_UNFINISHED`](rwasm_types::Code::OBJECT_UNFINISHED) if they are more than are left; nothing is written then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.written.saturating_add(bytes.len());
        let (id, size, start) = (self.id, self.size, self.written);
        match self.bytes().get_mut(start..end) {
            None => Err(error::unfinished(id, end as u64, size as u64)),
            Some(place) => {
                place.copy_from_slice(bytes);
                self.written = end;
                Ok(())
            }
        }
    }

    /// All bytes of the object, to be written in any order. What was not written is zero, and counts as written from here on.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.clear(self.written, self.size);
        self.written = self.size;
        self.bytes()
    }

    /// Seals the object: it has its id, its type and the objects that its value refers to, and never changes again.
    ///
    /// # Errors
    ///
    /// [`Code::OBJECT_UNFINISHED`](rwasm_types::Code::OBJECT_UNFINISHED) if fewer bytes were written than it has,
    /// [`Code::OBJECT_EXISTS`](rwasm_types::Code::OBJECT_EXISTS) if another producer sealed the same id before. Nothing is left of it then.
    pub fn seal(self, type_hash: [u8; 32], refs: Vec<ObjectId>) -> Result<Pin> {
        let sums = Sums::new(self.size());
        self.seal_with(Meta { type_hash, refs: refs.into(), sums })
    }

    /// The same, of an object whose checksums are known.
    pub(crate) fn seal_with(mut self, meta: Meta) -> Result<Pin> {
        if self.written < self.size {
            return Err(error::unfinished(self.id, self.written(), self.size()));
        }
        self.clear(self.size, usize::MAX);
        match self.room.take() {
            Some(room) => Shared::seal(&self.shared, self.key, self.id, Sealed { room, length: self.size, meta: Arc::new(meta) }),
            None => Err(error::unfinished(self.id, 0, self.size())),
        }
    }

    /// Whoever writes by place counts by itself what is there.
    pub(crate) fn arrives(&mut self) {
        self.written = self.size;
    }

    /// Writes bytes at a place; `None` if they do not fit.
    pub(crate) fn write_at(&mut self, start: u64, bytes: &[u8]) -> Option<()> {
        let start = usize::try_from(start).ok()?;
        let place = self.bytes().get_mut(start..start.checked_add(bytes.len())?)?;
        place.copy_from_slice(bytes);
        Some(())
    }

    /// What was written between two places; what was not is zero, or an earlier object's.
    pub(crate) fn read(&self, start: u64, end: u64) -> Option<&[u8]> {
        let room = self.room.as_ref()?;
        room.extent.bytes().get(..self.size)?.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    fn bytes(&mut self) -> &mut [u8] {
        self.room.as_mut().and_then(|room| room.extent.bytes_mut().get_mut(..self.size)).unwrap_or_default()
    }

    /// Makes zero of what an earlier object may have left between these places.
    fn clear(&mut self, start: usize, end: usize) {
        let Some(room) = &mut self.room else { return };
        if let Some(old) = room.extent.bytes_mut().get_mut(start..end.min(room.dirty)) {
            old.fill(0);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.shared.abandon(self.key, room);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("id", &self.id.to_string())
            .field("size", &self.size)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}
