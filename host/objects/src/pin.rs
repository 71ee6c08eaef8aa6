//! A reader's hold on a sealed object: while it lives, the bytes stay where they are and as they are.

use std::{fmt, ops::Deref, os::fd::BorrowedFd, sync::Arc};

use rwasm_types::ObjectId;

use crate::{
    arena::Room,
    store::Shared,
    sum::{self, Checksum, Sums},
};

/// What is known of a sealed object besides its bytes; it stays while they are on disk.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) type_hash: [u8; 32],
    pub(crate) refs: Box<[ObjectId]>,
    pub(crate) sums: Sums,
}

/// A sealed object in memory.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) room: Room,
    pub(crate) length: usize,
    pub(crate) meta: Arc<Meta>,
}

impl Sealed {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.room.extent.bytes().get(..self.length).unwrap_or_default()
    }
}

/// A sealed object that is held in memory: its bytes, and what a window maps. Clones are as cheap as those of an `Arc`.
///
/// The extent is not used for anything else while a pin lives, also if the object is deleted.
#[derive(Clone)]
pub struct Pin(Arc<Held>);

/// The order matters: the object is let go of before the store is told.
struct Held {
    sealed: Arc<Sealed>,
    hold: Hold,
}

/// Counted by the store until it is dropped.
struct Hold {
    shared: Arc<Shared>,
    key: u64,
    id: ObjectId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.unpin(self.key);
    }
}

/// The pages of an object in a file that can only be read: what a window maps, privately, with or without `PROT_WRITE`.
///
/// The file is a whole segment. Whoever has the descriptor can read all of it, so it may be given to processes that work for the object's
/// tenant alone; guests are given pages, and never a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    /// The memfd.
    pub file: BorrowedFd<'a>,
    /// Where the object begins, in bytes; a multiple of the page size.
    pub offset: u64,
    /// How many bytes the object has. The last page is the object's to its end, and zero after them; an empty object has one page, too.
    pub length: u64,
}

/// A part of an object on its way to another node.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Which one it is.
    pub index: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What they are checked with where they arrive.
    pub checksum: Checksum,
}

impl Pin {
    /// A pin that the store has counted.
    pub(crate) fn new(shared: Arc<Shared>, key: u64, id: ObjectId, sealed: Arc<Sealed>) -> Self {
        Self(Arc::new(Held { sealed, hold: Hold { shared, key, id } }))
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.0.hold.id
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.0.sealed.length as u64
    }

    /// The hash of its type's descriptor, as it was sealed with.
    pub fn type_hash(&self) -> [u8; 32] {
        self.0.sealed.meta.type_hash
    }

    /// The objects that its value refers to, in the order of its ref table.
    pub fn refs(&self) -> &[ObjectId] {
        &self.0.sealed.meta.refs
    }

    /// The BLAKE3 digest of its bytes. Computed when it is first asked for, at some gigabytes a second.
    pub fn checksum(&self) -> Checksum {
        self.0.sealed.meta.sums.whole(self)
    }

    /// Where it can be mapped from. The descriptor may be given to other processes: nobody can write through it.
    pub fn region(&self) -> Region<'_> {
        let extent = &self.0.sealed.room.extent;
        Region { file: extent.file(), offset: extent.offset() as u64, length: self.size() }
    }

    /// How many chunks it is sent in.
    pub fn chunks(&self) -> u64 {
        sum::chunks(self.size())
    }

    /// One of its chunks; `None` if it has not so many.
    pub fn chunk(&self, index: u64) -> Option<Chunk<'_>> {
        let (start, end) = sum::chunk_range(self.size(), index)?;
        let bytes = self.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
        Some(Chunk { index, bytes, checksum: self.0.sealed.meta.sums.chunk(index, self)? })
    }
}

impl Deref for Pin {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.sealed.bytes()
    }
}

impl AsRef<[u8]> for Pin {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("id", &self.id().to_string()).field("size", &self.size()).finish_non_exhaustive()
    }
}
