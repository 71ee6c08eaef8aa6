//! An object on its way in from another node: chunks come in any order, from one sender or from several, and the sum is checked at the end.
//!
//! A receiver that is kept while its connection is made anew goes on with what is missing.

use std::fmt;

use rwasm_types::{ObjectId, Result};

use crate::{
    error,
    pin::{Chunk, Meta, Pin},
    sum::{self, Checksum, Sums},
    writer::Writer,
};

/// What becomes an object when all of its chunks are there. Dropped before that, it leaves nothing.
pub struct Receiver {
    writer: Writer,
    sums: Vec<Option<Checksum>>,
    missing: u64,
}

impl Receiver {
    /// Receives into the room of a new object of the size that its sender tells.
    pub fn new(mut writer: Writer) -> Self {
        let missing = sum::chunks(writer.size());
        writer.arrives();
        let sums = (0..missing).map(|_| None).collect();
        Self { writer, sums, missing }
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.writer.id()
    }

    /// How many chunks are missing.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Whether a chunk is missing.
    pub fn is_missing(&self, index: u64) -> bool {
        usize::try_from(index).is_ok_and(|index| matches!(self.sums.get(index), Some(None)))
    }

    /// The first chunk at or after this one that is missing.
    pub fn next_missing(&self, from: u64) -> Option<u64> {
        let from = usize::try_from(from).ok()?;
        let after = self.sums.get(from..)?.iter().position(Option::is_none)?;
        u64::try_from(from + after).ok()
    }

    /// Takes a chunk; one that is there already is passed over. Whether it is the last that was missing.
    ///
    /// # Errors
    ///
    /// [`Code::OBJECT_DAMAGED`](rwasm_types::Code::OBJECT_DAMAGED) if its bytes do not fit its checksum or it is not as long as a chunk of
    /// that number is. It is missing still.
    pub fn take(&mut self, index: u64, bytes: &[u8], checksum: Checksum) -> Result<bool> {
        let (id, size) = (self.writer.id(), self.writer.size());
        let damaged = || error::damaged(id).with("chunk", index);
        let (start, end) = sum::chunk_range(size, index).ok_or_else(damaged)?;
        let slot = usize::try_from(index).ok().and_then(|index| self.sums.get_mut(index)).ok_or_else(damaged)?;
        if slot.is_some() {
            return Ok(self.missing == 0);
        }
        if bytes.len() as u64 != end - start || sum::of_chunk(size, index, bytes) != checksum {
            return Err(damaged());
        }
        self.writer.write_at(start, bytes).ok_or_else(damaged)?;
        *slot = Some(checksum);
        self.missing -= 1;
        Ok(self.missing == 0)
    }

    /// A chunk that came, for whoever receives the object from here; `None` while it is missing.
    pub fn chunk(&self, index: u64) -> Option<Chunk<'_>> {
        let checksum = self.sums.get(usize::try_from(index).ok()?).copied().flatten()?;
        let (start, end) = sum::chunk_range(self.writer.size(), index)?;
        Some(Chunk { index, bytes: self.writer.read(start, end)?, checksum })
    }

    /// Seals the object, if all chunks are there and are those of this checksum.
    ///
    /// # Errors
    ///
    /// [`Code::OBJECT_UNFINISHED`](rwasm_types::Code::OBJECT_UNFINISHED) if chunks are missing,
    /// [`Code::OBJECT_DAMAGED`](rwasm_types::Code::OBJECT_DAMAGED) if together they are not the object,
    /// [`Code::OBJECT_EXISTS`](rwasm_types::Code::OBJECT_EXISTS) if it came another way meanwhile. Nothing is left of it then.
    pub fn seal(self, checksum: Checksum, type_hash: [u8; 32], refs: Vec<ObjectId>) -> Result<Pin> {
        let (id, size) = (self.writer.id(), self.writer.size());
        let Some(sums) = self.sums.into_iter().collect::<Option<Vec<Checksum>>>() else {
            return Err(error::unfinished(id, size.saturating_sub(self.missing * sum::CHUNK_BYTES), size));
        };
        if sum::of_chunks(size, &sums) != Some(checksum) {
            return Err(error::damaged(id));
        }
        self.writer.seal_with(Meta { type_hash, refs: refs.into(), sums: Sums::known(size, checksum, sums) })
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("id", &self.id().to_string()).field("missing", &self.missing).finish_non_exhaustive()
    }
}
